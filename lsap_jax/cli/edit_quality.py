"""How good the edits of runs are: did the attribute change, did the others stay, is the image still a natural one.

usage: lsap-jax edit-quality RUN [RUN ...] --out DIR [--config edit_quality|edit_figure6|FILE] [--config.key=value ...]

RUN is a run folder or a folder of `lsap-jax compare`, which stands for all of its runs. The codes of every image that
all runs have are moved along every direction by every strength, and every picture is measured: by the classifier of
attributes (the bundled generator has one; `lsap-jax train-attributes`), by the discriminator, by NSCD, and with
--identity=FILE by a face network. DIR gets quality.json, curves.csv, matched.csv (the measures where equally
many edits have succeeded), differences.csv (with --config.candidate=NAME --config.baseline=NAME) and report.html.

The same command again goes on where it was interrupted. What is measured is kept with more runs, other levels and other
pictures; other strengths, directions, judges or images that the runs have in common are measured anew.

Exit status: 0 all done, 2 unusable arguments, 130 after Ctrl-C.
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from lsap_jax.cli import OK
from lsap_jax.cli.arguments import Arguments, configuration, new_flags, text
from lsap_jax.cli.progress import counter
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from lsap_jax.experiments.edit_quality.quality import Judges
    from lsap_jax.models.generator import Generator

NONE = "none"
GREATEST = 3.4e38  # of 32 bits


def flags() -> FlagValues:
    values = new_flags()
    text(values, "out", "folder of the results")
    text(values, "config", "name or file of a configuration", "edit_quality")
    text(values, "attributes", "short for --config.attributes: a file of `lsap-jax train-attributes`")
    text(values, "identity", "short for --config.identity: a face network that `lsap-jax convert` wrote")
    text(values, "generator", "where the generator is, if not where run.json says")
    return values


def run(args: Arguments) -> int:
    args.some("runs")
    out = Path(args.required("out"))
    shorthands = {name: args.flags[name].value for name in ("attributes", "identity")}
    config = configuration(args, "edit_quality", shorthands, key="toggle")
    from lsap_jax.cli.runs import generator_of, with_shown_statistics
    from lsap_jax.editing.named import find
    from lsap_jax.experiments.edit_quality.folder import writing
    from lsap_jax.experiments.edit_quality.protocol import measure_runs, open_runs
    from lsap_jax.experiments.edit_quality.tables import summary_text
    from lsap_jax.models.generator import Generator
    from lsap_jax.report.quality.write import write_quality

    check(config)
    generators: dict[str, Generator] = {}  # runs of one generator share its weights

    def generator(folder: Path, record: dict[str, Any]) -> Generator:
        key = json.dumps([record.get("generator"), record.get("config", {}).get("init")], sort_keys=True)
        if key not in generators:
            generators[key] = with_shown_statistics(generator_of(folder, record, args.flags.generator))
        return generators[key]

    runs = open_runs(folders(args.positional), generator)
    judges, described = choose_judges(runs[0].G, config)
    directions = {
        one.name: [d for text in config.directions for d in find(one.G, one.space, text, counter(text))] for one in runs
    }
    names = {one.name: [d.name for d in directions[one.name]] for one in runs}
    if len({tuple(n) for n in names.values()}) > 1:
        raise LsapError(f"the directions of the runs differ ({names}); name such as all of their spaces have")
    unknown = unknown_to(judges, names[runs[0].name])
    if unknown and (config.toggle or judges.attributes is not None):
        meaning = ", and strengths are plain steps" if config.toggle else ""
        print(f"no classifier knows {', '.join(unknown)}: there is no success{meaning}", file=sys.stderr)
    with writing(out):
        measure_runs(out, runs, directions, judges, described, config.to_dict(), counter)
        quality = write_quality(out)
    print(summary_text(quality))
    print(f"report: {out / 'report.html'}")
    return OK


def check(config: "ConfigDict") -> None:
    """Raises LsapError where a setting is none that there is."""
    from lsap_jax.experiments.edit_quality.protocol import VARIANTS

    given = ",".join(config.variants)
    if unknown := [v for v in config.variants if v not in VARIANTS] or ([] if config.variants else [""]):
        raise LsapError(f"--config.variants={given}: {unknown[0]!r} is none of {', '.join(VARIANTS)}")
    if len(set(config.variants)) < len(config.variants):
        raise LsapError(f"--config.variants={given}: name each once")
    for name, least in (("batch_size", 1), ("shown", 0)):
        if config[name] < least:
            raise LsapError(f"--config.{name}={config[name]}: is {least} or more")
    if not all(0 < level < 1 for level in config.levels):
        raise LsapError(f"--config.levels={config.levels}: levels of success are between 0 and 1")
    strengths = list(config.strengths)
    finite = all(math.isfinite(s) and abs(s) <= GREATEST for s in strengths)
    if not finite or strengths != sorted(set(strengths)) or not strengths:
        raise LsapError(f"--config.strengths={strengths}: give finite numbers, the smallest first, each once")
    if config.toggle and strengths[0] < 0:
        raise LsapError(f"--config.strengths={strengths}: with toggle a strength is 0 or more, its sign is the image's")
    if bool(config.candidate) != bool(config.baseline):
        raise LsapError("--config.candidate and --config.baseline belong together; give both, or none")


def folders(given: Sequence[str]) -> list[tuple[str, Path]]:
    """(name, folder) of every run; a comparison gives its runs by the names of their presets.

    Raises:
        LsapError: a comparison that cannot be read.
    """
    from lsap_jax.experiments.comparison.runs import read_comparison

    found = []
    for one in map(Path, given):
        if (one / "comparison.json").is_file():
            found += [(p["preset"], one / p["folder"]) for p in read_comparison(one)["presets"]]
        else:
            found.append((one.resolve().name, one))
    return found


def choose_judges(G: "Generator", config: "ConfigDict") -> "tuple[Judges, dict[str, Any]]":
    """What edits are measured by, and what the results say of it.

    Raises:
        LsapError: a file that is none, or nothing but NSCD to measure by.
    """
    from dataclasses import asdict

    from lsap_jax.experiments.edit_quality.quality import Judges
    from lsap_jax.faces.detect import load_detector
    from lsap_jax.models.attributes import load_attributes
    from lsap_jax.models.embedder import ARCFACE, load_embedder

    attributes = None if config.attributes == NONE else load_attributes(config.attributes or None, G)
    embedder = load_embedder(config.identity) if config.identity else None
    aligned = embedder is not None and embedder.record.name == ARCFACE
    if aligned and config.detect:
        print("ArcFace takes the images as aligned: no face is looked for", file=sys.stderr)
    detector = load_detector() if embedder is not None and config.detect and not aligned else None
    described: dict[str, Any] = {
        "attributes": None
        if attributes is None
        else {
            "accuracy": attributes.accuracy,
            "sha256": attributes.provenance.get("sha256"),
            "binary": {name: one._asdict() for name, one in attributes.binary.items()},
        },
        "identity": None if embedder is None else asdict(embedder.record),
        "detector": None if detector is None else detector.sha256,
    }
    if attributes is None and embedder is None and G.discriminator is None:
        print("measured by NSCD alone: there is no classifier, face network or discriminator", file=sys.stderr)
    return Judges(attributes=attributes, embedder=embedder, detector=detector), described


def unknown_to(judges: "Judges", names: Sequence[str]) -> list[str]:
    """Directions without an attribute of the classifier: they have no success, and nothing to toggle."""
    return [name for name in names if judges.attributes is None or name not in judges.attributes.binary]
