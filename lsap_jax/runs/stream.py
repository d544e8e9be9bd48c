"""The contract of engines, batches in and outcomes out, and the engines of this process's devices."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsap_jax.inversion.inverter import StepReport
from lsap_jax.inversion.jobs import Job
from lsap_jax.runs.worker import Flow, Outcome, Stop, Worker
from lsap_jax.storage.flight import Preempted


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images that go into one computation, in its order.

    Attributes:
        indices: in the source.
        items: the loaded images, of any kind that has `id`, `sha256` and `notes`, or an `ImageError` that says why not.
        jobs: None where there is nothing to compute; at least one is a job.
    """

    indices: tuple[int, ...]
    items: tuple[Any, ...]
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
    """Outcomes of some images, of one batch or of several, in any order.

    Attributes:
        batch: the images.
        results: of each; None where there was no job.
        flight: file of a batch under way, which may be deleted as soon as these images and all earlier ones are saved.
    """

    batch: Batch
    results: Sequence[Outcome]
    flight: Path | None = None


# (batches, folder of the run, report, stop) to outcomes. It takes a batch when it can use one, and calls `report` after
# every chunk of steps. Once `stop` returns true, it yields what is finished and raises `Preempted`.
Compute = Callable[[Iterator[Batch], Path, StepReport, Stop], Iterator[Computed]]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Hands out the work.

    Attributes:
        worker: forms the batches; run.json describes it.
        compute: see `Compute`.
        record: entries of run.json that replace those of the worker.
    """

    worker: Worker
    compute: Compute
    record: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def explaining(worker: Worker) -> Iterator[None]:
    """Raises errors of the context as the worker explains them."""
    try:
        yield
    except Exception as error:
        if (explained := worker.explained(error)) is error:
            raise
        raise explained from error


def local(worker: Worker) -> Engine:
    """Batch after batch on the devices of this process. When it must stop, the worker saves the batch under way, or
    what is done of it is given out.
    """

    def compute(batches: Iterator[Batch], run: Path, report: StepReport, stop: Stop) -> Iterator[Computed]:
        for batch in batches:
            if stop():
                raise Preempted("stopped between two batches")
            flight = worker.flight_of(run, batch.jobs)
            try:
                with explaining(worker):
                    results = worker(batch.jobs, report, flight, stop)
            except Preempted as error:
                done = [i for i, outcome in enumerate(error.outcomes) if outcome is not None]
                if done:
                    yield Computed(batch=batch.pick(done), results=[error.outcomes[i] for i in done])
                raise
            yield Computed(batch=batch, results=results, flight=flight)

    return Engine(worker=worker, compute=compute)


def flowing(worker: Worker, flow: Flow) -> Engine:
    """Passes images of all batches through the slots of one batch on the devices of this process. Images under way at a
    stop are not saved: few steps are lost where images leave early.
    """

    def compute(batches: Iterator[Batch], run: Path, report: StepReport, stop: Stop) -> Iterator[Computed]:
        places: dict[str, Batch] = {}

        def jobs() -> Iterator[Job]:
            for batch in batches:
                for i, job in enumerate(batch.jobs):
                    if job is not None:
                        places[job.id] = batch.pick([i])
                        yield job

        with explaining(worker):
            for job, result in flow(jobs(), report, stop):
                yield Computed(batch=places.pop(job.id), results=[result])

    return Engine(worker=worker, compute=compute)
