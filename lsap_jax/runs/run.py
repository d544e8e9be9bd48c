"""A run: a source of images into a run folder, resumable, whoever does the computing."""

import collections.abc
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from lsap_jax.configuration import flat
from lsap_jax.data import ImageError, Source
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import Inverter, Job, versions
from lsap_jax.inversion.loop import metric_name
from lsap_jax.metrics.distortion import DESCRIPTIONS
from lsap_jax.models.generator import Generator, LatentStatistics
from lsap_jax.runs.flow import flowing
from lsap_jax.runs.saving import Clock, Progress, Saver
from lsap_jax.runs.stream import Batch, Engine, Stop, local
from lsap_jax.spaces.statistics import to_arrays
from lsap_jax.storage.flight import FLIGHTS, drop_flight
from lsap_jax.storage.run_folder import Conclude, RunFolder, put_together, untouched
from lsap_jax.storage.shards import Shard
from lsap_jax.storage.weights_file import digest

__all__ = ["ENGINES", "Progress", "Summary", "describe", "run"]

ENGINES = ("local", "ray")
Start = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What came of a run: images done (earlier ones included), failed, skipped because finished earlier.

    Attributes:
        whole: False where other shards are still writing, and the last of them will put everything together.
        left: images, of all shards, that are neither done nor failed although nobody is at work.
    """

    done: int
    failed: int
    skipped: int
    out: Path
    whole: bool = True
    left: int = 0


def run(
    G: Generator,
    source: Source,
    config: ConfigDict,
    out: str | Path,
    *,
    generator_name: str,
    start: Start | None = None,
    shard: Shard | None = None,
    engine: str = "local",
    actors: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Stop = lambda: False,
    conclude: Conclude | None = None,
) -> Summary:
    """Invert every image of a source into the run folder `out`, or finish the run that is there.

    Batches are formed from the source's order; one with an unfinished image is computed again as it was, so that a
    resumed run gives the same bytes as an uninterrupted one. Results are written while the next batch is computed.

    Several processes may each take a shard of the same run, at once or one after another, on machines that share the
    folder. They need no word from each other: one that dies loses its images in flight alone, and a later run, with any
    number of shards or without, finishes the rest.

    Args:
        generator_name: name or path to record.
        start: codes by id to begin from.
        shard: the share of this process; None is everything, by this process alone. All shards take the same batch
            size, else some batches are nobody's until the next run.
        engine: "local" computes on this process's devices; "ray" has the actors of a Ray cluster compute a batch each,
            while this process alone reads the images and writes the folder (see `lsap_jax.runs.ray_engine`).
        actors: how many of those there are; None is one per GPU of the cluster, or one per node where it has none.
        progress: called after every chunk of steps; with Ray, after every batch.
        stop: asked between chunks; once it is true, the batch under way is saved, and a later run goes on from there.
            With Ray, what is finished is saved and a later run computes the batches under way anew.
        conclude: called with `out` when everything so far is put together, as in `RunFolder.finish`; by a shard only
            where none is still at work.

    Raises:
        Preempted: it was stopped.
        LsapError: the folder belongs to another run, a result or an input has changed, the disk is full, ….
    """
    with _open_engine(engine, G, config, actors, shard, stop) as computer:
        inverter = computer.inverter
        described = {**describe(G, inverter, generator_name, start), **computer.record}
        share = [list(b) for k, b in enumerate(inverter.batches(len(source))) if shard is None or shard.owns(k)]
        ids = [source.ids[i] for indices in share for i in indices]
        with RunFolder.open(out, described, part=shard.name if shard else "") as folder:
            finished = folder.finished(ids=ids)
            clock = Clock(total=len(ids), done=len(finished), report=progress)
            pending = [indices for indices in share if any(source.ids[i] not in finished for i in indices)]
            most = max(map(len, pending), default=0)
            with ThreadPoolExecutor(2, thread_name_prefix="lsap-write") as writers:
                saver = Saver(folder, clock, finished, most, writers)
                _compute(computer, source, pending, start or {}, saver, stop)
            if shard is None:
                folder.finish(conclude)
                drop_flight(folder.path / FLIGHTS)
            failed = sum(id in folder.failures() for id in ids)
    whole = shard is None or put_together(out, described, conclude)
    return Summary(
        done=len(ids) - failed,
        failed=failed,
        skipped=len(finished),
        out=Path(out),
        whole=whole,
        left=len(untouched(out, source.ids)) if whole else 0,
    )


def _open_engine(
    name: str, G: Generator, config: ConfigDict, actors: int | None, shard: Shard | None, stop: Stop
) -> AbstractContextManager[Engine]:
    if name not in ENGINES:
        raise LsapError(f"engine={name!r}: choose one of {', '.join(ENGINES)}")
    if name == "local":
        if actors is not None:
            raise LsapError(f"actors={actors}: is for engine='ray'")
        inverter = Inverter(G, config)
        return nullcontext(flowing(inverter) if config.converge.patience else local(inverter))
    if config.converge.patience:
        raise LsapError("engine='ray' computes whole batches: set converge.patience to 0, or take engine='local'")
    if shard is not None:
        raise LsapError("engine='ray' shares a run out by itself; leave the shard away")
    from lsap_jax.runs.ray_engine import open_ray

    return open_ray(G, config, actors, stop)


def _compute(
    engine: Engine, source: Source, pending: Sequence[list[int]], start: Start, saver: Saver, stop: Stop
) -> None:
    """The unfinished batches through the engine into the folder."""

    def report(step: int, steps: int, loss: float) -> None:
        saver.clock.chunk(step, steps, loss)
        saver.collect()  # a full disk is told now, not when the batch under way is over

    try:
        with closing(_batches(source, pending, start, saver)) as batches:
            for computed in engine.compute(batches, saver.folder.path, report, stop):
                saver.add(computed, source.inputs)
    except Exception:
        saver.settle()  # whatever ended it, what was computed is saved, and a full disk is the first thing to tell
        raise
    saver.settle()


def _batches(
    source: Source, pending: Sequence[list[int]], start: Start, saver: Saver
) -> collections.abc.Generator[Batch, None, None]:
    """The batches, their images loaded ahead; what cannot be used is noted as failed."""
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
                jobs.append(Job(id=item.id, image=item.image, start=start.get(item.id)))
        if any(job is not None for job in jobs):
            batch = Batch(indices=tuple(indices), items=items, jobs=tuple(jobs))
            clock.begin(saver.unfinished(batch))
            yield batch
        else:
            clock.tell()


def describe(G: Generator, inverter: Inverter, generator_name: str, start: Start | None) -> dict[str, Any]:
    """run.json: everything that decides the results, and no times."""
    config = inverter.config
    weights = flat(config.loss)
    metrics: dict[str, dict[str, Any]] = {
        name: {**DESCRIPTIONS[name], "network": None, "also_loss": name == "mse" and weights["mse"] > 0}
        for name in ("mse", "psnr", "ssim")
    }
    if inverter.perceptual is not None:
        record = {"formula": inverter.perceptual.description, "network": inverter.perceptual.name}
        also = weights["perceptual"] > 0
        metrics[metric_name(inverter.perceptual)] = {
            "range": "[-1, 1], clipped",
            "quantisation": "none",
            **record,
            "also_loss": also,
        }
    plain = config.to_dict()
    f_start = "encoder" if "basecode_images" in inverter.inputs else "w_avg"
    return {
        "config": plain,
        "space": inverter.space.name,
        "base_resolution": inverter.space.base_resolution if inverter.space.has_base else None,
        "f_start": f_start if inverter.space.has_base else None,
        "steps": config.steps,
        "seed": config.seed,
        "batch_size": inverter.batch_size,
        "devices": [str(device) for device in inverter.devices],
        "versions": versions(),
        "generator": {"name": generator_name, "sha256": G.sha256, "img_resolution": G.img_resolution},
        "perceptual": inverter.perceptual_record,
        "metrics": metrics,
        "start": "given codes" if start else None,
        "statistics": None if inverter.statistics is None else describe_statistics(inverter.statistics),
    }


def describe_statistics(statistics: LatentStatistics) -> dict[str, Any]:
    """What results record about latent statistics."""
    counts = {"samples": statistics.samples, "anchor_samples": statistics.anchor_samples}
    return {**counts, "sha256": digest(to_arrays(statistics))}
