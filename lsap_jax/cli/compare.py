"""Several latent spaces on the same images, with tables, tests and pictures as in the papers.

usage: lsap-jax compare IMAGES ... --generator G --out DIR [--config NAME|FILE] [--presets z,f/z+]
                        [--count N] [--class K|FILE.csv]

IMAGES and G are as for `lsap-jax invert`. A preset is one of its spaces or configurations; e4e@FILE starts a preset
from the encoder in FILE. With --config.refine="('pti', 'hfgi')" these methods refine every run, too, into folders of
their own; the configuration two_stage takes every method there is. DIR gets a run folder per preset, comparison.csv
(means with 95 % intervals, seconds per image), per_image.csv, tests.csv (is one preset not inferior to another),
grid.png and report.html. The configurations lsap_claims, two_stage and all_methods add edits of all runs, in DIR/edits,
and combine reconstructions, edits and a verdict in methods.csv, methods.md, ranks.csv, frontier.svg, claim.csv and
weights.svg; all_methods leaves out, with a line, what has no file or networks. Run the same command again to finish an
interrupted comparison, or with more presets to extend it: nothing that is finished is computed again.

Exit status: 0 all done, 1 some images failed, 2 unusable arguments, 130 after Ctrl-C.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from lsap_jax.cli import INCOMPLETE, INTERRUPTED, OK
from lsap_jax.cli.arguments import Arguments, configuration, new_flags, number, text
from lsap_jax.cli.classes import EACH, chosen_classes, class_flag

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from lsap_jax.data import Source
    from lsap_jax.experiments.comparison.plan import Plan
    from lsap_jax.models.generator import Generator
    from lsap_jax.runs.classes import Labels


def flags() -> FlagValues:
    values = new_flags()
    text(values, "generator", "a bundled name, a converted file or an official checkpoint")
    text(values, "out", "folder of the comparison")
    text(values, "config", "name or file of a comparison's configuration", "compare")
    text(values, "presets", "short for --config.presets: names, spaces or files, separated by commas")
    number(values, "steps", "short for --config.steps; 0 leaves each preset its own")
    number(values, "count", "short for --config.count: how many images, from the first on; 0 is all")
    number(values, "batch_size", "short for --config.batch_size, over all devices")
    number(values, "seed", "short for --config.seed")
    text(values, "perceptual", "LPIPS weights that `lsap-jax convert` wrote, for every preset")
    text(values, "basecode", "base-code encoder to use instead of the generator's own, for every preset")
    class_flag(values, EACH.format("image"))
    text(values, "pnorm", "BDInvert's folder pnorm/NAME, to use instead of the generator's own statistics of P_N")
    return values


def run(args: Arguments) -> int:
    args.some("images")
    out, name = Path(args.required("out")), args.required("generator")
    config = choose_config(args)
    from lsap_jax.cli.runs import images_of
    from lsap_jax.experiments.claims.settings import check_claim, edits_config
    from lsap_jax.experiments.comparison.cells import that_fit, with_cells
    from lsap_jax.experiments.comparison.plan import check_plans, fill_batches, make_plans
    from lsap_jax.models.classes import no_class
    from lsap_jax.models.generator_file import load_generator
    from lsap_jax.runs.classes import used_for

    plans = with_cells(make_plans(config), config)
    check_claim(config, [plan.preset for plan in plans])
    edits = edits_config(config)
    G = load_generator(name)
    source = images_of(args, G, plans[0].config.fit, plans[0].config.align)
    real = source if config.real else None
    if 0 < config.count < len(source):
        source = source.select(range(config.count))
    fill_batches(plans, len(source))
    classes = chosen_classes(args, G, source.ids)
    if G.c_dim and classes is None:
        raise no_class(G.c_dim, "comparison")
    plans, without = check_plans(plans, used_for(G, classes), config.leave_out)
    plans, left_out = that_fit(plans, used_for(G, classes))
    for line in (*without, *left_out):
        print(line, file=sys.stderr)
    if not config.leave_out:
        check_claim(config, [plan.preset for plan in plans])
    return compare(G, source, config, plans, out, generator_name=name, classes=classes, edits=edits, real=real)


def choose_config(args: Arguments) -> "ConfigDict":
    """The configuration of `--config` with `--config.key=value` and shorthands."""
    shorthands: dict[str, Any] = {
        key: args.flags[key].value
        for key in ("steps", "count", "batch_size", "seed", "perceptual", "basecode", "pnorm")
    }
    if args.flags.presets is not None:
        shorthands["presets"] = tuple(part.strip() for part in args.flags.presets.split(",") if part.strip())
    return configuration(args, "compare", shorthands, key="presets")


def compare(
    G: "Generator",
    source: "Source",
    config: "ConfigDict",
    plans: "Sequence[Plan]",
    out: Path,
    *,
    generator_name: str,
    classes: "Labels | None" = None,
    edits: "ConfigDict | None" = None,
    real: "Source | None" = None,
) -> int:
    """Runs every preset with progress, and measures edits where `edits` configures them, compared with the images of
    `real`; writes tables and pages, prints the tables, and returns the exit status.
    """
    from lsap_jax.cli.computing import print_failures
    from lsap_jax.cli.edit_quality import measured
    from lsap_jax.cli.progress import reporter
    from lsap_jax.cli.runs import statistics_counter
    from lsap_jax.experiments.comparison.files import summary_text
    from lsap_jax.experiments.comparison.plan import EDITS
    from lsap_jax.experiments.comparison.runs import comparison_folder, describe, run_preset, write_record
    from lsap_jax.report.claims.write import write_claim
    from lsap_jax.report.comparison.write import write_comparison
    from lsap_jax.report.run_report import write_run_report

    failed, done = 0, 0
    try:
        record = describe(config, plans, source, G, generator_name)
        with comparison_folder(out, record):
            for done, plan in enumerate(plans):
                what = f"{len(source)} images {plan.told}"
                print(f"== {plan.preset} ({done + 1} of {len(plans)}): {what} ==", flush=True)
                with reporter() as progress:
                    summary = run_preset(
                        G,
                        source,
                        plan,
                        out,
                        generator_name=generator_name,
                        write_report=write_run_report,
                        evaluate=config.evaluate,
                        sets=config.sets,
                        progress=progress,
                        statistics=statistics_counter(),
                        classes=classes,
                    )
                if summary.done and summary.skipped == summary.done:
                    print("finished earlier", flush=True)
                if summary.failed:
                    print_failures(out / plan.folder)
                failed += summary.failed
            done = len(plans)
            write_record(out, record)
            comparison = write_comparison(out)
            quality = None
            if edits and comparison.common:
                quality = measured([str(out)], out / EDITS, edits, generator_name, real)
            told = write_claim(out, comparison, quality) if config.claim and comparison.common else ""
    except KeyboardInterrupt:
        print(
            f"interrupted: {done} of {len(plans)} presets are finished in {out}; run the same command again to go on, "
            "or with the --presets that are finished to see these",
            file=sys.stderr,
        )
        return INTERRUPTED
    print(summary_text(comparison))
    print(f"means over {len(comparison.common)} of {len(source)} images, * the best; seconds include compilation")
    if comparison.untested:
        print(comparison.untested, file=sys.stderr)
    print(told, end="")
    print(f"report: {out / 'report.html'}" + (f", edits: {out / EDITS / 'report.html'}" if quality else ""))
    return INCOMPLETE if failed else OK
