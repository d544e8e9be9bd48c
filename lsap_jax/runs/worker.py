"""The contract of workers, which compute images for the engines that hand the work out and for the run folder.

A worker makes results of jobs: an inversion (`lsap_jax.runs.run`), an encoder, which is an inversion without a step, or
a refiner (`lsap_jax.runs.refining`); it edits codes (`lsap_jax.editing.edit_worker`), measures them
(`lsap_jax.runs.evaluation`) or finds faces (`lsap_jax.runs.align_faces`). Engines (`stream`, `flow`, `ray_engine`) hand
out batches and know workers by this contract alone; `work` has what comes back saved in a folder.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax

from lsap_jax.inversion.inverter import StepReport
from lsap_jax.inversion.jobs import Job

Stop = Callable[[], bool]


def never() -> bool:
    """Never stops."""
    return False


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of an image.

    Attributes:
        parts: what the command saves; of a run, values by part of its folder (`lsap_jax.storage.parts`) except the
            target: codes, images, ...
        metrics: numbers by name.
        flags: texts for the report about what went wrong on the way.
    """

    parts: Mapping[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    flags: Sequence[str] = field(default=())

    @property
    def loss(self) -> float:
        """The last value of the loss; NaN where nothing was minimised."""
        return float(self.parts.get("curves", {}).get("loss", [float("nan")])[-1])


@dataclass(frozen=True)
class Failed:
    """An image that could not be computed, and why."""

    reason: str


Outcome = Result | Failed | None  # None where there was no job


class Worker(Protocol):
    """Computes images in batches on the devices it was made for. No image's result depends on the others."""

    @property
    def devices(self) -> Sequence[jax.Device]:
        """The devices."""

    @property
    def batch_size(self) -> int:
        """The most jobs of one call: the configured batch size, rounded up to a multiple of the devices."""

    def batches(self, count: int) -> Iterable[range]:
        """Indices of each batch of `count` images: a resumed run forms the same ones."""

    def describe(self) -> dict[str, Any]:
        """The contents of run.json, or of its like: everything that decides the results, and no times."""

    def __call__(
        self,
        jobs: Sequence[Any],
        report: StepReport | None = None,
        flight: Path | None = None,
        stop: Stop = never,
    ) -> list[Outcome]:
        """Outcomes in the order of the jobs, each a `Job`, another job with an id, or None; at least one is a job.

        Args:
            report: called with the progress of the batch.
            flight: file of a batch under way: read at the start if it exists, written when `stop` returns true.
            stop: called from time to time.

        Raises:
            Preempted: `stop` returned true; the batch is saved, or the error has the outcomes of what is done.
        """

    def flight_of(self, run: Path, jobs: Sequence[Any]) -> Path | None:
        """File of this batch in a run folder when it has to stop; None where batches are too short to be saved."""

    @property
    def flow(self) -> "Flow | None":
        """Computes any number of jobs and gives each outcome as soon as it is there; None where whole batches are
        computed.
        """

    def shipment(self) -> Callable[[], "Worker"]:
        """A function that can be pickled with all its values; called in another process, it makes the worker on the
        devices of that process.
        """

    def explained(self, error: Exception) -> Exception:
        """The error to raise for a batch's error; where memory was short, it names the batch size that would fit."""


class Brief:
    """What workers have in common whose batches are computed whole and too quickly for a flight."""

    def flight_of(self, run: Path, jobs: Sequence[Any]) -> None:
        return None

    @property
    def flow(self) -> None:
        return None

    def explained(self, error: Exception) -> Exception:
        return error


class Flow(Protocol):
    """See `Worker.flow`."""

    def __call__(self, jobs: Iterable[Job], report: StepReport, stop: Stop, /) -> Iterator[tuple[Job, Outcome]]:
        """(job, outcome) in any order. Raises Preempted when `stop` returns true."""


# Makes a worker on some devices; None is all of this process.
Make = Callable[[Sequence[jax.Device] | None], Worker]
