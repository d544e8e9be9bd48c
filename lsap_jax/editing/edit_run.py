"""The edits of a run: its codes along directions into an edit folder, resumable, over devices and shards.

    edit.json        what was done: the series, the run's space, generator and refinement, versions, devices; no times
    manifest.jsonl   a line per finished image, as in a run folder; input_sha256 is that of the run's code
    failures.jsonl   a line per image that could not be done
    images/ID/DIRECTION/STRENGTH.png   codes/ID/DIRECTION/STRENGTH.npz
    strips/ID.png    a row per direction, a column per strength
    targets/ID.png   the target image of the run
    refined/ID.npz   the run's refinement of the image, where there is one; it is the same at every strength
    animations/ID/DIRECTION.webp       on request, to and fro

Codes of strength 0 with their pictures, the targets and the refinements are the run's own files, byte for byte.
"""

import io
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from lsap_jax.editing.edit_record import EDIT
from lsap_jax.editing.series import Series
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import versions
from lsap_jax.inversion.jobs import batches_of
from lsap_jax.models.generator import Generator
from lsap_jax.pixels import to_uint8
from lsap_jax.rendering.refinement import Refinement, by_signature, read_refinement
from lsap_jax.rendering.render import renderer, space_of
from lsap_jax.runs.saving import Clock, Progress
from lsap_jax.runs.work import Share, Summary, share_of
from lsap_jax.storage.atomic import sha256
from lsap_jax.storage.file_bytes import image_from_png, npz_bytes, png_bytes
from lsap_jax.storage.matching import Rule
from lsap_jax.storage.pictures import grid
from lsap_jax.storage.results import Record, read_bytes, read_code, read_manifest, read_run
from lsap_jax.storage.run_folder import Conclude, Kind, RunFolder
from lsap_jax.storage.shards import Shard

DECIDING = ("series", "space", "base_resolution", "run.config", "run.refinement", "generator.sha256", "saved")
EDITS = Kind(EDIT, Rule(DECIDING, ("run.refinement.weights",)))
FRAME_MILLISECONDS = 120
STRIP_SIDE = 256  # px, of a picture in a strip, at most
WAITING = 2  # series that may wait to be written while the next is computed
OF_RUN = ("config", "refinement", "classes")  # entries of run.json that edit.json repeats
OWN = ("codes", "images", "targets", "refined")  # parts of a run that its edits start from

Bytes = dict[str, bytes]
Draw = Callable[[Mapping[str, np.ndarray], Refinement | None], np.ndarray]
Saved = tuple[dict[str, str], list[np.ndarray]]  # SHA-256 by part, pictures of the strip


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
    animate: bool = False,
    progress: Callable[[Progress], None] | None = None,
    conclude: Conclude | None = None,
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
        animate: write animated WebP.
        progress: called after every series of a group.
        conclude: called with `out` at the end, as in `lsap_jax.runs.work.work`.

    Returns:
        a `Summary` of this share; `left` counts the images of all shares that no process has done.

    Raises:
        LsapError: there is nothing to edit, two series have one name, an image does not exist, the folder belongs to
            other edits, the disk is full, ….
    """
    folder, devices = Path(folder), list(devices or jax.local_devices())
    run, manifest = read_run(folder), read_manifest(folder)
    space = space_of(run, G)
    _check_series(folder, series, manifest)
    ids = sorted(id for id in manifest if _of(series, id))
    described = {
        "series": [{"name": s.name, "only": s.only, "labels": list(s.labels), **s.record} for s in series],
        "saved": {"codes": save_codes, "animations": animate},
        "space": space.name,
        "base_resolution": run["base_resolution"],
        "batch_size": batch_size,
        "devices": [str(device) for device in devices],
        "versions": versions(),
        "generator": run["generator"],
        "run": {"name": folder.resolve().name} | {key: run[key] for key in OF_RUN if key in run},
        "ids_sha256": sha256("\n".join(ids).encode()),
    }
    size = group_size(described)
    groups = batches_of(len(ids), size)
    draw = renderer(G, space, batch_size, devices)

    def compute(share: Share) -> None:
        edits, clock = share.folder, share.clock
        if shard is not None:
            _check_groups(edits, described)
        _check_finished(edits, folder, manifest, share.ids)
        with ThreadPoolExecutor(2, thread_name_prefix="lsap-write") as writers:

            def save(*one: Any) -> Future[Saved]:
                return writers.submit(_save_series, edits, save_codes, animate, *one)

            for group in share.pending:
                members = [ids[i] for i in group]
                left = {id: input_sha256(manifest[id]) for id in members if id not in share.finished}
                clock.begin(len(left))
                done = _edit_group(_read(folder, manifest, members, edits), left, series, draw, save, edits, clock)
                clock.end(len(left))
                clock.fail(len(left) - done)
                clock.computed -= len(left) - done
                clock.saved(done)
                clock.tell()

    options: dict[str, Any] = {"kind": EDITS, "shard": shard, "progress": progress, "conclude": conclude}
    return share_of(out, described, ids, groups, compute, **options)


def group_size(edit: Record) -> int:
    """Images that are edited together: with all their strengths they fill a batch."""
    return max(1, edit["batch_size"] // max(len(s["labels"]) for s in edit["series"]))


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


def _check_finished(edits: RunFolder, folder: Path, manifest: Mapping[str, Record], mine: Sequence[str]) -> None:
    """Raises LsapError where the folder has edits of other images or of other codes."""
    if foreign := sorted(edits.finished(check=False).keys() - manifest.keys()):
        raise LsapError(
            f"{edits.path}: holds edits of {foreign[0]!r}, which {folder} does not have; choose another folder"
        )
    for id in mine:
        edits.check_input(id, input_sha256(manifest[id]))


def input_sha256(record: Record) -> str:
    """Digest of the inputs of an image's edits: its code, and its refinement if there is one."""
    digests = [record["sha256"][part] for part in ("codes", "refined") if part in record["sha256"]]
    return digests[0] if len(digests) == 1 else sha256(" ".join(digests).encode())


def _of(series: Sequence[Series], id: str) -> list[Series]:
    """The series for this image."""
    return [s for s in series if s.only in (None, id)]


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


class _Own(NamedTuple):
    """An image in the run: its code, its refinement, and the bytes of its files by part."""

    code: dict[str, np.ndarray]
    refinement: Refinement | None
    files: Bytes


def _read(folder: Path, manifest: Mapping[str, Record], ids: Sequence[str], edits: RunFolder) -> dict[str, _Own]:
    """Images of a group; those with a missing or changed file are recorded as failed."""
    found = {}
    for id in ids:
        try:
            parts = [part for part in OWN if part in manifest[id]["sha256"]]
            files = {part: read_bytes(folder, id, part, manifest=manifest) for part in parts}
            found[id] = _Own(read_code(folder, id, manifest=manifest), read_refinement(folder, id, manifest), files)
        except LsapError as error:
            edits.fail(id, str(error), f"{folder}: {id}")
    return found


def _edit_group(
    group: dict[str, _Own],
    left: Mapping[str, str],
    series: Sequence[Series],
    draw: Draw,
    save: Callable[..., Future[Saved]],
    edits: RunFolder,
    clock: Clock,
) -> int:
    """Edits a group, series by series, and saves the images in `left` (id -> `input_sha256`); returns how many of these
    are done.

    An image with a picture that is not finite is recorded as failed.
    """
    saved: dict[str, list[Future[Saved]]] = {id: [] for id in left if id in group}
    waiting: deque[list[Future[Saved]]] = deque()
    for number, s in enumerate(series):
        ids = [id for id in group if s.only in (None, id)]
        if ids:
            codes = {key: np.stack([group[id].code[key] for id in ids]) for key in group[ids[0]].code}
            edited = _edited(s, codes, [group[id].refinement for id in ids], draw)
            futures = []
            for id, one in zip(ids, edited, strict=True):
                if one is None:
                    edits.fail(id, f"{s.name}: a picture is not finite; take smaller strengths", id)
                    del group[id]
                    saved.pop(id, None)
                elif id in saved:
                    futures.append(save(id, s, one, group[id].files))
                    saved[id].append(futures[-1])
            waiting.append(futures)
            if len(waiting) > WAITING:
                for future in waiting.popleft():
                    future.result()
        clock.chunk(number + 1, len(series), float("nan"))
    for id, rows in saved.items():
        staged = {part: digest for row in rows for part, digest in row.result()[0].items()}
        record: Record = {"id": id, "input_sha256": left[id], "metrics": {}, "flags": [], "notes": []}
        drawn = png_bytes(strip([row.result()[1] for row in rows]))
        kept: Bytes = {part: group[id].files[part] for part in ("targets", "refined") if part in group[id].files}
        edits.put(record, {"strips": drawn, **kept}, staged)
    return len(saved)


def _edited(
    s: Series, codes: Mapping[str, np.ndarray], refinements: Sequence[Refinement | None], draw: Draw
) -> list[list[tuple[dict[str, np.ndarray], np.ndarray] | None] | None]:
    """For each image, (code, uint8 picture) per label, None for the untouched one; None if a picture is not finite."""
    places = [k for k in range(len(s.labels)) if k != s.untouched]
    count = len(next(iter(codes.values())))
    moved = {k: s.codes(k, codes) for k in places}
    if not moved:
        return [[None] for _ in range(count)]
    together = {key: np.concatenate([moved[k][key] for k in places]) for key in moved[places[0]]}
    drawn = by_signature(lambda own, codes: draw(codes, own), [*refinements] * len(places), together)
    pictures = dict(zip(places, drawn.reshape(len(places), count, *drawn.shape[1:]), strict=True))
    return [
        [
            None if k == s.untouched else ({key: a[i] for key, a in moved[k].items()}, to_uint8(pictures[k][i]))
            for k in range(len(s.labels))
        ]
        if all(np.isfinite(pictures[k][i]).all() for k in places)
        else None
        for i in range(count)
    ]


def _save_series(
    edits: RunFolder,
    save_codes: bool,
    animate: bool,
    id: str,
    s: Series,
    edited: Sequence[tuple[dict[str, np.ndarray], np.ndarray] | None],
    own: Bytes,
) -> Saved:
    """The files of one image of one series, and its pictures for the strip."""
    files: Bytes = {}
    pictures = []
    for label, one in zip(s.labels, edited, strict=True):
        code = own["codes"] if one is None else npz_bytes(one[0])
        picture = own["images"] if one is None else png_bytes(one[1])
        files[f"images/{s.name}/{label}"] = picture
        if save_codes:
            files[f"codes/{s.name}/{label}"] = code
        pictures.append(image_from_png(picture) if one is None else one[1])
    if animate:
        files[f"animations/{s.name}"] = animation(pictures)
    return edits.stage(id, files), [_small(picture) for picture in pictures]


def _small(picture: np.ndarray) -> np.ndarray:
    """A picture reduced for the strip: strips of large generators would have hundreds of megapixels otherwise."""
    if max(picture.shape) <= STRIP_SIDE:
        return picture
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    found = np.asarray(image.resize((STRIP_SIDE, STRIP_SIDE), Image.Resampling.LANCZOS))
    return found.reshape(STRIP_SIDE, STRIP_SIDE, -1)


def strip(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """A row per series, a column per label: uint8 [H, W, C] of uint8 pictures of one shape."""
    columns = max(map(len, rows))
    blank = np.full_like(rows[0][0], 255)
    return grid(np.stack([picture for row in rows for picture in (*row, *[blank] * (columns - len(row)))]), columns)


def animation(pictures: Sequence[np.ndarray], milliseconds: int = FRAME_MILLISECONDS) -> bytes:
    """Pictures uint8 [H, W, C], to and fro without end, as an animated WebP.

    Raises:
        LsapError: Pillow was built without WebP.
    """
    frames = [Image.fromarray(p[..., 0] if p.shape[-1] == 1 else p).convert("RGB") for p in pictures]
    frames += frames[-2:0:-1]
    buffer = io.BytesIO()
    try:
        frames[0].save(
            buffer, "WEBP", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, quality=90
        )
    except (KeyError, OSError) as error:
        raise LsapError(f"animated WebP: this Pillow cannot write it ({error}); install one with WebP") from error
    return buffer.getvalue()
