"""The worker of edits: moves the codes of images and renders them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lsap_jax.editing.animation import places_between, reduced
from lsap_jax.editing.identity_kept import FACE, metric
from lsap_jax.editing.limits import FEATHER, feathered, laid_over
from lsap_jax.editing.series import Series
from lsap_jax.inversion.inverter import StepReport, versions
from lsap_jax.inversion.jobs import batches_of
from lsap_jax.metrics.identity import IdentityMeter, kept
from lsap_jax.models.generator import Generator
from lsap_jax.pixels import to_uint8
from lsap_jax.rendering.refinement import Refinement, by_signature
from lsap_jax.rendering.render import renderer
from lsap_jax.runs.finished import FinishedJob, codes_of, pictures_of
from lsap_jax.runs.worker import Brief, Failed, Outcome, Result, Stop, never
from lsap_jax.spaces import Space
from lsap_jax.storage.flight import Preempted
from lsap_jax.storage.results import Record

HELD = 2**29  # bytes of pictures that a group may hold, as they are saved when all of them are there

Draw = Callable[[Mapping[str, np.ndarray], Refinement | None], np.ndarray]
Edited = list[tuple[dict[str, np.ndarray], np.ndarray] | None]  # (code, uint8 picture) per label, None for untouched


class EditWorker(Brief):
    """Edits groups of images, whose edits along one series fill a batch of pictures. An image's outcome has the part
    "edits": name of a series -> `Edited`; where `described` has an "animation" (`lsap_jax.editing.animation`) "frames":
    name -> uint8 [F, S, S, C]; and where identities are measured the metrics of `lsap_jax.editing.identity_kept`.
    """

    def __init__(
        self,
        G: Generator,
        space: Space,
        series: Sequence[Series],
        batch_size: int,
        described: Mapping[str, Any],
        devices: Sequence[jax.Device] | None = None,
        identity: IdentityMeter | None = None,
        feather: float = FEATHER,
    ) -> None:
        """
        Args:
            batch_size: pictures rendered at once, over all devices.
            described: the settings that edit.json records beside the devices.
            identity: compares the faces of edits with those of the jobs' pictures, on the first device.
            feather: of the masks that jobs may have, to which their edits are limited (`limits.feathered`).
        """
        self.G, self.space, self.series, self.described = G, space, series, described
        self.identity, self.feather = identity, feather
        self.batch_size = batch_size
        self.devices = list(devices or jax.local_devices())
        self._draw = renderer(G, space, batch_size, self.devices)

    def batches(self, count: int) -> Iterator[range]:
        return batches_of(count, group_size(self.describe()))

    def describe(self) -> dict[str, Any]:
        own = {"batch_size": self.batch_size, "devices": [str(device) for device in self.devices]}
        return {**self.described, **own, "versions": versions()}

    def __call__(
        self,
        jobs: Sequence[FinishedJob | None],
        report: StepReport | None = None,
        flight: Path | None = None,
        stop: Stop = never,
    ) -> list[Outcome]:
        left = {job.id: faded_in(job, self.feather) for job in jobs if job is not None}
        failed: dict[str, Failed] = {}
        edits: dict[str, dict[str, Edited]] = {id: {} for id in left}
        frames: dict[str, dict[str, np.ndarray]] = {id: {} for id in left}
        metrics: dict[str, dict[str, float]] = {id: {} for id in left}
        faces: dict[str, np.ndarray] = {}
        if self.identity is not None:
            vectors = self.identity.faces(pictures_of(list(left.values())), self.batch_size)
            faces = dict(zip(left, vectors, strict=True))
            if self.identity.detector is not None:
                metrics = {id: {FACE: float(np.isfinite(vector).all())} for id, vector in faces.items()}
        for number, s in enumerate(self.series):
            if number and stop():
                raise Preempted(f"stopped after {number} of {len(self.series)} directions of a group of images")
            if own := [job for job in left.values() if s.only in (None, job.id)]:
                moving = self._frames(s, own)
                for job, one, way in zip(own, edited(s, own, self._draw), moving, strict=True):
                    if one is None or way is None:
                        failed[job.id] = Failed(f"{s.name}: a picture is not finite; take smaller strengths")
                        del left[job.id]
                    else:
                        edits[job.id][s.name] = one
                        frames[job.id][s.name] = way
                if self.identity is not None:
                    own_edits = {job.id: edits[job.id][s.name] for job in own if job.id in left}
                    for id, found in similarities(self.identity, s, faces, own_edits, self.batch_size).items():
                        metrics[id] |= found
            if report is not None:
                report(number + 1, len(self.series), float("nan"))
        return [
            None
            if job is None
            else failed.get(job.id)
            or Result(parts={"edits": edits[job.id], "frames": frames[job.id]}, metrics=metrics[job.id])
            for job in jobs
        ]

    def _frames(self, s: Series, jobs: Sequence[FinishedJob]) -> list[np.ndarray | None]:
        """`frames` of an animation, if there is one."""
        animation = self.described.get("animation")
        if animation is None or not s.is_continuous:
            return [np.zeros((0, 0, 0, 0), np.uint8) for _ in jobs]
        places = places_between(s.places, animation["frames"])
        return frames_along(s, places, jobs, self._draw, self.batch_size, animation["side"])

    def shipment(self) -> Callable[[], "EditWorker"]:
        arguments = (self.G, self.space, self.series, self.batch_size, self.described)
        return partial(EditWorker, *arguments, identity=self.identity, feather=self.feather)


def group_size(edit: Record) -> int:
    """Images that are edited together: with the most strengths of a series they fill a batch, and with those of all
    series they take no more than `HELD` bytes.

    Args:
        edit: what edit.json holds.
    """
    labels = [len(s["labels"]) for s in edit["series"]]
    side = edit["generator"]["img_resolution"]
    held = sum(labels) * side * side * 3
    if "animation" in edit:
        held += len(labels) * edit["animation"]["frames"] * min(side, edit["animation"]["side"]) ** 2 * 3
    return max(1, min(edit["batch_size"] // max(labels), HELD // held))


def faded_in(job: FinishedJob, feather: float) -> FinishedJob:
    """The job with its mask, if it has one, feathered."""
    return job if job.mask is None else replace(job, mask=feathered(job.mask, feather))


def limited(job: FinishedJob, picture: np.ndarray) -> np.ndarray:
    """An edited picture of a job, uint8 [R, R, C], laid over the target by the job's mask if it has one."""
    return picture if job.mask is None else laid_over(job.image, picture, job.mask)


def edited(s: Series, jobs: Sequence[FinishedJob], draw: Draw) -> list[Edited | None]:
    """The edits of each image along a series; None if a picture is not finite."""
    places = [k for k in range(len(s.labels)) if k != s.untouched]
    codes = codes_of(jobs)
    moved = {k: s.codes(k, codes) for k in places}
    if not moved:
        return [[None] for _ in jobs]
    together = {key: np.concatenate([moved[k][key] for k in places]) for key in moved[places[0]]}
    refinements = [job.refinement for job in jobs] * len(places)
    drawn = by_signature(lambda own, codes: draw(codes, own), refinements, together)
    pictures = dict(zip(places, drawn.reshape(len(places), len(jobs), *drawn.shape[1:]), strict=True))
    return [
        [
            None
            if k == s.untouched
            else ({key: a[i] for key, a in moved[k].items()}, limited(job, to_uint8(pictures[k][i])))
            for k in range(len(s.labels))
        ]
        if all(np.isfinite(pictures[k][i]).all() for k in places)
        else None
        for i, job in enumerate(jobs)
    ]


def frames_along(
    s: Series, places: Sequence[float], jobs: Sequence[FinishedJob], draw: Draw, batch_size: int, side: int
) -> list[np.ndarray | None]:
    """The pictures of each image at these places of a series, as many at once as fill a batch: uint8 [F, S, S, C] of at
    most `side` px, limited to the image's mask at all of them; None if a picture is not finite.
    """
    codes, finite = codes_of(jobs), np.ones(len(jobs), bool)
    found: list[list[np.ndarray]] = [[] for _ in jobs]
    step = max(1, batch_size // len(jobs))
    for start in range(0, len(places), step):
        some = places[start : start + step]
        moved = [s.at(place, codes) for place in some]
        together = {key: np.concatenate([one[key] for one in moved]) for key in moved[0]}
        refinements = [job.refinement for job in jobs] * len(some)
        drawn = by_signature(lambda own, codes: draw(codes, own), refinements, together)
        pictures = drawn.reshape(len(some), len(jobs), *drawn.shape[1:])
        finite &= np.isfinite(pictures).all(axis=(0, 2, 3, 4))
        for job, frames, own, whole in zip(jobs, found, pictures.swapaxes(0, 1), finite, strict=True):
            frames += [reduced(limited(job, to_uint8(picture)), side) for picture in own if whole]
    return [np.stack(frames) if whole else None for frames, whole in zip(found, finite, strict=True)]


def similarities(
    meter: IdentityMeter, s: Series, faces: Mapping[str, np.ndarray], edits: Mapping[str, Edited], batch_size: int
) -> dict[str, dict[str, float]]:
    """Identities that edits along a series have kept: id -> metric -> similarity, where both pictures have a face.

    Args:
        faces: id -> [D], the embedding of the reconstruction, NaN where it has no face.
        edits: by id.
    """
    moved = {(id, k): one[1] for id, some in edits.items() for k, one in enumerate(some) if one is not None}
    seen = dict(zip(moved, meter.faces(list(moved.values()), batch_size), strict=True))
    found = {}
    for id in edits:
        after = np.stack([seen.get((id, k), faces[id]) for k in range(len(s.labels))])
        values = kept(np.broadcast_to(faces[id], after.shape), after)["identity"]
        labelled = zip(s.labels, values, strict=True)
        found[id] = {metric(s.name, label): float(value) for label, value in labelled if not np.isnan(value)}
    return found
