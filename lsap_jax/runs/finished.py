"""The finished images of a run as images to compute with: refined, edited, measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.data import ImageError
from lsap_jax.data.masks import Masked, joined, masked_input, masked_note
from lsap_jax.errors import LsapError
from lsap_jax.inversion.jobs import Job
from lsap_jax.models.generator import Generator
from lsap_jax.rendering.refinement import Refinement, from_arrays
from lsap_jax.storage.atomic import sha256
from lsap_jax.storage.parts import decoded
from lsap_jax.storage.results import Record, read_bytes

OPTIONAL = ("refined",)  # parts that an image of a run may be without


@dataclass(frozen=True, kw_only=True)
class FinishedItem:
    """A finished image of a run, loaded.

    Attributes:
        id, notes, mask, crop: as of `lsap_jax.data.Item`.
        sha256: of its deciding files; see `Finished.sha256`.
        files, values: bytes of its files by part, and what they hold.
        image: the target, uint8 [R, R, C].
        refinement: what refines the image, without the axis of images.
    """

    id: str
    notes: tuple[str, ...]
    sha256: str
    files: Mapping[str, bytes]
    values: Mapping[str, Any]
    image: np.ndarray
    refinement: Refinement | None
    mask: np.ndarray | None = None
    crop: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class FinishedJob(Job):
    """A finished image: `image` is its target and `start` its code.

    Attributes:
        refinement: what refines the image, without the axis of images.
        picture: the saved picture, uint8 [R, R, C], where it is asked for.
    """

    refinement: Refinement | None = None
    picture: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Finished(Masked):
    """The finished images of a run.

    Attributes:
        parts: the files to load of each; those of `OPTIONAL` where it has them.
        deciding: the files whose SHA-256 make the image's own.
    """

    folder: Path
    manifest: Mapping[str, Record]
    parts: Sequence[str]
    deciding: Sequence[str]

    def load(self, index: int) -> FinishedItem:  # type: ignore[override]
        """The files of an image, and its mask if it has one.

        Raises:
            ImageError: a file is missing, has changed or holds what no run writes, the target is not as large as images
                of the generator, or the mask cannot be used.
        """
        id = self.ids[index]
        record = self.manifest[id]
        if missing := [part for part in self.parts if part not in (*OPTIONAL, *record["sha256"])]:
            raise ImageError(f"{self.folder}: {id} has no {missing[0]}; restore its manifest", self.inputs[index])
        try:
            present = [part for part in self.parts if part in record["sha256"]]
            files = {part: read_bytes(self.folder, id, part, manifest=self.manifest) for part in present}
            values = {part: decoded(part, data) for part, data in files.items()}
            own = from_arrays(values["refined"]) if "refined" in values else None
        except ValueError as error:
            raise ImageError(f"{self.folder}: {id} cannot be decoded ({error})", self.inputs[index]) from None
        except LsapError as error:
            raise ImageError(str(error), self.inputs[index]) from None
        if values["targets"].shape != (wanted := (self.resolution, self.resolution, self.channels)):
            found = "x".join(map(str, values["targets"].shape))
            raise ImageError(
                f"{self.folder}: the target of {id} is {found}, the generator makes {'x'.join(map(str, wanted))}; name "
                "the generator that the run is of",
                self.inputs[index],
            )
        notes, (data, mask) = (*record["notes"], *record["flags"]), self.mask(index)
        return FinishedItem(
            id=id,
            notes=notes if data is None else (*notes, masked_note(data)),
            sha256=self._digest(index, data),
            files=files,
            values=values,
            image=values["targets"],
            refinement=own,
            mask=mask,
            crop=record.get("crop"),
        )

    def sha256(self, index: int) -> str:
        """That of the image's deciding file; of several, and of a mask, the SHA-256 of their SHA-256.

        Raises:
            ImageError: the mask cannot be read.
        """
        return self._digest(index, self.mask_bytes(index))

    def _digest(self, index: int, mask: bytes | None) -> str:
        own = self.manifest[self.ids[index]]["sha256"]
        digests = [own[part] for part in self.deciding if part in own]
        if mask is not None:
            return joined(" ".join(digests), mask)
        return digests[0] if len(digests) == 1 else sha256(" ".join(digests).encode())


def finished_images(
    folder: Path,
    manifest: Mapping[str, Record],
    G: Generator,
    masks: Mapping[str, Path] | None = None,
    *,
    parts: Sequence[str] = ("codes", "targets"),
    deciding: Sequence[str] = ("codes", "targets"),
) -> Finished:
    """The finished images of a run, by id.

    Args:
        masks: id -> file of its mask.
        parts, deciding: see `Finished`.
    """
    ids, masks = tuple(sorted(manifest)), masks or {}
    return Finished(
        ids=ids,
        inputs=tuple(masked_input(f"{folder}: {id}", masks.get(id)) for id in ids),
        resolution=G.img_resolution,
        channels=G.img_channels,
        fit="crop",
        read=lambda index: read_bytes(folder, ids[index], "targets", manifest=manifest),
        folder=folder,
        manifest=manifest,
        masks=masks,
        parts=parts,
        deciding=deciding,
    )


def codes_of(jobs: Sequence[FinishedJob]) -> dict[str, np.ndarray]:
    """The codes of some jobs by name, first axis the jobs.

    Raises:
        LsapError: they are not of one space and generator.
    """
    starts = [job.start for job in jobs if job.start is not None]
    shapes = [{key: array.shape for key, array in start.items()} for start in starts]
    if other := next((job.id for job, own in zip(jobs, shapes, strict=False) if own != shapes[0]), None):
        raise LsapError(f"{other}: its codes have other names or shapes than those before it; restore its file")
    return {key: np.stack([start[key] for start in starts]) for key in starts[0]}


def finished_job(item: FinishedItem) -> FinishedJob:
    """A job of the files that were loaded."""
    return FinishedJob(
        id=item.id,
        image=item.image,
        mask=item.mask,
        start=item.values.get("codes"),
        refinement=item.refinement,
    )


def pictured_job(item: FinishedItem) -> FinishedJob:
    """A job of the files that were loaded, with the saved picture."""
    return replace(finished_job(item), picture=item.values["images"])


def pictures_of(jobs: Sequence[FinishedJob]) -> np.ndarray:
    """The saved pictures of some jobs that have one, uint8 [N, R, R, C]."""
    return np.stack([job.picture for job in jobs if job.picture is not None])
