"""How good the edits of runs are: did the attribute change, did the others stay, is the image still natural.

usage: lsap-jax edit-quality RUN [RUN ...] --out DIR [--config edit_quality|edit_figure6|FILE] [--config.key=value ...]

RUN is a run folder, or a folder of `lsap-jax compare`, which stands for all of its runs. The codes of every image that
all runs have are moved along every direction by every strength, and every picture is measured: by the classifier of
attributes (the bundled generator has one; `lsap-jax train-attributes`), by the discriminator, by NSCD, with
--identity=dlib or =FILE by a face network, with --config.real=IMAGES by the distance from real images that have the
attribute (KID, and FID with --config.inception), and for encoders by e4e's latent editing consistency (LEC). DIR gets
quality.json, curves.csv, matched.csv (the measures where equally many edits have succeeded), differences.csv (with
--config.candidate=NAME --config.baseline=NAME) and report.html.

Run the same command again to finish what was interrupted. If you add or change runs, levels or pictures, measurements
are kept; with other strengths, directions, judges or common images, everything is measured again.

Exit status: 0 all done, 2 unusable arguments, 130 after Ctrl-C.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from absl.flags import FlagValues

from lsap_jax.cli import OK
from lsap_jax.cli.arguments import Arguments, configuration, new_flags, text
from lsap_jax.cli.progress import counter

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from lsap_jax.data import Source
    from lsap_jax.experiments.edit_quality.protocol import Run
    from lsap_jax.experiments.edit_quality.tables import Quality


def flags() -> FlagValues:
    values = new_flags()
    text(values, "out", "folder of the results")
    text(values, "config", "name or file of a configuration", "edit_quality")
    text(values, "attributes", "short for --config.attributes: a file of `lsap-jax train-attributes`")
    text(
        values,
        "identity",
        "short for --config.identity: dlib (bundled), or a face network that `lsap-jax convert` wrote",
    )
    text(values, "generator", "file of the generator, if it is not where run.json says")
    return values


def run(args: Arguments) -> int:
    args.some("runs")
    out = Path(args.required("out"))
    shorthands = {name: args.flags[name].value for name in ("attributes", "identity")}
    config = configuration(args, "edit_quality", shorthands, key="toggle")
    from lsap_jax.experiments.edit_quality.settings import check_settings
    from lsap_jax.experiments.edit_quality.tables import summary_text

    check_settings(config)
    print(summary_text(measured(args.positional, out, config, args.flags.generator)))
    print(f"report: {out / 'report.html'}")
    return OK


def measured(
    folders: Sequence[str],
    out: Path,
    config: "ConfigDict",
    generator: str | None = None,
    real: "Source | None" = None,
) -> "Quality":
    """Measures the edits of runs with progress, and writes tables and page.

    Args:
        folders: of runs, or of comparisons.
        config: checked (`check_settings`).
        generator: where it is, if not where run.json says.
        real: images that edits are compared with, if not those that the configuration names.
    """
    from lsap_jax.cli.runs import generator_of, with_shown_statistics
    from lsap_jax.experiments.edit_quality.folder import writing
    from lsap_jax.experiments.edit_quality.judges import choose_judges, unknown_to
    from lsap_jax.experiments.edit_quality.protocol import common_directions, measure_runs, open_runs
    from lsap_jax.experiments.edit_quality.settings import run_folders
    from lsap_jax.report.quality.write import write_quality

    runs = open_runs(
        run_folders(folders),
        lambda folder, record: with_shown_statistics(generator_of(folder, record, generator)),
    )
    if real is None and config.real:
        real = _opened(config, runs[0])
    judges, described = choose_judges(runs[0].G, config, partial(print, file=sys.stderr), real)
    directions = common_directions(runs, config.directions, counter)
    unknown = unknown_to(judges, [d.name for d in directions[runs[0].name]])
    if unknown and (config.toggle or judges.attributes is not None):
        meaning = ", and strengths are plain steps" if config.toggle else ""
        print(f"no classifier knows {', '.join(unknown)}: there is no success{meaning}", file=sys.stderr)
    with writing(out):
        measure_runs(out, runs, directions, judges, described, config.to_dict(), counter)
        return write_quality(out)


def _opened(config: "ConfigDict", run: "Run") -> "Source":
    """The real images that a configuration names, made as the targets of a run were."""
    from lsap_jax.cli.runs import aligned
    from lsap_jax.configuration import recorded
    from lsap_jax.data import open_images

    made = recorded(run.record["config"])
    source = open_images(list(config.real), resolution=run.G.img_resolution, channels=run.G.img_channels, fit=made.fit)
    return aligned(source, made.align)
