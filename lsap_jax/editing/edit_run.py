"""The edits of a run: its codes along directions into an edit folder, resumable, over devices and shards.

    edit.json        what was done: the series, the run's space and generator, versions, devices; no times
    manifest.jsonl   a line per finished image, as in a run folder; input_sha256 is that of the run's code
    failures.jsonl   a line per image that could not be done
    images/ID/DIRECTION/STRENGTH.png   codes/ID/DIRECTION/STRENGTH.npz
    strips/ID.png    a row per direction, a column per strength
    animations/ID/DIRECTION.webp       on request, to and fro

Codes of strength 0 and their pictures are the run's own files, byte for byte.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from lsap_jax.data import to_uint8
from lsap_jax.editing.series import Series
from lsap_jax.errors import LsapError
from lsap_jax.generator import Generator
from lsap_jax.inversion.batch import versions
from lsap_jax.inversion.encoding import arrays_from_npz, image_from_png, npz_bytes, png_bytes
from lsap_jax.inversion.pictures import grid
from lsap_jax.inversion.rendering import renderer, space_of
from lsap_jax.inversion.results import Layout, Record, RunFolder, put_together, read_bytes, read_manifest, read_run
from lsap_jax.inversion.run import Summary
from lsap_jax.inversion.saving import Clock, Progress
from lsap_jax.inversion.shards import Shard

EDIT = Layout("edit.json", "lsap_jax edit 1", "edit")
RESUME_KEYS = ("series", "space", "generator.sha256", "saved")
FRAME_MILLISECONDS = 120

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
    animate: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Edits every finished image of a run, or finishes the edit folder that is there.

    Images are taken in groups whose edits fill a batch, in the order of their ids; a group with an unfinished image is
    computed again as it was, so that a resumed edit gives the same bytes.

    Args:
        G: the generator of the run.
        folder: the run.
        out: the edit folder.
        series: what to do to every image, or to one.
        batch_size: pictures rendered at once, over all devices.
        devices: the local ones by default.
        shard: the share of this process, as in `lsap_jax.inversion.run.run`.
        save_codes: write codes/ID/DIRECTION/STRENGTH.npz, which hold f at every strength, too.
        animate: write animated WebP.
        progress: called after every series of a group.

    Raises:
        LsapError: nothing to edit, two series of one name, no such image, the folder belongs to other edits, the disk
            is full, ….
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
        "run": {"name": folder.resolve().name, "config": run["config"]},
    }
    size = max(1, batch_size // max(len(s.labels) for s in series))
    groups = [ids[i : i + size] for i in range(0, len(ids), size)]
    share = [group for k, group in enumerate(groups) if shard is None or shard.owns(k)]
    mine = [id for group in share for id in group]
    draw = renderer(G, space, batch_size, devices)
    kind: dict[str, Any] = {"layout": EDIT, "resume_keys": RESUME_KEYS, "free_keys": ()}
    with RunFolder.open(out, described, part=shard.name if shard else "", **kind) as edits:
        for id in mine:
            edits.check_input(id, manifest[id]["sha256"]["codes"])
        finished = edits.finished(ids=mine)
        clock = Clock(total=len(mine), done=len(finished), report=progress)
        with ThreadPoolExecutor(2, thread_name_prefix="lsap-write") as writers:
            waiting: list[Future[None]] = []
            for group in share:
                if all(id in finished for id in group):
                    continue
                left = sum(id not in finished for id in group)
                clock.begin(left)
                done = _edited(folder, manifest, group, series, draw, edits, save_codes, clock)
                for future in waiting:
                    future.result()
                waiting = [
                    writers.submit(_save, edits, manifest[id], series, files, animate)
                    for id, files in done.items()
                    if id not in finished
                ]
                clock.end(left)
                clock.failed += left - len(waiting)
                clock.computed -= left - len(waiting)
                clock.saved(len(waiting))
                clock.tell()
            for future in waiting:
                future.result()
        if shard is None:
            edits.finish()
        failed = sum(id in edits.failures() for id in mine)
    whole = shard is None or put_together(out, described, **kind)
    return Summary(done=len(mine) - failed, failed=failed, skipped=len(finished), out=Path(out), whole=whole)


def _of(series: Sequence[Series], id: str) -> list[Series]:
    """Those that are for this image."""
    return [s for s in series if s.only in (None, id)]


def _check_series(folder: Path, series: Sequence[Series], manifest: Mapping[str, Record]) -> None:
    if not manifest:
        raise LsapError(f"{folder}: has no finished image yet; run its `lsap-jax invert` command again")
    if not series:
        raise LsapError("nothing to do: name a direction, or images to interpolate or to mix")
    names = [(s.name.casefold(), s.only) for s in series]
    if twice := [s.name for s, key in zip(series, names, strict=True) if names.count(key) > 1]:
        raise LsapError(f"{twice[0]}: is the name of two directions or images, which would share a folder")
    for s in series:
        if s.only is not None and s.only not in manifest:
            raise LsapError(f"{folder}: has no finished image {s.only!r}; manifest.jsonl lists what there is")


def _edited(
    folder: Path,
    manifest: Mapping[str, Record],
    group: Sequence[str],
    series: Sequence[Series],
    draw: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    edits: RunFolder,
    save_codes: bool,
    clock: Clock,
) -> dict[str, Bytes]:
    """The files of every image of a group by part; images whose code is missing or has changed are noted as failed."""
    files: dict[str, Bytes] = {}
    codes: dict[str, dict[str, np.ndarray]] = {}
    own: dict[str, Bytes] = {}
    for id in group:
        try:
            own[id] = {part: read_bytes(folder, id, part, manifest=manifest) for part in ("codes", "images")}
            codes[id], files[id] = arrays_from_npz(own[id]["codes"]), {}
        except LsapError as error:
            edits.fail(id, str(error), f"{folder}: {id}")
    for number, s in enumerate(series):
        ids = [id for id in codes if s.only in (None, id)]
        if ids:
            stacked = {key: np.stack([codes[id][key] for id in ids]) for key in codes[ids[0]]}
            for id, found in zip(ids, _series_files(s, stacked, draw, save_codes), strict=True):
                if found is None:
                    edits.fail(id, f"{s.name}: a picture is not finite; take smaller strengths", f"{folder}: {id}")
                    del codes[id], files[id]
                    continue
                if s.untouched is not None:
                    label = s.labels[s.untouched]
                    found |= {f"{part}/{s.name}/{label}": data for part, data in own[id].items()}
                files[id] |= found
        clock.chunk(number + 1, len(series), float("nan"))
    if not save_codes:
        files = {id: {part: data for part, data in f.items() if part[:6] != "codes/"} for id, f in files.items()}
    return files


def _series_files(
    s: Series,
    codes: Mapping[str, np.ndarray],
    draw: Callable[[Mapping[str, np.ndarray]], np.ndarray],
    save_codes: bool,
) -> list[Bytes | None]:
    """Files of each image of one series, without those of the untouched label; None where one is not finite."""
    places = [k for k in range(len(s.labels)) if k != s.untouched]
    moved = [s.codes(k, codes) for k in places]
    count = len(next(iter(codes.values())))
    files: list[Bytes | None] = [{} for _ in range(count)]
    if not moved:
        return files
    drawn = draw({key: np.concatenate([one[key] for one in moved]) for key in moved[0]})
    pictures = drawn.reshape(len(places), count, *drawn.shape[1:])
    finite = np.isfinite(pictures).all(axis=(0, 2, 3, 4))
    files = [found if finite[i] else None for i, found in enumerate(files)]
    for row, (place, one) in enumerate(zip(places, moved, strict=True)):
        for i, found in enumerate(files):
            if found is None:
                continue
            where = f"{s.name}/{s.labels[place]}"
            found[f"images/{where}"] = png_bytes(to_uint8(pictures[row, i]))
            if save_codes:
                found[f"codes/{where}"] = npz_bytes({key: a[i] for key, a in one.items()})
    return files


def _save(edits: RunFolder, source: Record, series: Sequence[Series], files: Bytes, animate: bool) -> None:
    """One image's files, its strip and its animations among them."""
    id = source["id"]
    rows = [(s, [image_from_png(files[f"images/{s.name}/{label}"]) for label in s.labels]) for s in _of(series, id)]
    parts = {**files, "strips": png_bytes(strip([pictures for _, pictures in rows]))}
    if animate:
        parts |= {f"animations/{s.name}": animation(pictures) for s, pictures in rows}
    record = {
        "id": id,
        "input_sha256": source["sha256"]["codes"],
        "sha256": {},
        "metrics": {},
        "flags": [],
        "notes": [],
    }
    edits.put(record, parts)


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


def read_edit(path: str | Path) -> Record:
    """Contents of edit.json; errors as `read_run`."""
    return read_run(path, EDIT)
