"""Computes images into a results folder, resumable and with any engine: shares, batches, and the summary at the end.

Every command that works image by image goes through `work`: invert, encode, refine, edit, evaluate and align. They
differ in the worker that computes, in the images, and in what is saved of a result, and where.
"""

import collections.abc
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from lsap_jax.configuration import filled
from lsap_jax.data import ImageError
from lsap_jax.errors import LsapError
from lsap_jax.inversion.jobs import Job
from lsap_jax.refinement.methods import REFINERS
from lsap_jax.runs.processor import difference, processor
from lsap_jax.runs.saving import Clock, Progress, Save, Saver, save_result
from lsap_jax.runs.stream import Batch, Engine, flowing, local
from lsap_jax.runs.worker import Make, Stop, never
from lsap_jax.storage.flight import FLIGHTS, drop_flight
from lsap_jax.storage.run_folder import Conclude, RunFolder, put_together, untouched
from lsap_jax.storage.shards import Shard

ENGINES = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Outcome of a run: images done (earlier ones included), failed, skipped because finished earlier.

    Attributes:
        whole: False where other shards are still writing, and the last of them will put everything together.
        left: images, of all shards, that are neither done nor failed although no shard is at work.
    """

    done: int
    failed: int
    skipped: int
    out: Path
    whole: bool = True
    left: int = 0


class Images(Protocol):
    """What is computed, one by one: a `Source`, or finished images of a run."""

    @property
    def ids(self) -> Sequence[str]:
        """Names in the results, known before anything is loaded."""

    @property
    def inputs(self) -> Sequence[str]:
        """Where each comes from, for people."""

    def __len__(self) -> int: ...

    def sha256(self, index: int) -> str:
        """Of the input of an image, without loading it. Raises ImageError where it cannot be read."""

    def stream(self, indices: Sequence[int], *, ahead: int) -> Iterator[tuple[int, Any]]:
        """(index, item or `ImageError`) in order, loaded ahead; an item has `id`, `sha256` and `notes`."""


class Place(NamedTuple):
    """A kind of results folder.

    Attributes:
        open: (path, settings, part="") to the folder, a context that has the methods of `RunFolder` but for the way in
            which an image is saved.
        untouched: (path, ids) to the ids that are neither done nor failed.
    """

    open: Callable[..., Any]
    untouched: Callable[[Path, Iterable[str]], set[str]] = untouched


def completed(record: dict[str, Any]) -> dict[str, Any]:
    """What run.json records, with the settings that the version did not know which wrote it."""
    found = {**record, "config": filled(record.get("config", {}))}
    refinement = record.get("refinement", {})
    if (method := REFINERS.get(refinement.get("method", ""))) is not None:
        found["refinement"] = {**refinement, "options": {**method.options, **refinement.get("options", {})}}
    return found


RUN_PLACE = Place(partial(RunFolder.open, complete=completed))


def job_of(item: Any) -> Job:
    """An image with its mask as a job."""
    return Job(id=item.id, image=item.image, mask=item.mask)


def work(
    make: Make,
    source: Images,
    out: str | Path,
    *,
    job: Callable[[Any], Any] = job_of,
    save: Save = save_result,
    place: Place = RUN_PLACE,
    check: Callable[[Any, Sequence[str]], None] | None = None,
    shard: Shard | None = None,
    engine: str = "local",
    actors: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Stop = never,
    conclude: Conclude | None = None,
    recheck: bool = False,
) -> Summary:
    """Computes every image of a source into the folder `out`, or finishes the folder that is there.

    Batches are formed from the source's order; one with an unfinished image is computed again as it was, so that a
    resumed run gives the same bytes as an uninterrupted one. Results are written while the next batch is computed.

    Several processes may each take a shard of the same run, at once or one after another, on machines that share the
    folder. They do not communicate: one that dies loses only its images in flight, and a later run, with any number of
    shards or without, finishes the rest.

    Args:
        make: makes the worker.
        job: from a loaded item to what the worker gets; it has the item's id.
        save: saves a result.
        place: the kind of the folder.
        check: called with the folder, when it is open, and the ids of this process's images; raises LsapError.
        shard: the share of this process; None is everything, by this process alone. All shards take the same batch
            size, else some batches belong to no shard and wait for the next run.
        engine: "local" computes on this process's devices; "ray" has the actors of a Ray cluster compute a batch each,
            while this process alone reads the images and writes the folder (see `lsap_jax.runs.ray_engine`).
        actors: their number; None is one per GPU of the cluster, or one per node where it has none.
        progress: called after every chunk of steps; with Ray, after every batch.
        stop: called between chunks; once it returns true, what is done is saved, of the batch under way, too, where the
            worker can, and a later run goes on. With Ray, a later run computes the batches under way anew.
        conclude: called with `out` when everything so far is put together, as in `RunFolder.finish`; a shard calls it
            only when no other shard is at work.
        recheck: look at the inputs of all finished images, not only of those in batches that are computed again: for
            sources that tell the SHA-256 at once.

    Raises:
        Preempted: `stop` returned true.
        LsapError: the folder belongs to another run, a result or an input has changed, the disk is full, ….
    """
    with _open_engine(engine, make, actors, shard, stop) as opened:
        batches = [list(batch) for batch in opened.worker.batches(len(source))]
        own = [batch for k, batch in enumerate(batches) if shard is None or shard.owns(k)]
        mine = [source.ids[i] for batch in own for i in batch]
        described = {**opened.worker.describe(), **opened.record, "processor": processor()}
        with place.open(out, described, part=shard.name if shard else "") as folder:
            if check is not None:
                check(folder, mine)
            finished = folder.finished(ids=mine)
            if recheck:
                _check_inputs(folder, source, finished)
            clock = Clock(total=len(mine), done=len(finished), report=progress)
            pending = [batch for batch in own if any(source.ids[i] not in finished for i in batch)]
            if finished and pending:
                _warn_of_another_processor(folder, described)
            most = max(map(len, pending), default=0)
            with ThreadPoolExecutor(2, thread_name_prefix="lsap-write") as writers:
                saver = Saver(folder, clock, finished, most, writers, save)
                _compute(opened, source, pending, job, saver, stop)
            if shard is None:
                folder.finish(conclude)
                drop_flight(folder.path / FLIGHTS)
            failed = sum(id in folder.failures() for id in mine)
    whole = shard is None or put_together(out, described, conclude, place.open)
    return Summary(
        done=len(mine) - failed,
        failed=failed,
        skipped=len(finished),
        out=Path(out),
        whole=whole,
        left=len(place.untouched(Path(out), source.ids)) if whole and shard is not None else 0,
    )


def _check_inputs(folder: Any, source: Images, finished: Mapping[str, Any]) -> None:
    for index, id in enumerate(source.ids):
        if id in finished:
            folder.check_input(id, source.sha256(index), source.inputs[index])


def _warn_of_another_processor(folder: Any, described: Mapping[str, Any]) -> None:
    if differs := difference(folder.run.get("processor", {}), described["processor"]):
        warnings.warn(
            f"{folder.path}: was begun on another processor ({differs}); images that are computed now may differ in "
            "their last digits from what that one would have made",
            stacklevel=3,
        )


def _open_engine(
    name: str, make: Make, actors: int | None, shard: Shard | None, stop: Stop
) -> AbstractContextManager[Engine]:
    if name not in ENGINES:
        raise LsapError(f"engine={name!r}: choose one of {', '.join(ENGINES)}")
    if name == "local":
        if actors is not None:
            raise LsapError(f"actors={actors}: is for engine='ray'")
        worker = make(None)
        return nullcontext(local(worker) if worker.flow is None else flowing(worker, worker.flow))
    if shard is not None:
        raise LsapError("engine='ray' distributes a run by itself; leave out the shard")
    from lsap_jax.runs.ray_engine import open_ray

    return open_ray(make, actors, stop)


def _compute(
    engine: Engine,
    source: Images,
    pending: Sequence[Sequence[int]],
    job: Callable[[Any], Any],
    saver: Saver,
    stop: Stop,
) -> None:
    """Computes the unfinished batches with the engine and saves them in the folder."""

    def report(step: int, steps: int, loss: float) -> None:
        saver.clock.chunk(step, steps, loss)
        saver.collect()  # a full disk is reported now, not when the batch under way is over

    try:
        with closing(_batches(source, pending, job, saver)) as batches:
            for computed in engine.compute(batches, saver.folder.path, report, stop):
                saver.add(computed, source.inputs)
    except Exception:
        saver.settle()  # whatever the error, computed results are saved, and a full disk is reported first
        raise
    saver.settle()


def _batches(
    source: Images, pending: Sequence[Sequence[int]], job: Callable[[Any], Any], saver: Saver
) -> collections.abc.Generator[Batch, None, None]:
    """The batches, their images loaded ahead; images that cannot be used are recorded as failed."""
    folder, clock = saver.folder, saver.clock
    ahead = max(map(len, pending), default=0)  # so that the next batch is there when this one is done
    stream = source.stream([i for indices in pending for i in indices], ahead=ahead)
    for indices in pending:
        items = tuple(next(stream)[1] for _ in indices)
        jobs: list[Any] = []
        for index, item in zip(indices, items, strict=True):
            if isinstance(item, ImageError):
                folder.fail(source.ids[index], item.reason, source.inputs[index])
                clock.fail()
                jobs.append(None)
            else:
                folder.check_input(item.id, item.sha256, source.inputs[index])
                jobs.append(job(item))
        if any(one is not None for one in jobs):
            batch = Batch(indices=tuple(indices), items=items, jobs=tuple(jobs))
            clock.begin(saver.unfinished(batch))
            yield batch
        else:
            clock.tell()
