"""Batches of a run as tasks for the actors of a Ray cluster: `--engine ray`.

The driver alone reads the images and writes the run folder, so nodes share no file system with it, and a batch that is
computed twice changes nothing. An actor holds a worker on its devices, made from a shipment in the object store. Ray
places the actors, moves the data, notices deaths and starts actors again, on another node where it has to. The batch
that a dead actor had under way goes to any free actor. Ray's `max_task_retries` would tie it to its own actor, where it
would wait for a node that may never come back.
"""

import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

from lsap_jax.cache import keep_compilations
from lsap_jax.compilation import compile_quickly
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import StepReport
from lsap_jax.inversion.jobs import Job
from lsap_jax.runs.stream import Batch, Computed, Engine
from lsap_jax.runs.worker import Make, Outcome, Result, Stop, Worker
from lsap_jax.storage.flight import Preempted

SLOTS = 2  # batches per actor in flight: the next one is there when one is done, and memory is bounded
POLL = 1.0  # seconds between checks for other events
PATIENCE = 60.0  # seconds without any actor after which the user is told
ATTEMPTS = 5  # of a batch: one that kills five actors would kill them all
Shipment = Callable[[], Worker]
LOST = ("RayActorError", "WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "ObjectLostError")


class WorkerActor:
    """Computes batches on the devices that Ray gave to its process."""

    # The constructor takes no argument: Ray would report its errors as a death, and does not keep arguments in the
    # object store for a restart. A shipment in the store can come with every call at no cost.
    def __init__(self) -> None:
        self.worker: Worker | None = None

    def ready(self, shipment: Shipment) -> dict[str, Any]:
        """Makes the worker; returns the entries of run.json about its devices."""
        worker = self._worker(shipment)
        return {"devices": [str(device) for device in worker.devices], "batch_size": worker.batch_size}

    def compute(self, shipment: Shipment, jobs: Sequence[Job | None]) -> list[Outcome]:
        """As `Worker.__call__`.

        Raises:
            LsapError: the batch does not fit into the memory of the device.
        """
        worker = self._worker(shipment)
        try:
            return worker(jobs)
        except Exception as error:
            raise worker.explained(error) from None

    def _worker(self, shipment: Shipment) -> Worker:
        if self.worker is None:
            keep_compilations()
            compile_quickly()
            for name in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"):
                text = os.environ[name.upper()]
                jax.config.update(name, float(text) if name.endswith("secs") else text or None)
            self.worker = shipment()
        return self.worker


@dataclass(frozen=True, kw_only=True)
class Task:
    """A batch to compute, and how many actors were lost with it."""

    batch: Batch
    lost: int = 0


@contextmanager
def open_ray(make: Make, actors: int | None, stop: Stop) -> Iterator[Engine]:
    """Actors on the cluster that RAY_ADDRESS names or this machine runs; on a cluster of this process's own where
    there is none. They end with the context.

    Args:
        make: makes the worker that actors copy.
        actors: how many; None is one per GPU, or one per node where there is no GPU. Actors without a place
            yet join as soon as they get one.
        stop: called while waiting for the first one.

    Raises:
        LsapError: Ray is not installed, the cluster does not answer, or the worker cannot be made.
        Preempted: `stop` returned true before an actor was ready.
    """
    if actors is not None and actors < 1:
        raise LsapError(f"actors={actors}: needs to be 1 or more")
    # This checks the arguments, too. It is on the CPU, as accelerators of this machine belong to actors.
    worker = make(jax.local_devices(backend="cpu")[:1])
    if worker.flow is not None:
        raise LsapError("engine='ray' computes whole batches: set converge.patience to 0, or take engine='local'")
    ray = _import_ray()
    with _connected(ray):
        crew = Crew(ray, ray.put(worker.shipment()), _hire(ray, actors))
        try:
            yield Engine(worker=worker, compute=partial(_compute, crew), record=crew.first(stop))
        finally:
            crew.dismiss()


def _import_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise LsapError(f"engine='ray' needs Ray ({error}): pip install '.[ray]' in lsap_jax's checkout") from None
    return ray


@contextmanager
def _connected(ray: ModuleType) -> Iterator[None]:
    """Connects to a cluster, and disconnects at the end unless there was a connection before."""
    if ray.is_initialized():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            # Ray forks only to start a program at once, which does not need jax's threads.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        address = os.environ.get("RAY_ADDRESS", "of this machine")
        raise LsapError(f"the Ray cluster {address} cannot be used: {first}; see `ray status`, RAY_ADDRESS") from error
    finally:
        if threading.current_thread() is threading.main_thread():  # Ray's own handler would end the process at once
            signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()


def _hire(ray: ModuleType, actors: int | None) -> list[Any]:
    """Handles of the actors; Ray starts them where and when it can."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    nodes = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
    kind = ray.remote(WorkerActor).options(
        num_gpus=1 if gpus else 0,
        max_restarts=-1,
        max_task_retries=0,
        scheduling_strategy="SPREAD",
    )
    return [kind.remote() for _ in range(actors or gpus or max(nodes, 1))]


def _value(ray: ModuleType, reference: Any) -> Any:
    """The value of a finished task; its error as it was raised in the actor."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise getattr(error, "cause", None) or error from error


def _compute(crew: "Crew", batches: Iterator[Batch], run: Path, report: StepReport, stop: Stop) -> Iterator[Computed]:
    """Every batch through an actor; `run` is not needed, as nothing but results is kept."""
    crew.begin(batches)
    loss = float("nan")
    while crew.left():
        crew.hand_out()
        stopped = stop()
        for reference in crew.over(wait=not stopped):
            computed = crew.take(reference)
            if computed is not None:
                loss = _mean_loss(computed.results)
                yield computed
        if stopped and crew.left():
            raise Preempted("stopped; the batches that Ray had under way will be computed anew")
        report(0, 0, loss)


class Crew:
    """The actors and their work. Every actor has `SLOTS` slots; a slot waits for its actor to be ready, computes
    one batch after another, and begins anew when its actor is lost.
    """

    def __init__(self, ray: ModuleType, shipped: Any, actors: Sequence[Any]) -> None:
        """`shipped` refers to a `Shipment` in the object store."""
        self.ray, self.shipped, self.actors = ray, shipped, actors
        self.lost = tuple(getattr(ray.exceptions, name) for name in LOST)
        self.tasks: Iterator[Task] = iter(())
        self.following: Task | None = None
        self.again: deque[Task] = deque()
        self.free: deque[Any] = deque()
        self.pending: dict[Any, tuple[Any, Task | None]] = {}
        for actor in [*actors] * SLOTS:
            self._prepare(actor)

    def _prepare(self, actor: Any) -> None:
        # Waits while Ray starts the actor, for the first time or again.
        self.pending[actor.ready.options(max_task_retries=-1).remote(self.shipped)] = actor, None

    def first(self, stop: Stop) -> dict[str, Any]:
        """The description that the first actor gives of itself; errors as `open_ray`."""
        waited = 0.0
        while not (done := self.over(wait=True)):
            if stop():
                raise Preempted("stopped before a Ray actor was ready")
            waited += POLL
            if waited == PATIENCE:
                said = "waiting for Ray to find a place for an actor; `ray status` shows which resources are missing"
                warnings.warn(said, stacklevel=2)
        try:
            return _value(self.ray, done[0])
        except self.ray.exceptions.RayActorError as error:
            reason = " ".join(str(error).split())
            raise LsapError(f"no Ray actor could start; is lsap-jax installed on every node? ({reason})") from error

    def dismiss(self) -> None:
        """End the actors."""
        for actor in self.actors:
            self.ray.kill(actor)

    def begin(self, batches: Iterator[Batch]) -> None:
        """Take these batches as the work to hand out."""
        self.tasks = (Task(batch=batch) for batch in batches)
        self.following = next(self.tasks, None)

    def left(self) -> bool:
        """Whether anything is still to be computed."""
        return bool(self.following or self.again or any(task for _, task in self.pending.values()))

    def hand_out(self) -> None:
        """Give every free slot work, as long as there is some."""
        while self.free and (self.again or self.following):
            task = self.again.popleft() if self.again else self.following
            if task is self.following:
                self.following = next(self.tasks, None)
            assert task is not None
            actor = self.free.popleft()
            self.pending[actor.compute.remote(self.shipped, task.batch.jobs)] = actor, task

    def over(self, wait: bool) -> list[Any]:
        """The tasks that have ended by now; with `wait`, a moment is spent waiting for one."""
        if not self.pending:
            raise LsapError("every Ray actor was lost for good; what is finished is kept: run the same command again")
        count = 1 if wait else len(self.pending)
        return self.ray.wait(list(self.pending), num_returns=count, timeout=POLL if wait else 0)[0]

    def take(self, reference: Any) -> Computed | None:
        """The outcome of a slot's task; None where it only made the actor ready, or has to be done again."""
        actor, task = self.pending.pop(reference)
        try:
            value = _value(self.ray, reference)
        except self.lost as error:
            if task is not None:
                self.again.append(_after(task, error))
            elif isinstance(error, self.ray.exceptions.ActorDiedError):
                return None  # Ray will not start it again
            self._prepare(actor)
            return None
        self.free.append(actor)
        return None if task is None else Computed(batch=task.batch, results=value)


def _after(task: Task, error: Exception) -> Task:
    """The task for another attempt. Raises LsapError after the last attempt."""
    first = next(job.id for job in task.batch.jobs if job is not None)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if task.lost + 1 == ATTEMPTS:
        raise LsapError(
            f"the batch of {first!r} was lost with its actor {ATTEMPTS} times ({reason}); what is finished is kept: "
            "look into Ray's logs (/tmp/ray) for the cause, perhaps a lack of memory, and try a smaller batch_size"
        ) from error
    warnings.warn(f"a Ray actor was lost; the batch of {first!r} is computed again ({reason})", stacklevel=2)
    return replace(task, lost=task.lost + 1)


def _mean_loss(results: Sequence[Outcome]) -> float:
    losses = [result.loss for result in results if isinstance(result, Result)]
    finite = [loss for loss in losses if np.isfinite(loss)]
    return float(np.mean(finite)) if finite else float("nan")
