"""Computes images into a results folder, resumable and with any engine: shares, batches, and the summary at the end.
Edits, which no worker makes, have `share_of` in common with runs.
"""

import collections.abc
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.data import ImageError, Source
from lsap_jax.errors import LsapError
from lsap_jax.inversion.jobs import Job
from lsap_jax.runs.processor import difference, processor
from lsap_jax.runs.saving import Clock, Progress, Saver
from lsap_jax.runs.stream import Batch, Engine, flowing, local
from lsap_jax.runs.worker import Make, Stop, never
from lsap_jax.storage.flight import FLIGHTS, drop_flight
from lsap_jax.storage.run_folder import RUNS, Conclude, Kind, RunFolder, put_together, untouched
from lsap_jax.storage.shards import Shard

ENGINES = ("local", "ray")
Start = Mapping[str, Mapping[str, np.ndarray]]


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


@dataclass(frozen=True, kw_only=True)
class Share:
    """The work of one process.

    Attributes:
        folder: open for writing.
        ids: of its images, finished or not.
        finished: ids of finished images, with their records.
        pending: the batches with an unfinished image, as indices; they are computed whole, as they were.
        clock: counts these images.
    """

    folder: RunFolder
    ids: Sequence[str]
    finished: Mapping[str, Any]
    pending: Sequence[Sequence[int]]
    clock: Clock


def share_of(
    out: str | Path,
    described: Mapping[str, Any],
    ids: Sequence[str],
    batches: collections.abc.Iterable[Sequence[int]],
    compute: Callable[[Share], None],
    *,
    kind: Kind = RUNS,
    shard: Shard | None = None,
    progress: Callable[[Progress], None] | None = None,
    conclude: Conclude | None = None,
) -> Summary:
    """Computes and saves the share of this process; the last process puts everything together.

    Args:
        out: the folder.
        described: the settings that the folder records.
        ids: of all images.
        batches: of all images, as indices.
        compute: computes what is pending and saves it in the folder of the share.
        kind: of the folder.
        shard: the share of this process; None is everything, by this process alone.
        progress: called by the clock of the share.
        conclude: see `RunFolder.finish`; a shard calls it only when no other shard is at work.

    Raises:
        LsapError: the folder belongs to other settings, a result has changed, the disk is full, ….
    """
    own = [list(batch) for k, batch in enumerate(batches) if shard is None or shard.owns(k)]
    mine = [ids[i] for batch in own for i in batch]
    with RunFolder.open(out, described, part=shard.name if shard else "", kind=kind) as folder:
        finished = folder.finished(ids=mine)
        clock = Clock(total=len(mine), done=len(finished), report=progress)
        pending = [batch for batch in own if any(ids[i] not in finished for i in batch)]
        compute(Share(folder=folder, ids=mine, finished=finished, pending=pending, clock=clock))
        if shard is None:
            folder.finish(conclude)
            drop_flight(folder.path / FLIGHTS)
        failed = sum(id in folder.failures() for id in mine)
    whole = shard is None or put_together(out, described, conclude, kind)
    return Summary(
        done=len(mine) - failed,
        failed=failed,
        skipped=len(finished),
        out=Path(out),
        whole=whole,
        left=len(untouched(out, ids)) if whole else 0,
    )


def work(
    make: Make,
    source: Source,
    out: str | Path,
    *,
    start: Start | None = None,
    shard: Shard | None = None,
    engine: str = "local",
    actors: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Stop = never,
    conclude: Conclude | None = None,
    recheck: bool = False,
) -> Summary:
    """Computes every image of a source into the run folder `out`, or finishes the run that is there.

    Batches are formed from the source's order; one with an unfinished image is computed again as it was, so that a
    resumed run gives the same bytes as an uninterrupted one. Results are written while the next batch is computed.

    Several processes may each take a shard of the same run, at once or one after another, on machines that share the
    folder. They do not communicate: one that dies loses only its images in flight, and a later run, with any number of
    shards or without, finishes the rest.

    Args:
        make: makes the worker.
        start: codes by id, as `Job.start`.
        shard: the share of this process; None is everything, by this process alone. All shards take the same batch
            size, else some batches belong to no shard and wait for the next run.
        engine: "local" computes on this process's devices; "ray" has the actors of a Ray cluster compute a batch each,
            while this process alone reads the images and writes the folder (see `lsap_jax.runs.ray_engine`).
        actors: their number; None is one per GPU of the cluster, or one per node where it has none.
        progress: called after every chunk of steps; with Ray, after every batch.
        stop: called between chunks; once it returns true, the batch under way is saved, and a later run continues it.
            With Ray, what is finished is saved and a later run computes the batches under way anew.
        conclude: called with `out` when everything so far is put together, as in `RunFolder.finish`; a shard calls it
            only when no other shard is at work.
        recheck: look at the inputs of all finished images, not only of those in batches that are computed again: for
            sources that tell the SHA-256 at once.

    Raises:
        Preempted: `stop` returned true.
        LsapError: the folder belongs to another run, a result or an input has changed, the disk is full, ….
    """
    with _open_engine(engine, make, actors, shard, stop) as opened:
        batches = opened.worker.batches(len(source))
        described = {**opened.worker.describe(), **opened.record, "processor": processor()}
        options: dict[str, Any] = {"shard": shard, "progress": progress, "conclude": conclude}

        def compute(share: Share) -> None:
            recorded = share.folder.run.get("processor", {})
            if share.finished and share.pending and (differs := difference(recorded, described["processor"])):
                warnings.warn(
                    f"{out}: was begun on another processor ({differs}); images that are computed now may differ in "
                    "their last digits from what that one would have made",
                    stacklevel=2,
                )
            for index in range(len(source)) if recheck else ():
                if source.ids[index] in share.finished:
                    share.folder.check_input(source.ids[index], source.sha256(index), source.inputs[index])
            most = max(map(len, share.pending), default=0)
            with ThreadPoolExecutor(2, thread_name_prefix="lsap-write") as writers:
                saver = Saver(share.folder, share.clock, share.finished, most, writers)
                _compute(opened, source, share.pending, start or {}, saver, stop)

        return share_of(out, described, source.ids, batches, compute, **options)


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
    engine: Engine, source: Source, pending: Sequence[Sequence[int]], start: Start, saver: Saver, stop: Stop
) -> None:
    """Computes the unfinished batches with the engine and saves them in the folder."""

    def report(step: int, steps: int, loss: float) -> None:
        saver.clock.chunk(step, steps, loss)
        saver.collect()  # a full disk is reported now, not when the batch under way is over

    try:
        with closing(_batches(source, pending, start, saver)) as batches:
            for computed in engine.compute(batches, saver.folder.path, report, stop):
                saver.add(computed, source.inputs)
    except Exception:
        saver.settle()  # whatever the error, computed results are saved, and a full disk is reported first
        raise
    saver.settle()


def _batches(
    source: Source, pending: Sequence[Sequence[int]], start: Start, saver: Saver
) -> collections.abc.Generator[Batch, None, None]:
    """The batches, their images loaded ahead; images that cannot be used are recorded as failed."""
    folder, clock = saver.folder, saver.clock
    ahead = max(map(len, pending), default=0)  # so that the next batch is there when this one is done
    stream = source.stream([i for indices in pending for i in indices], ahead=ahead)
    for indices in pending:
        items = tuple(next(stream)[1] for _ in indices)
        jobs: list[Job | None] = []
        for index, item in zip(indices, items, strict=True):
            if isinstance(item, ImageError):
                folder.fail(source.ids[index], item.reason, source.inputs[index])
                clock.fail()
                jobs.append(None)
            else:
                folder.check_input(item.id, item.sha256, source.inputs[index])
                jobs.append(Job(id=item.id, image=item.image, mask=item.mask, start=start.get(item.id)))
        if any(job is not None for job in jobs):
            batch = Batch(indices=tuple(indices), items=items, jobs=tuple(jobs))
            clock.begin(saver.unfinished(batch))
            yield batch
        else:
            clock.tell()
