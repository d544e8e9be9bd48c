"""Batches in, results out: what run.py asks of whoever does the computing, and the answer of this machine's devices."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsap_jax.data import ImageError, Item
from lsap_jax.inversion.inverter import Inverted, Inverter, Job, StepReport
from lsap_jax.storage.flight import Preempted

Stop = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images that go into one computation, in its order.

    Attributes:
        indices: in the source.
        items: as loaded, or why not.
        jobs: None where there is nothing to compute; at least one is a job.
    """

    indices: tuple[int, ...]
    items: tuple[Item | ImageError, ...]
    jobs: tuple[Job | None, ...]

    def pick(self, positions: Sequence[int]) -> "Batch":
        """Some of its images."""
        return Batch(
            indices=tuple(self.indices[i] for i in positions),
            items=tuple(self.items[i] for i in positions),
            jobs=tuple(self.jobs[i] for i in positions),
        )


@dataclass(frozen=True, kw_only=True)
class Computed:
    """Results of some images, of one batch or of several, in any order.

    Attributes:
        batch: the images.
        results: of each; None for an image without a single finite step, and where there was no job.
        flight: what may be forgotten as soon as these images, and all that came before them, are saved.
    """

    batch: Batch
    results: Sequence[Inverted | None]
    flight: Path | None = None


# Takes batches when it has use for them. With the folder of the run, whom to tell after every chunk of steps, and what
# says that it must stop; it raises `Preempted` then, when it has given what is finished.
Compute = Callable[[Iterator[Batch], Path, StepReport, Stop], Iterator[Computed]]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Who computes a run.

    Attributes:
        inverter: forms the batches, and is what run.json describes.
        compute: see `Compute`.
        record: what run.json says otherwise than the inverter.
    """

    inverter: Inverter
    compute: Compute
    record: Mapping[str, Any] = field(default_factory=dict)


def local(inverter: Inverter) -> Engine:
    """Batch after batch on the devices of this process; the batch under way is saved when it must stop."""

    def compute(batches: Iterator[Batch], run: Path, report: StepReport, stop: Stop) -> Iterator[Computed]:
        for batch in batches:
            if stop():
                raise Preempted("stopped between two batches")
            flight = inverter.flight_of(run, batch.jobs)
            yield Computed(batch=batch, results=inverter(batch.jobs, report, flight, stop), flight=flight)

    return Engine(inverter=inverter, compute=compute)
