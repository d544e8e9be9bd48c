"""Pictures to aligned faces, in the position that generators were trained on: upright, centred, square, as in FFHQ.

usage: lsap-jax align IMAGES ... --out DIR [--resolution 1024] [--face clear|largest|only|all]

IMAGES are as for `lsap-jax invert`, which takes DIR afterwards; `lsap-jax invert --align` does both in one go. MTCNN
finds the faces. DIR gets ID.png per picture, and with --face=all ID_0.png, ID_1.png, … for its faces from left to
right. alignment.jsonl records what was cut out, with remarks; failures.jsonl records which pictures were refused and
why: no face, several faces, or one that is too small, cut off or seen from the side. With --face=all such faces are
left out, with a note beside the others. Faces that lie on their sides or are upside down are cut out upright. Run the
same command again to finish what was interrupted; to redo a picture, delete its PNG first. --shard and --engine are as
for `lsap-jax invert`; the cutting out is always done by the process that runs the command.

Exit status: 0 all done, 1 some images failed, 2 unusable arguments, 130 after Ctrl-C, 143 after SIGTERM.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, choice, new_flags, number, real, switch, text
from lsap_jax.cli.computing import beside_done, choose_engine, choose_shard, computed, engine_flags

if TYPE_CHECKING:
    from lsap_jax.runs.work import Summary

DECIDING = ("resolution", "face", "enlarge", "profiles", "min_face")  # what a resumed command must share


def flags() -> FlagValues:
    values = new_flags()
    text(values, "out", "folder for the aligned pictures")
    number(values, "resolution", "side of the aligned pictures in pixels", 1024, lower=1)
    choice(
        values,
        "face",
        ("clear", "largest", "only", "all"),
        "clear takes the largest face, and refuses if another is more than half as large; largest always takes it; "
        "only refuses if there is any other; all takes every face, as ID_0, ID_1, … from left to right",
        "clear",
    )
    real(values, "enlarge", "refuse faces that would have to be enlarged more than this many times", 4.0)
    switch(values, "profiles", "also take faces that are seen from the side")
    real(values, "min_face", "side of the smallest face to look for, in pixels after reduction to at most 1024", 20.0)
    text(values, "detector", "MTCNN weights that `lsap-jax convert` wrote (default: the bundled ones)")
    number(values, "batch_size", "pictures at a time (default: 8; 1 on a CPU)", lower=1)
    engine_flags(values)
    return values


def run(args: Arguments) -> int:
    args.no_config()
    args.some("images")
    out = Path(args.required("out"))
    from lsap_jax.cli.runs import opened
    from lsap_jax.faces.aligned_folder import aligned_ids
    from lsap_jax.faces.choose import ALL, check_options
    from lsap_jax.faces.detect import check_search, load_detector
    from lsap_jax.runs.align_faces import align_faces

    settings: dict[str, Any] = {name: args.flags[name].value for name in DECIDING}
    check_options("largest" if settings["face"] == ALL else settings["face"], settings["enlarge"])
    check_search(settings["min_face"])
    engine: dict[str, Any] = {**choose_engine(args), "shard": choose_shard(args)}
    detector = load_detector(args.flags.detector)
    source = opened(args, args.flags.resolution, 3)
    start = partial(align_faces, detector, source, settings, out, batch_size=args.flags.batch_size, **engine)
    return computed(start, out, len(source), line=outcome, finished=aligned_ids, last="the lists")


def outcome(summary: "Summary") -> str:
    """The outcome in one line."""
    from lsap_jax.faces.aligned_folder import aligned_records

    there = aligned_records(summary.out).values()
    of = f"{len(there)} faces of " if any("picture" in record for record in there) else ""
    return f"{of}{summary.done} pictures aligned in {summary.out}{beside_done(summary)}"
