"""Aligns the faces of a source's photographs into a folder, image by image and by any engine: `lsap-jax align`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lsap_jax.data import ImageError, Source
from lsap_jax.data.ids import id_problem
from lsap_jax.data.source import Picture, crop_record
from lsap_jax.faces import every, upright
from lsap_jax.faces.align import align, crop_quad
from lsap_jax.faces.aligned_folder import Folder, opened, untouched
from lsap_jax.faces.choose import ALL, FaceError, remarks, remarks_of_face
from lsap_jax.faces.detect import Detector, shrunk, together
from lsap_jax.faces.every import Every
from lsap_jax.faces.upright import Meant, Small
from lsap_jax.inversion.inverter import StepReport
from lsap_jax.inversion.jobs import batches_of
from lsap_jax.runs.work import Place, Summary, work
from lsap_jax.runs.worker import Brief, Failed, Outcome, Result, Stop, never
from lsap_jax.storage.file_bytes import png_bytes


@dataclass(frozen=True, kw_only=True)
class Photograph(Picture):
    """A picture to cut out from, and the small one that is searched.

    Attributes:
        input: where it comes from.
    """

    input: str
    small: Small


@dataclass(frozen=True, kw_only=True)
class FaceJob:
    """A small picture to search."""

    id: str
    small: Small


@dataclass(frozen=True)
class Photographs:
    """The photographs of a source, as `lsap_jax.runs.work.Images`."""

    source: Source

    @property
    def ids(self) -> Sequence[str]:
        return self.source.ids

    @property
    def inputs(self) -> Sequence[str]:
        return self.source.inputs

    def __len__(self) -> int:
        return len(self.source)

    def sha256(self, index: int) -> str:
        return self.source.sha256(index)

    def stream(self, indices: Sequence[int], *, ahead: int) -> Iterator[tuple[int, Photograph | ImageError]]:
        inputs = dict(zip(self.source.ids, self.source.inputs, strict=True))

        def prepare(picture: Picture) -> Photograph:
            small = Small(shrunk(picture.picture), picture.picture.size)
            return Photograph(**vars(picture), input=inputs[picture.id], small=small)

        return self.source.stream_pictures(prepare, indices, ahead=ahead)


class AlignWorker(Brief):
    """Finds the face that is meant in each picture, or every face: an outcome has "found", the `Every` of a picture."""

    def __init__(self, detector: Detector, settings: Mapping[str, Any], batch_size: int | None = None) -> None:
        self.detector, self.settings, self.asked = detector, settings, batch_size
        self.devices = jax.local_devices()[:1]
        self.batch_size = together(batch_size)

    def batches(self, count: int) -> Iterator[range]:
        return batches_of(count, self.batch_size)

    def describe(self) -> dict[str, Any]:
        return {**self.settings, "detector_sha256": self.detector.sha256}

    def __call__(
        self,
        jobs: Sequence[FaceJob | None],
        report: StepReport | None = None,
        flight: Path | None = None,
        stop: Stop = never,
    ) -> list[Outcome]:
        options = {name: self.settings[name] for name in ("min_face", "enlarge", "profiles")}
        own = [job for job in jobs if job is not None]
        arguments = self.detector, [job.small for job in own], self.settings["resolution"]
        if self.settings["face"] == ALL:
            found = every.find_every(*arguments, batch_size=self.batch_size, **options)
            outcomes = map(_outcome, own, found)
        else:
            options["face"] = self.settings["face"]
            outcomes = map(_outcome_of_one, upright.find_meant(*arguments, batch_size=self.batch_size, **options))
        return [None if job is None else next(outcomes) for job in jobs]

    def shipment(self) -> Callable[[], "AlignWorker"]:
        detector = replace(self.detector, params=jax.tree.map(np.asarray, self.detector.params))
        return partial(AlignWorker, detector, self.settings, self.asked)


def _outcome_of_one(found: Meant | FaceError) -> Outcome:
    return Failed(str(found)) if isinstance(found, FaceError) else Result(parts={"found": Every([found], [])})


def _outcome(job: FaceJob, found: Every | FaceError) -> Outcome:
    if isinstance(found, FaceError):
        return Failed(str(found))
    last = _face_id(job.id, len(found.meant) - 1)
    if problem := id_problem(last):
        return Failed(f"its face would be called {last!r}, which {problem}; rename the picture")
    return Result(parts={"found": found})


def _face_id(picture: str, number: int) -> str:
    """ID_0, ID_1, …: of two pictures' faces no two are the same, since only the picture's id is before the last _."""
    return f"{picture}_{number}"


def align_faces(
    detector: Detector,
    source: Source,
    settings: Mapping[str, Any],
    out: Path,
    *,
    batch_size: int | None = None,
    **options: Any,
) -> Summary:
    """Aligns every picture of a source to its face, or finishes a folder that was begun with the same settings.

    Args:
        settings: "resolution", "face", "enlarge", "profiles" and "min_face"; see `lsap-jax align --help`.
        batch_size: pictures searched at a time; None is 8, on a CPU 1.
        options: of `lsap_jax.runs.work.work`: shard, engine, progress, ....

    Raises:
        LsapError: see `lsap_jax.faces.aligned_folder.opened`.
    """

    def make(_: Sequence[jax.Device] | None) -> AlignWorker:
        return AlignWorker(detector, settings, batch_size)

    def save(folder: Folder, item: Photograph, result: Result) -> None:
        found, resolution = result.parts["found"], settings["resolution"]
        if settings["face"] == ALL:
            for record, png in every_cut(item, found, resolution):
                folder.write(record, png)
        else:
            folder.write(*cut_out(item, found.meant[0], resolution))

    place = Place(opened, untouched)
    check = partial(forget_changed, source)
    return work(make, Photographs(source), out, job=_job, save=save, place=place, check=check, **options)


def _job(item: Photograph) -> FaceJob:
    return FaceJob(id=item.id, small=item.small)


def forget_changed(source: Source, folder: Folder, mine: Sequence[str]) -> None:
    """Forgets finished pictures, of this process's, whose input has changed since, so that they are aligned again."""
    own = folder.finished(ids=mine)
    for index, id in enumerate(source.ids):
        if id in own:
            try:
                same = source.sha256(index) == own[id]["input_sha256"]
            except ImageError:
                same = False
            if not same:
                folder.forget([id])


def cut_out(picture: Photograph, meant: Meant, resolution: int) -> tuple[dict[str, Any], bytes]:
    """The record of a picture for alignment.jsonl, and its PNG."""
    notes = remarks(meant.faces, meant.chosen, picture.picture.size, resolution)
    return _cut(picture, meant, resolution, {"id": picture.id}, notes)


def every_cut(picture: Photograph, found: Every, resolution: int) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The same of each face of a picture."""
    count, left_out = len(found.meant), [f"left out: {why}" for why in found.left_out]
    for number, meant in enumerate(found.meant):
        about = {"id": _face_id(picture.id, number), "picture": picture.id, "faces": count}
        notes = remarks_of_face(meant.faces.landmarks[meant.chosen], picture.picture.size, resolution)
        beside = [f"face {number + 1} of {count} from left to right"] if count > 1 else []
        yield _cut(picture, meant, resolution, about, [*beside, *notes, *left_out])


def _cut(
    picture: Photograph, meant: Meant, resolution: int, about: Mapping[str, Any], notes: Sequence[str]
) -> tuple[dict[str, Any], bytes]:
    faces, chosen = meant
    landmarks = faces.landmarks[chosen]
    record = {
        **about,
        **crop_record(picture.input, picture.sha256, crop_quad(landmarks)),
        "landmarks": landmarks.astype(float).round(3).tolist(),
        "score": round(float(faces.scores[chosen]), 6),
        "notes": [*picture.notes, *notes],
    }
    return record, png_bytes(align(picture.picture, landmarks, resolution))
