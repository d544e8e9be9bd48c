"""Edit the codes of a run along directions, towards other images, or by their layers, and show the edits on a page.

usage: lsap-jax edit RUN --direction NAME|FILE|random:SEED --strengths=-3,-1.5,0,1.5,3 --out DIR
       lsap-jax edit RUN --interpolate A:B --points 9 --out DIR          from image A to image B (their ids)
       lsap-jax edit RUN --mix A:B --ranges coarse,middle,fine --out DIR  A with layers of B

A direction is a NAME that belongs to this generator (`lsap-jax find-directions`), a FILE of directions or one of them
as FILE:NAME, `ganspace:K`, `sefa:K`, `random:SEED` or `gradient:ATTRIBUTE`. For several directions, separate them by
commas or repeat --direction.
Strengths are steps along the direction; each puts z back onto its sphere. With --unit angle they are radians on the
great circle through z and the direction. Strength 0 is the run's own code and picture, byte for byte.

DIR gets images/ID/DIRECTION/STRENGTH.png, codes/ID/DIRECTION/STRENGTH.npz, strips/ID.png, targets/ID.png and
report.html. Run the same command again to finish an interrupted edit. --beside names the folder of another edit of the
same images, for example of a run in another space; the page then shows both.
Refined images can be edited only along directions: what refines one image does not fit the codes of another.

--animate writes a film of every image and direction, forwards and back: animations/ID/DIRECTION.webp; with
--animate=gif gifs/ID/DIRECTION.gif; with --animate=mp4, which needs the extra `video`, videos/ID/DIRECTION.mp4. It
moves evenly from the least strength to the greatest in --frames pictures, at --fps of them per second. The ranges of
--mix have nothing between them, so each stays for half a second.

For photographs of faces, --identity compares each edit with the reconstruction, by dlib's ResNet (bundled, 128
dimensions, CC0) or by a face network in a file. The page shows the result, and DIR/metrics.csv has it as
identity/DIRECTION/STRENGTH. Pictures without a face are counted and left out of the means.

--paste-back puts edited faces back into their photographs. For faces that `lsap-jax align` cut out, it names its
folder; for those that `invert --align` or `encode --align` did, RUN. DIR/pasted/ID/DIRECTION/STRENGTH.png is then the
photograph, at its own resolution, with the edited face fading in from the edge. Photographs are looked for where they
were aligned, relative paths from the current folder.

--masks limits edits to where FOLDER/ID.png is white: there the picture is the edited one, elsewhere the original
(RUN's target), pixel for pixel. From the mask's edge inwards, the edit fades in over --feather of the picture's side. A
mask is a grey square picture of any size, as for `lsap-jax refine`; images without one are edited as a whole. Strength
0 is still the run's own picture. DIR/masks/ID.png keeps the mask. With --paste-back, the photograph changes only where
the mask is.

--shard and --engine are as for `lsap-jax invert`.

Exit status: 0 all done, 1 some images failed, 2 unusable arguments, 130 after Ctrl-C, 143 after SIGTERM.
"""

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl.flags import FlagValues

from lsap_jax.cli.arguments import (
    Arguments,
    choice,
    choice_or_bare,
    new_flags,
    number,
    numbers,
    real,
    switch,
    text,
    texts,
)
from lsap_jax.cli.computing import beside_done, choose_engine, choose_shard, computed, engine_flags, take_over_threads
from lsap_jax.cli.progress import counter
from lsap_jax.cli.runs import identity_flag, weights_flag
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from lsap_jax.editing.series import Series
    from lsap_jax.models.generator import Generator
    from lsap_jax.runs.work import Summary
    from lsap_jax.spaces import Space
    from lsap_jax.storage.results import Record

EDIT_FILE = "edit.json"
STRENGTHS = "-3,-1.5,0,1.5,3"
POINTS = 9
OF_KIND = {
    "strengths": "direction",
    "unit": "direction",
    "layers": "direction",
    "absolute": "direction",
    "points": "interpolate",
    "ranges": "mix",
    "feather": "masks",
    "frames": "animate",
    "fps": "animate",
}


def flags() -> FlagValues:
    values = new_flags()
    text(values, "out", "folder of the edits")
    texts(
        values,
        "direction",
        "NAME, FILE, FILE:NAME, ganspace:K, sefa:K, random:SEED or gradient:NAME; or several, separated by commas",
    )
    text(values, "strengths", "numbers separated by commas", STRENGTHS)
    choice(values, "unit", ("step", "angle"), "what a strength is: a step, or in z spaces an angle in radians", "step")
    text(values, "layers", "coarse, middle, fine, rows such as 4-7, or all (default: each direction's own)")
    choice(values, "absolute", ("own", "first"), "take strengths as coordinates to reach (GANSpace; flat spaces)")
    texts(values, "interpolate", "A:B, ids of two images; may be repeated")
    number(values, "points", "pictures from A to B, both included", POINTS, lower=2)
    texts(values, "mix", "A:B, ids of two images; may be repeated")
    text(values, "ranges", "layers that A gets from B, one picture per range (default: the generator's named ranges)")
    text(values, "generator", "file of the generator, if it is not where run.json says")
    weights_flag(values)
    identity_flag(values)
    number(values, "batch_size", "pictures rendered at once, over all devices", 16, lower=1)
    text(values, "masks", "folder of masks, ID.png: limit edits to where they are white")
    real(values, "feather", "width over which edits fade in from a mask's edge, as a part of the picture's side", 0.02)
    text(
        values,
        "paste_back",
        "put edits into the photographs: folder of `lsap-jax align` that RUN inverted, or RUN of --align",
    )
    engine_flags(values)
    switch(values, "codes", "also write the edited codes", True)
    choice_or_bare(
        values, "animate", ("webp", "gif", "mp4"), "write a film per image and direction; webp if no format is given"
    )
    number(values, "frames", "frames of a film from the least strength to the greatest; 2 to 1000", 49)
    number(values, "fps", "frames per second of a film; 1 to 50", 25)
    text(values, "beside", "folder of another edit to show beside this one")
    number(values, "max_pictures", "the page embeds the pictures of at most this many images", 60, lower=0)
    return values


def run(args: Arguments) -> int:
    from lsap_jax.cli.runs import generator_of, meter
    from lsap_jax.data.masks import mask_files
    from lsap_jax.editing.animation import Animation, check_animation
    from lsap_jax.editing.edit_run import edit_run
    from lsap_jax.rendering.render import space_of
    from lsap_jax.report.edit_report import check_beside, write_edit_report
    from lsap_jax.report.links import link_edits
    from lsap_jax.storage.results import read_failures, read_manifest, read_run

    args.no_config()
    (name,) = args.only("RUN")
    folder, out, values = Path(name), Path(args.required("out")), args.flags
    for flag, kind in OF_KIND.items():
        if values[flag].present and not values[kind].value:
            raise LsapError(f"--{flag} belongs to --{kind}, which is not given")
    animation = None
    if values.animate:
        animation = Animation(format=values.animate, frames=values.frames, fps=values.fps)
        check_animation(animation)  # before anything is loaded
    take_over_threads(out, EDIT_FILE)
    engine: dict[str, Any] = {**choose_engine(args), "shard": choose_shard(args)}
    record, manifest = read_run(folder), read_manifest(folder)
    if values.beside:
        check_beside(folder, manifest, values.beside)
    if failures := read_failures(folder):
        print(f"{len(failures)} images of {folder} have no code and are left out", file=sys.stderr)
    masks = None if values.masks is None else mask_files(values.masks, sorted(manifest))
    if masks is not None and (bare := len(manifest) - len(masks)):
        print(f"{bare} of {len(manifest)} images have no mask in {values.masks}: edited as a whole", file=sys.stderr)
    identity = meter(values.identity)
    G = generator_of(folder, record, values.generator, values.weights)
    series = chosen(args, G, space_of(record, G), folder, manifest)
    start = partial(
        edit_run,
        G,
        folder,
        out,
        series,
        batch_size=values.batch_size,
        save_codes=values.codes,
        animation=animation,
        identity=identity,
        masks=masks,
        feather=values.feather,
        paste_back=None if values.paste_back is None else Path(values.paste_back),
        **engine,
    )

    def page(edits: Path) -> Path:
        path = write_edit_report(edits, beside=values.beside, max_images=values.max_pictures)
        link_edits(folder)
        return path

    return computed(start, out, len(manifest), page=page, line=summary_line)


def chosen(
    args: Arguments, G: "Generator", space: "Space", folder: Path, manifest: "dict[str, Record]"
) -> "list[Series]":
    """The series that the flags choose.

    Raises:
        LsapError: there are none, or a direction or image does not exist or does not fit this space or generator.
    """
    from lsap_jax.editing.direction import found_elsewhere
    from lsap_jax.editing.layers import RANGES, ranges_of
    from lsap_jax.editing.named import find
    from lsap_jax.editing.series import along, mixed, towards
    from lsap_jax.storage.results import read_code

    values = args.flags
    options: dict[str, Any] = {"unit": values.unit, "layers": values.layers, "absolute": values.absolute}
    tell = partial(print, file=sys.stderr)
    found = [one for name in names_of(values.direction) for one in find(G, space, name, counter(name), tell)]
    if note := found_elsewhere(G, found):
        print(note, file=sys.stderr)
    strengths = numbers("strengths", values.strengths)
    series = [along(G, space, direction, strengths, **options) for direction in found]
    code = {
        id: read_code(folder, id, manifest=manifest)
        for pair in (*values.interpolate, *values.mix)
        for id in pair_of(pair, folder, manifest)
    }
    points = np.linspace(0, 1, values.points).round(4).tolist()
    for pair in values.interpolate:
        a, b = pair_of(pair, folder, manifest)
        series.append(towards(G, space, a, b, code[b], points))
    alive = ranges_of(G, space, space.base_resolution, RANGES) or list(RANGES)  # without one, `mixed` says why
    ranges = values.ranges.split(",") if values.ranges else alive
    for pair in values.mix:
        a, b = pair_of(pair, folder, manifest)
        series.append(mixed(G, space, a, b, code[b], ranges))
    if not series:
        raise LsapError("nothing to do: give --direction, --interpolate or --mix; see --help")
    return series


def names_of(given: Sequence[str]) -> list[str]:
    """Directions of several flags, each with commas; a file whose path has a comma counts as one."""
    return [
        name.strip() for one in given for name in ([one] if os.path.exists(one) else one.split(",")) if name.strip()
    ]


def pair_of(given: str, folder: Path, manifest: "dict[str, Record]") -> tuple[str, str]:
    """ "A:B" as two ids of finished images; an id may hold colons.

    Raises:
        LsapError: an image does not exist, or both are the same.
    """
    parts = given.split(":")
    cuts = [(":".join(parts[:k]), ":".join(parts[k:])) for k in range(1, len(parts))]
    for a, b in cuts:
        if a in manifest and b in manifest and a != b:
            return a, b
    known = ", ".join(sorted(manifest)[:4])
    raise LsapError(f"{given!r}: give A:B, ids of two different finished images of {folder}, as {known}, …")


def summary_line(summary: "Summary") -> str:
    """The outcome in one line, and a line per series on how well identities are kept."""
    done = f"{summary.done} images edited{beside_done(summary)}"
    return "\n".join([done, *(identity_lines(summary.out) if summary.whole else [])])


def identity_lines(out: Path) -> list[str]:
    """Means over images of identities kept; none where they are not measured."""
    from lsap_jax.editing.edit_record import read_edit
    from lsap_jax.editing.identity_kept import identities_kept, without_face
    from lsap_jax.storage.results import read_manifest

    edit, manifest = read_edit(out), read_manifest(out)
    if not (found := identities_kept(edit, manifest)):
        return []
    lines = [f"identity kept, by {edit['identity']['network']}; means over images:"]
    for name in dict.fromkeys(one.series for one in found):
        lines.append(f"  {name:16}  " + "   ".join(f"{one.label}: {one.text}" for one in found if one.series == name))
    return [*lines, f"  reconstructions without a face: {without_face(manifest)}"]
