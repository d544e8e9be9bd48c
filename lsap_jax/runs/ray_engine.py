"""Batches of a run as tasks for the actors of a Ray cluster: `--engine ray`.

The driver alone reads the images and writes the run folder, so nodes share no file system with it, and a batch that is
computed twice changes nothing. An actor holds the inverter on its devices; generator and configuration come to it
through the object store. Ray places the actors, moves the data, notices deaths and starts actors again, on another
node where it has to. What a dead one had under way goes to whichever is free: tied to its actor, as Ray would do it by
`max_task_retries`, it would wait for a node that may never come back.
"""

import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from lsap_jax.cache import keep_compilations
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import Inverted, Inverter, Job, StepReport
from lsap_jax.inversion.memory import explained
from lsap_jax.models.generator import Generator
from lsap_jax.runs.stream import Batch, Computed, Engine, Stop
from lsap_jax.storage.flight import Preempted

SLOTS = 2  # batches per actor in flight: the next one is there when one is done, and memory is bounded
POLL = 1.0  # seconds between looks at what else happens
PATIENCE = 60.0  # seconds without any actor after which the user is told
ATTEMPTS = 5  # of a batch: who kills five actors would kill them all
LOST = ("RayActorError", "WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "ObjectLostError")


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """What an actor needs, as values.

    Attributes:
        G: with numpy leaves.
        config: as a dictionary.
        weights: bytes of the file of `config.perceptual.weights` as uint8, which Ray does not copy, or none.
    """

    G: Generator
    config: dict[str, Any]
    weights: np.ndarray


class InversionActor:
    """Computes batches on the devices that Ray gave to its process."""

    # Nothing is given to the constructor: Ray would report its errors as a death, and does not keep for a restart what
    # lies in the object store. There, it costs nothing to come with every call.
    def __init__(self) -> None:
        self.inverter: Inverter | None = None

    def ready(self, shipment: Shipment) -> dict[str, Any]:
        """Prepares the inverter; what run.json says of its devices."""
        inverter = self._inverter(shipment)
        return {"devices": [str(device) for device in inverter.devices], "batch_size": inverter.batch_size}

    def compute(self, shipment: Shipment, jobs: Sequence[Job | None]) -> list[Inverted | None]:
        """As `Inverter.__call__`.

        Raises:
            LsapError: the batch does not fit into the memory of the device.
        """
        inverter = self._inverter(shipment)
        try:
            return inverter(jobs)
        except Exception as error:
            raise explained(error, inverter) from None

    def _inverter(self, shipment: Shipment) -> Inverter:
        if self.inverter is None:
            keep_compilations()
            for name in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"):
                text = os.environ[name.upper()]
                jax.config.update(name, float(text) if name.endswith("secs") else text or None)
            config = ConfigDict(shipment.config)
            with TemporaryDirectory(prefix="lsap-jax-") as folder:
                if shipment.weights.size:
                    file = Path(folder) / "perceptual.safetensors"
                    file.write_bytes(shipment.weights.tobytes())
                    config.perceptual.weights = str(file)
                self.inverter = Inverter(shipment.G, config)
        return self.inverter


@dataclass(frozen=True, kw_only=True)
class Task:
    """A batch to compute, and how many actors were lost with it."""

    batch: Batch
    lost: int = 0


@contextmanager
def open_ray(G: Generator, config: ConfigDict, actors: int | None, stop: Stop) -> Iterator[Engine]:
    """Actors on the cluster that RAY_ADDRESS names or this machine runs; on a cluster of this process's own where
    there is none. They end with the context.

    Args:
        actors: how many; None is one per GPU, or one per node where there is no GPU. Those that find no place yet join
            in as soon as they do.
        stop: asked while waiting for the first one.

    Raises:
        LsapError: Ray is not installed, the cluster does not answer, or configuration and generator do not go together.
        Preempted: it was stopped before an actor was there.
    """
    ray = _import_ray()
    if actors is not None and actors < 1:
        raise LsapError(f"actors={actors}: needs to be 1 or more")
    # Checks the arguments, too. Accelerators of this machine belong to actors.
    inverter = Inverter(G, config, devices=jax.local_devices(backend="cpu")[:1])
    with _connected(ray):
        crew = Crew(ray, ray.put(_shipment(G, inverter)), _hire(ray, actors))
        try:
            yield Engine(inverter=inverter, compute=partial(_compute, crew), record=crew.first(stop))
        finally:
            crew.dismiss()


def _import_ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise LsapError(f"engine='ray' needs Ray ({error}): pip install 'lsap-jax[ray]'") from None
    return ray


@contextmanager
def _connected(ray: ModuleType) -> Iterator[None]:
    """Connected to a cluster; as before at the end."""
    if ray.is_initialized():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            # Ray forks to start a program at once, which needs none of jax's threads.
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


def _shipment(G: Generator, inverter: Inverter) -> Shipment:
    file = inverter.config.perceptual.weights
    weights = Path(file).read_bytes() if inverter.perceptual_record["network"].startswith("lpips") else b""
    G = G.replace(statistics=inverter.statistics or G.statistics)
    return Shipment(
        G=jax.tree.map(np.asarray, G),
        config=inverter.config.to_dict(),
        weights=np.frombuffer(weights, np.uint8),
    )


def _hire(ray: ModuleType, actors: int | None) -> list[Any]:
    """Handles of the actors; Ray starts them where and when it can."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    nodes = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
    kind = ray.remote(InversionActor).options(
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
    """Actors and what they have to do. Every actor has `SLOTS` slots; a slot waits for its actor to be ready, computes
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
        """What the first actor says that it is; errors as `open_ray`."""
        waited = 0.0
        while not (done := self.over(wait=True)):
            if stop():
                raise Preempted("stopped before a Ray actor was there")
            waited += POLL
            if waited == PATIENCE:
                said = "waiting for Ray to find a place for an actor; `ray status` says what it lacks"
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
        """Take these batches upon them."""
        self.tasks = (Task(batch=batch) for batch in batches)
        self.following = next(self.tasks, None)

    def left(self) -> bool:
        """Whether anything is still to be computed."""
        return bool(self.following or self.again or any(task for _, task in self.pending.values()))

    def hand_out(self) -> None:
        """Work for every free slot, as long as there is some."""
        while self.free and (self.again or self.following):
            task = self.again.popleft() if self.again else self.following
            if task is self.following:
                self.following = next(self.tasks, None)
            assert task is not None
            actor = self.free.popleft()
            self.pending[actor.compute.remote(self.shipped, task.batch.jobs)] = actor, task

    def over(self, wait: bool) -> list[Any]:
        """What is over by now; waits a moment for one where it may."""
        if not self.pending:
            raise LsapError("every Ray actor was lost for good; what is finished is kept: run the same command again")
        count = 1 if wait else len(self.pending)
        return self.ray.wait(list(self.pending), num_returns=count, timeout=POLL if wait else 0)[0]

    def take(self, reference: Any) -> Computed | None:
        """What came of a slot's work; None where it was only getting ready, or is to be done again."""
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
    """The task to try again; it is an error where that was tried often enough."""
    first = next(job.id for job in task.batch.jobs if job is not None)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if task.lost + 1 == ATTEMPTS:
        raise LsapError(
            f"the batch of {first!r} was lost with its actor {ATTEMPTS} times ({reason}); what is finished is kept: "
            "look into Ray's logs (/tmp/ray), perhaps for a lack of memory, and try a smaller batch_size"
        ) from error
    warnings.warn(f"a Ray actor was lost; the batch of {first!r} is computed again ({reason})", stacklevel=2)
    return replace(task, lost=task.lost + 1)


def _mean_loss(results: Sequence[Inverted | None]) -> float:
    losses = [float(result.curve["loss"][-1]) for result in results if result is not None]
    finite = [loss for loss in losses if np.isfinite(loss)]
    return float(np.mean(finite)) if finite else float("nan")
