"""The edits of a run: its codes along directions into an edit folder, resumable, by any engine.

    edit.json        what was done: the series, the run's space, generator and refinement, versions, devices; no times
    manifest.jsonl   a line per finished image, as in a run folder; input_sha256 is that of the run's code
    failures.jsonl   a line per image that could not be done
    images/ID/DIRECTION/STRENGTH.png   codes/ID/DIRECTION/STRENGTH.npz
    strips/ID.png    a row per direction: the target, and a picture per strength, each with its label
    targets/ID.png   the target image of the run
    partners/ID/SERIES.png   the target of the image that this one is led to or mixed with
    refined/ID.npz   the run's refinement of the image, where there is one; it is the same at every strength
    masks/ID.png     the mask that the edits of the image are limited to, where there is one
    pasted/ID/DIRECTION/STRENGTH.png   on request, the picture in the photograph that the face was cut out of
    animations/ID/DIRECTION.webp       on request, to and fro; or gifs/ID/DIRECTION.gif, videos/ID/DIRECTION.mp4
    metrics.csv      where identities are measured: a row per image (`lsap_jax.editing.identity_kept`)

Codes of strength 0 with their pictures, the targets and the refinements are the run's own files, byte for byte.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lsap_jax.data.masks import levels
from lsap_jax.editing.animation import SIDE, Animation, animated, check_animation, held, reduced
from lsap_jax.editing.edit_record import EDIT
from lsap_jax.editing.edit_worker import Edited, EditWorker, group_size
from lsap_jax.editing.identity_kept import FORMULA
from lsap_jax.editing.limits import FEATHER, check_feather, feathered
from lsap_jax.editing.paste_back import PASTED, UncroppedItem, uncropped
from lsap_jax.editing.paste_back import described as described_pasting
from lsap_jax.editing.series import Series
from lsap_jax.errors import LsapError
from lsap_jax.metrics.identity import IdentityMeter
from lsap_jax.models.generator import Generator
from lsap_jax.rendering.render import space_of
from lsap_jax.runs.finished import FinishedItem, finished_images, finished_job, pictured_job
from lsap_jax.runs.work import Place, Summary, completed, work
from lsap_jax.runs.worker import Result
from lsap_jax.storage.atomic import sha256
from lsap_jax.storage.file_bytes import image_from_png, npz_bytes, png_bytes
from lsap_jax.storage.labelled_grid import Cell, labelled_grid
from lsap_jax.storage.matching import Rule
from lsap_jax.storage.results import Record, read_bytes, read_manifest, read_run
from lsap_jax.storage.run_folder import Kind, RunFolder
from lsap_jax.storage.shards import Shard

DECIDING = (
    *("series", "space", "base_resolution", "run.config", "run.refinement", "generator.sha256", "saved"),
    *("identity.name", "identity.weights", "identity.detector", "paste_back.feather", "masks.feather", "animation"),
)
EDITS = Kind(EDIT, Rule(DECIDING, ("run.refinement.weights",)))
OF_RUN = ("preset", "config", "refinement", "classes")  # entries of run.json that edit.json repeats

Bytes = dict[str, bytes]


def edit_run(
    G: Generator,
    folder: str | Path,
    out: str | Path,
    series: Sequence[Series],
    *,
    batch_size: int = 16,
    devices: Sequence[jax.Device] | None = None,
    shard: Shard | None = None,
    save_codes: bool = True,
    animation: Animation | None = None,
    identity: IdentityMeter | None = None,
    paste_back: Path | None = None,
    masks: Mapping[str, Path] | None = None,
    feather: float = FEATHER,
    **options: Any,
) -> Summary:
    """Edits every finished image of a run, or finishes the edit folder that is there.

    Images are taken in groups whose edits fill a batch, in the order of their ids; a group with an unfinished image is
    computed again as it was, so that a resumed edit gives the same bytes.

    Args:
        G: the generator of the run.
        folder: the run.
        out: the edit folder.
        series: the edits of every image, or of one.
        batch_size: pictures rendered at once, over all devices.
        devices: the local ones by default.
        shard: the share of this process, as in `lsap_jax.runs.work.work`; all shards take groups of one size.
        save_codes: write codes/ID/DIRECTION/STRENGTH.npz, which hold f at every strength, too.
        animation: of every image and series, or None.
        identity: measures how alike the faces of edits and reconstructions are.
        paste_back: folder of `lsap-jax align` that the run's images come from, or a run that aligned them; edits are
            put back into photographs.
        masks: id -> file of the mask (`lsap_jax.data.masks.mask_files`) that edits of the image are limited to, over
            its target; images that are not in it are edited as a whole. None is to edit without masks.
        feather: see `lsap_jax.editing.limits.feathered`.
        options: of `lsap_jax.runs.work.work`; `progress` hears of every series of a group.

    Returns:
        a `Summary` of this share; `left` counts the images of all shards that no process has done.

    Raises:
        LsapError: there is nothing to edit, two series have one name, an image does not exist, the folder belongs to
            other edits, the disk is full, ….
    """
    check_feather(feather)
    if animation is not None:
        check_animation(animation)
    folder = Path(folder)
    run, manifest = read_run(folder), read_manifest(folder)
    space = space_of(run, G)
    _check_series(folder, series, manifest)
    ids = sorted(id for id in manifest if any(s.only in (None, id) for s in series))
    described = {
        "series": [{"name": s.name, "only": s.only, "labels": list(s.labels), **s.record} for s in series],
        "saved": {"codes": save_codes, "animations": animation is not None},
        "space": space.name,
        "base_resolution": run["base_resolution"],
        "generator": run["generator"],
        "run": {"name": folder.resolve().name, "folder": _relative(folder, Path(out))} | _of_run(run),
        "ids_sha256": sha256("\n".join(ids).encode()),
        **({} if paste_back is None else {"paste_back": described_pasting()}),
        **({} if masks is None else {"masks": {"feather": feather}}),
        **({} if animation is None else {"animation": animation.record}),
        **({} if identity is None else {"identity": {"formula": FORMULA, **identity.described}}),
    }

    def make(others: Sequence[jax.Device] | None) -> EditWorker:
        return EditWorker(G, space, series, batch_size, described, others or devices, identity, feather)

    def check(edits: RunFolder, mine: Sequence[str]) -> None:
        if shard is not None:
            _check_groups(edits, {**described, "batch_size": batch_size})
        if foreign := sorted(edits.finished(check=False).keys() - manifest.keys()):
            raise LsapError(
                f"{edits.path}: holds edits of {foreign[0]!r}, which {folder} does not have; choose another folder"
            )

    chosen = {id: manifest[id] for id in ids}
    parts, deciding = ("codes", "images", "targets", "refined"), ("codes", "refined")
    source = finished_images(folder, chosen, G, masks, parts=parts, deciding=deciding)
    if paste_back is not None:
        source = uncropped(source, paste_back)
    partners = {s.name: _partner(folder, manifest, s) for s in series if s.blends}
    save = partial(_save, series, save_codes, animation, feather, partners)
    place = Place(partial(RunFolder.open, kind=EDITS, complete=_completed))
    job = finished_job if identity is None else pictured_job
    return work(make, source, out, job=job, save=save, place=place, check=check, shard=shard, recheck=True, **options)


def _relative(folder: Path, out: Path) -> str:
    """Where the run is, seen from the edit folder, for the link on its page; "" where there is no way, as to another
    drive.
    """
    try:
        return Path(os.path.relpath(folder.resolve(), out.resolve())).as_posix()
    except ValueError:
        return ""


def _partner(folder: Path, manifest: Mapping[str, Record], s: Series) -> bytes | None:
    """The target of the other image of a series, as its PNG; None where the run has no targets."""
    other = s.blends[-1]
    has_target = "targets" in manifest[other]["sha256"]
    return read_bytes(folder, other, "targets", manifest=manifest) if has_target else None


def _of_run(run: Record) -> Record:
    """What edits record of their run; what an earlier version did not know has today's defaults."""
    return {key: value for key, value in completed(run).items() if key in OF_RUN}


def _completed(edit: Record) -> Record:
    return {**edit, "run": {**edit.get("run", {}), **_of_run(edit.get("run", {}))}}


def _check_groups(edits: RunFolder, wanted: Record) -> None:
    """Raises LsapError where this shard would form other groups than those that the folder was started with: some
    images would then belong to no shard.
    """
    there, remedy = edits.run, "run without --shard, which finishes the rest"
    if there["ids_sha256"] != wanted["ids_sha256"]:
        raise LsapError(f"{edits.path}: was started when the run had other images than now; {remedy}")
    if (size := group_size(there)) != group_size(wanted):
        raise LsapError(
            f"{edits.path}: was started with groups of {size} (--batch_size={there['batch_size']}), not of "
            f"{group_size(wanted)}; all shards need the same size: give --batch_size={there['batch_size']}, or {remedy}"
        )


def _check_series(folder: Path, series: Sequence[Series], manifest: Mapping[str, Record]) -> None:
    if not manifest:
        raise LsapError(f"{folder}: has no finished image yet; run its `lsap-jax invert` command again")
    if not series:
        raise LsapError("nothing to do: name a direction, or images to interpolate or to mix")
    for k, s in enumerate(series):
        for other in series[:k]:
            meet = None in (s.only, other.only) or s.only == other.only
            if meet and s.name.casefold() == other.name.casefold():
                raise LsapError(f"{s.name}: is the name of two directions or images, which would share a folder")
        if s.only is not None and s.only not in manifest:
            raise LsapError(f"{folder}: has no finished image {s.only!r}; manifest.jsonl lists those that it has")
        if refined := [id for id in s.blends if id in manifest and "refined" in manifest[id]["sha256"]]:
            raise LsapError(
                f"{folder}: {refined[0]!r} is refined, and what refines an image does not fit the codes of another; "
                "interpolate and mix images of the run that was refined"
            )


def _save(
    series: Sequence[Series],
    save_codes: bool,
    animation: Animation | None,
    feather: float,
    partners: Mapping[str, bytes | None],
    edits: RunFolder,
    item: FinishedItem,
    result: Result,
) -> None:
    """Saves all edits of an image."""
    files: Bytes = {}
    shown: list[tuple[Series, list[np.ndarray], bytes | None]] = []
    # The pictures are laid over the target by the mask already; where it is, they replace the photograph.
    share = None if item.mask is None else (feathered(item.mask, feather) > 0).astype(np.float32)
    for s in series:
        if s.name in result.parts["edits"] and s.only in (None, item.id):
            own, pictures = _files_of(s, result.parts["edits"][s.name], item.files, save_codes)
            files |= own
            partner = partners.get(s.name)
            shown.append((s, pictures, partner))
            if partner is not None:
                files[f"partners/{s.name}"] = partner
            if animation is not None:
                start = image_from_png(item.files["images"])
                part, data = animated(_frames(s, result, [start, *pictures], animation.fps), animation)
                files[f"{part}/{s.name}"] = data
            if isinstance(item, UncroppedItem):
                in_place = zip(s.labels, pictures, strict=True)
                files |= {f"{PASTED}/{s.name}/{label}": png_bytes(item.pasted(one, share)) for label, one in in_place}
    kept = {part: item.files[part] for part in ("targets", "refined") if part in item.files}
    if item.mask is not None:
        kept["masks"] = png_bytes(levels(item.mask))
    record: Record = {
        "id": item.id,
        "input_sha256": item.sha256,
        "metrics": dict(result.metrics),
        "flags": [],
        "notes": [],
    }
    edits.put(record, {**files, "strips": png_bytes(strip(item.image, shown)), **kept})


def _files_of(s: Series, edited: Edited, own: Mapping[str, bytes], save_codes: bool) -> tuple[Bytes, list[np.ndarray]]:
    """The files of one image of one series, and its pictures."""
    files: Bytes = {}
    pictures = []
    for label, one in zip(s.labels, edited, strict=True):
        picture = own["images"] if one is None else png_bytes(one[1])
        files[f"images/{s.name}/{label}"] = picture
        if save_codes:
            files[f"codes/{s.name}/{label}"] = own["codes"] if one is None else npz_bytes(one[0])
        pictures.append(image_from_png(picture) if one is None else one[1])
    return files, pictures


def _frames(s: Series, result: Result, pictures: Sequence[np.ndarray], fps: int) -> Sequence[np.ndarray]:
    """The frames on the way along a series; where nothing lies between its places, its pictures, each for a while."""
    if s.is_continuous:
        return list(result.parts["frames"][s.name])
    return held([reduced(picture, SIDE) for picture in pictures], fps)


def strip(target: np.ndarray, shown: Sequence[tuple[Series, Sequence[np.ndarray], bytes | None]]) -> np.ndarray:
    """A row per series: the target, the picture of each label, and where it leads to another image the target of that.

    Args:
        target: uint8 [R, R, C], as the pictures.
        shown: series, its pictures, and the PNG of the other target.

    Returns:
        uint8 [H, W, 3].
    """
    rows: list[list[Cell]] = []
    for s, pictures, partner in shown:
        row: list[Cell] = [(target, "original"), *zip(pictures, s.labels, strict=True)]
        rows.append(row if partner is None else [*row, (image_from_png(partner), "the other original")])
    return labelled_grid([], rows, titles=[_title(s) for s, _, _ in shown])


def _title(s: Series) -> str:
    between = " to " if s.is_continuous else " with layers of "
    return between.join(s.blends) or s.name.replace("_", " ")
