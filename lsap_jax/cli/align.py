"""Pictures to faces in the position that generators were trained on: upright, centred, square, as in FFHQ.

usage: lsap-jax align IMAGES ... --out DIR [--resolution 1024] [--face clear|largest|only|all]

IMAGES are those of `lsap-jax invert`, which takes DIR afterwards; `lsap-jax invert --align` does both in one go. Faces
are found by MTCNN. DIR gets ID.png per picture, and with --face=all ID_0.png, ID_1.png, … for the faces of each from
left to right. alignment.jsonl says what was cut out and what is to be known about it, failures.jsonl which pictures
were refused and why: no face, several, too small, cut off, from the side; with --face=all, faces for which this is so
are left out, with a note beside the others. Faces that lie on their sides or upside down are cut out upright. Run the
same command again to finish an interrupted one; delete a PNG to have it done again. --shard and --engine are as of
`lsap-jax invert`; the process that runs the command cuts out.

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
        "clear takes the largest face and refuses where another is more than half as large; largest takes it whatever "
        "there is besides; only refuses where there is any other; all takes every face, as ID_0, ID_1, … from left to "
        "right",
        "clear",
    )
    real(values, "enlarge", "refuse faces that would have to be enlarged more times than this", 4.0)
    switch(values, "profiles", "take faces that are seen from the side too")
    real(values, "min_face", "side of the smallest face to look for, in pixels of a picture of at most 1024", 20.0)
    text(values, "detector", "MTCNN weights that `lsap-jax convert` wrote (default: those of the package)")
    number(values, "batch_size", "pictures at a time (default: 8, on a CPU 1)", lower=1)
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
