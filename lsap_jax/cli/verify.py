"""Render the codes of a run, or of edits, again and compare the results with their pictures.

usage: lsap-jax verify RUN|EDIT [--generator G] [--weights FILE]

Every file of an image is checked against its SHA-256 in the manifest; run.json or edit.json, every line of the lists,
metrics.csv and evaluation.json against the checks that were written with them. Then every code is rendered and compared
with its PNG. They may differ by one grey level, as another device may round differently; edits that were written with
--nocodes have no codes to render. Mismatches are listed, and the exit status is 1.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, new_flags, number, text
from lsap_jax.cli.runs import weights_flag
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator
    from lsap_jax.spaces import Space
    from lsap_jax.storage.matching import Layout
    from lsap_jax.storage.results import Record

TOLERANCE = 1
UNCOVERED = " and of what `evaluate` wrote"


def flags() -> FlagValues:
    values = new_flags()
    text(values, "generator", "file of the generator, if it is not where run.json says")
    weights_flag(values)
    number(values, "batch_size", "images at a time", 16, lower=1)
    return values


def run(args: Arguments) -> int:
    args.no_config()
    (folder,) = args.only("RUN")
    return verify(Path(folder), args.flags.generator, args.flags.batch_size, args.flags.weights)


def verify(folder: Path, generator: str | None = None, batch_size: int = 16, weights: str | None = None) -> int:
    """Prints mismatches and a summary; returns the exit status.

    Raises:
        LsapError: it is neither a run nor an edit folder, nothing in it is finished, or the generator is another one.
    """
    import jax

    from lsap_jax.cli.runs import generator_of
    from lsap_jax.editing.edit_record import EDIT, read_edit
    from lsap_jax.rendering.render import renderer, space_of
    from lsap_jax.storage.matching import is_sealed
    from lsap_jax.storage.results import RUN, read_manifest, read_run

    layout = EDIT if (folder / EDIT.file).is_file() else RUN
    edit = read_edit(folder) if layout is EDIT else None
    record, manifest = read_run(folder) if edit is None else {**edit, **edit["run"]}, read_manifest(folder)
    if not manifest:
        raise LsapError(f"{folder}: has no finished image yet; run its `lsap-jax {'edit' if edit else 'invert'}` again")
    tables = list(damaged_tables(folder, manifest, layout))
    for problem in tables:
        print(problem)
    if not is_sealed(edit or record, layout):
        uncovered = f"{layout.file}{UNCOVERED if edit is None else ''}"
        print(f"{folder}: is of an earlier format, {(edit or record)['format']!r}, without a digest of {uncovered}")
    changed = {(name, part): problem for name, part, problem in unread(folder, manifest)}
    for (name, part), problem in changed.items():
        print(f"{edit_of(name, part)}: {problem}")
    files = sum(len(one["sha256"]) for one in manifest.values())
    digests = f"{len(changed)} do not match" if changed else "all have"
    print(f"{files} files of {len(manifest)} images in {folder}: {digests} their SHA-256")
    codes = [(name, part) for name in manifest for part in codes_of(manifest[name])]
    if not codes:
        print("there are no codes to render again (--nocodes)")
        return 1 if changed or tables else 0
    items = [(name, part) for name, part in codes if not changed.keys() & {(name, part), (name, picture_of(part))}]
    G = generator_of(folder, record, generator, weights)
    space, wrong, largest = space_of(record, G), 0, 0
    draw = renderer(G, space, min(batch_size, len(items)), jax.local_devices()[:1])
    shown = partial(limited, folder, edit or {}, manifest)
    for start in range(0, len(items), batch_size):
        for name, problem, gap in check(G, space, folder, items[start : start + batch_size], manifest, draw, shown):
            largest = max(largest, gap)
            if problem:
                wrong += 1
                print(f"{name}: {problem}")
    what = f"{len(items)} images" if edit is None else f"{len(items)} edits of {len(manifest)} images"
    verdict = f"{wrong} do not match" if wrong else "all match"
    print(
        f"{what} rendered again: {verdict}; the largest difference is {largest} grey levels "
        f"(up to {TOLERANCE} is allowed)"
    )
    return 1 if changed or tables or wrong else 0


def damaged_tables(folder: Path, manifest: Mapping[str, "Record"], layout: "Layout") -> Iterator[str]:
    """What is wrong with the tables of a folder, which hold what is in no image's files."""
    from lsap_jax.storage.metrics_table import DIGEST, TABLE, read_metrics_table
    from lsap_jax.storage.results import RUN, read_evaluation, read_failures

    if (folder / DIGEST).exists() and not (folder / TABLE).exists():
        yield f"{folder / TABLE}: is missing though {DIGEST} is there; run the same command again"
    table = partial(read_metrics_table, layout=layout)
    readers: list[Callable[[Path], dict[str, Any]]] = [read_failures, table]
    for read in [*readers, read_evaluation] if layout is RUN else readers:
        try:
            found = read(folder)
        except LsapError as error:
            yield str(error)
            continue
        for id, row in found.items() if read is table else ():
            listed = manifest[id]["metrics"] if id in manifest else None
            if listed is None or any(repr(row.get(name)) != repr(value) for name, value in listed.items()):
                yield f"{folder / TABLE}: its row of {id!r} is not what manifest.jsonl says; run the same command again"


def codes_of(record: "Record") -> list[str]:
    """The parts of an image that are codes: "codes" of a run, "codes/DIRECTION/STRENGTH" of edits."""
    return [part for part in record["sha256"] if part.partition("/")[0] == "codes"]


def edit_of(name: str, part: str) -> str:
    """ID/DIRECTION/STRENGTH of an edit's part, ID of others."""
    _, slash, rest = part.partition("/")
    return f"{name}{slash}{rest}"


def picture_of(part: str) -> str:
    """The part that is the picture of a code."""
    return part.replace("codes", "images", 1)


def unread(folder: Path, manifest: Mapping[str, "Record"]) -> Iterator[tuple[str, str, str]]:
    """(id, part, what is wrong) of the files that are missing or have changed."""
    from lsap_jax.storage.results import read_bytes

    for name, record in manifest.items():
        for part in record["sha256"]:
            try:
                read_bytes(folder, name, part, manifest=manifest)
            except LsapError as error:
                yield name, part, str(error)


def check(
    G: "Generator",
    space: "Space",
    folder: Path,
    items: Sequence[tuple[str, str]],
    manifest: Mapping[str, "Record"],
    draw: Callable[..., np.ndarray],
    shown: Callable[[str, str, np.ndarray], np.ndarray] = lambda id, part, image: image,
) -> Iterator[tuple[str, str, int]]:
    """(name, what is wrong or "", largest difference in grey levels) of each (id, part of `codes_of`) of a batch, drawn
    by a `renderer` of this space.

    Args:
        shown: (id, part, uint8 picture of the code) to what the folder shows of it.
    """
    from lsap_jax.pixels import to_uint8
    from lsap_jax.rendering.refinement import Refinement, by_signature, read_refinement
    from lsap_jax.rendering.refinement import check as check_refinement
    from lsap_jax.storage.results import read_arrays, read_image

    codes: dict[str, dict[str, np.ndarray]] = {}
    refined: dict[str, Refinement | None] = {}
    pictures: dict[str, np.ndarray] = {}
    parts: dict[str, tuple[str, str]] = {}
    for id, part in items:
        name = edit_of(id, part)
        try:
            code = read_arrays(folder, id, part, manifest=manifest)
            picture = read_image(folder, id, picture_of(part), manifest=manifest)
            own = read_refinement(folder, id, manifest)
        except LsapError as error:
            yield name, str(error), 0
            continue
        if set(code) != set(space.keys):
            yield (
                name,
                f"its code has arrays {', '.join(sorted(code))}, the space {space.name} has {', '.join(space.keys)}",
                0,
            )
            continue
        codes[name], pictures[name], refined[name], parts[name] = code, picture, own, (id, part)
    if not codes:
        return
    stacked = {key: np.stack([code[key] for code in codes.values()]) for key in space.keys}

    def rendered(refinement: Refinement | None, codes: dict[str, np.ndarray]) -> np.ndarray:
        if refinement is not None:
            check_refinement(G, refinement)
        return draw(codes, refinement)

    images = to_uint8(by_signature(rendered, list(refined.values()), stacked))
    for (name, picture), image in zip(pictures.items(), images, strict=True):
        if picture.shape != image.shape:
            yield name, f"is {list(picture.shape)}, its code renders to {list(image.shape)}", 0
            continue
        try:
            image = shown(*parts[name], image)
        except LsapError as error:
            yield name, str(error), 0
            continue
        gap = int(np.abs(picture.astype(np.int16) - image).max())
        yield name, f"its code renders up to {gap} grey levels off the picture" if gap > TOLERANCE else "", gap


def limited(
    folder: Path, edit: "Record", manifest: Mapping[str, "Record"], id: str, part: str, image: np.ndarray
) -> np.ndarray:
    """The picture, uint8, of the code in a part, limited to the mask of its image where an edit folder has one.

    Raises:
        LsapError: mask or target are missing, have changed, or are of another size.
    """
    from lsap_jax.data.masks import in_unit
    from lsap_jax.editing.edit_record import is_untouched
    from lsap_jax.editing.limits import feathered, laid_over
    from lsap_jax.storage.results import read_image

    _, _, place = part.partition("/")
    name, _, label = place.rpartition("/")
    own = [s for s in edit.get("series", ()) if s["name"] == name and s["only"] in (None, id)]
    if "masks" not in edit or "masks" not in manifest[id]["sha256"] or any(is_untouched(s, label) for s in own):
        return image
    mask, target = (read_image(folder, id, what, manifest=manifest) for what in ("masks", "targets"))
    if target.shape != image.shape or mask.shape != (*image.shape[:2], 1):
        raise LsapError(f"its mask {list(mask.shape)} or target {list(target.shape)} has another size than the picture")
    return laid_over(target, image, feathered(in_unit(mask), edit["masks"]["feather"]))
