"""Aligns the faces of a source's photographs into a folder, batch by batch: `lsap-jax align`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsap_jax.data import ImageError, Source
from lsap_jax.data.source import Picture
from lsap_jax.faces import upright
from lsap_jax.faces.align import align, crop_quad
from lsap_jax.faces.aligned_folder import Folder, Record, opened
from lsap_jax.faces.choose import FaceError, remarks
from lsap_jax.faces.detect import Detector, shrunk, together
from lsap_jax.faces.upright import Meant, Small
from lsap_jax.runs.saving import Clock, Progress
from lsap_jax.storage.file_bytes import png_bytes

Ready = tuple[Picture, Small]  # the picture to cut out from, and the small one to search
Waiting = list[tuple[int, str, Future[tuple[dict[str, Any], bytes]]]]


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Outcome of aligning the images of a source.

    Attributes:
        done: images with an aligned picture in the folder.
        earlier: how many of them were there before.
        failures: a record with "input" and "reason" per image without a picture, in the order of the source.
    """

    done: int
    earlier: int
    failures: Sequence[Record]


def align_faces(
    detector: Detector,
    source: Source,
    settings: Mapping[str, Any],
    out: Path,
    *,
    batch_size: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Aligned:
    """Aligns every picture of a source to its face, or finishes a folder that was begun with the same settings.

    Args:
        settings: "resolution", "face", "enlarge", "profiles" and "min_face"; see `lsap-jax align --help`.
        batch_size: pictures searched at a time; None is 8, on a CPU 1.

    Raises:
        LsapError: see `lsap_jax.faces.aligned_folder.opened`.
    """
    with opened(out, {**settings, "detector_sha256": detector.sha256}) as folder:
        forget_changed(folder, source)
        earlier = sum(id in folder.done for id in source.ids)
        clock = Clock(total=len(source), done=earlier, report=progress)
        _align_all(detector, source, settings, folder, clock, batch_size)
        folder.finish()
    failures = [folder.failed[id] for id in source.ids if id in folder.failed]
    return Aligned(done=len(source) - len(failures), earlier=earlier, failures=failures)


def forget_changed(folder: Folder, source: Source) -> None:
    """Forgets finished pictures whose input has changed since, so that they are aligned again."""
    for index, id in enumerate(source.ids):
        if id in folder.done:
            try:
                same = source.sha256(index) == folder.done[id]["input_sha256"]
            except ImageError:
                same = False
            if not same:
                del folder.done[id]


def cut_out(picture: Picture, meant: Meant, resolution: int) -> tuple[dict[str, Any], bytes]:
    """The record of a picture for alignment.jsonl, and its PNG."""
    faces, chosen = meant
    landmarks = faces.landmarks[chosen]
    record = {
        "input_sha256": picture.sha256,
        "quad": crop_quad(landmarks).round(3).tolist(),
        "landmarks": landmarks.astype(float).round(3).tolist(),
        "score": round(float(faces.scores[chosen]), 6),
        "notes": [*picture.notes, *remarks(faces, chosen, picture.picture.size, resolution)],
    }
    return record, png_bytes(align(picture.picture, landmarks, resolution))


def _align_all(
    detector: Detector,
    source: Source,
    settings: Mapping[str, Any],
    folder: Folder,
    clock: Clock,
    batch_size: int | None,
) -> None:
    """While one batch is searched for faces, threads decode the next and cut the one before out."""
    size, resolution = together(batch_size), settings["resolution"]
    options = {name: settings[name] for name in ("min_face", "face", "enlarge", "profiles")}
    pending = [index for index, id in enumerate(source.ids) if id not in folder.done]

    def prepare(picture: Picture) -> Ready:
        return picture, Small(shrunk(picture.picture), picture.picture.size)

    waiting: Waiting = []
    with ThreadPoolExecutor(2, thread_name_prefix="lsap-align") as pool:
        for batch in _batches(source.stream_pictures(prepare, pending, ahead=size), size):
            clock.begin(len(batch))
            good: list[tuple[int, Picture]] = []
            small: list[Small] = []
            for index, ready in batch:
                if isinstance(ready, ImageError):
                    _fail(folder, clock, source, index, ready.reason)
                else:
                    good.append((index, ready[0]))
                    small.append(ready[1])
            found = upright.find_meant(detector, small, resolution, batch_size=batch_size, **options)
            _save(folder, clock, source, waiting)
            waiting = []
            for (index, picture), meant in zip(good, found, strict=True):
                if isinstance(meant, FaceError):
                    _fail(folder, clock, source, index, str(meant))
                else:
                    waiting.append((index, picture.id, pool.submit(cut_out, picture, meant, resolution)))
        _save(folder, clock, source, waiting)


def _batches(stream: Iterable[tuple[int, Ready | ImageError]], size: int) -> Iterator[list[tuple[int, Any]]]:
    batch = []
    for item in stream:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _save(folder: Folder, clock: Clock, source: Source, waiting: Waiting) -> None:
    """Writes what has been cut out."""
    for index, id, future in waiting:
        record, png = future.result()
        folder.write({"id": id, "input": source.inputs[index], **record}, png)
        clock.end(1)
        clock.saved(1)
    clock.tell()


def _fail(folder: Folder, clock: Clock, source: Source, index: int, reason: str) -> None:
    folder.fail(source.ids[index], source.inputs[index], reason)
    clock.under_way -= 1
    clock.fail()
