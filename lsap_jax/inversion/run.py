"""A run: a source of images into a run folder, batch by batch, resumable."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from lsap_jax.configuration import flat
from lsap_jax.data import ImageError, Item, Source
from lsap_jax.generator import Generator, LatentStatistics
from lsap_jax.inversion.atomic import InUse
from lsap_jax.inversion.batch import Inverted, Inverter, Job, versions
from lsap_jax.inversion.flight import FLIGHTS, Preempted, drop_flight
from lsap_jax.inversion.loop import metric_name
from lsap_jax.inversion.results import RunFolder
from lsap_jax.inversion.shards import Shard
from lsap_jax.metrics.distortion import DESCRIPTIONS
from lsap_jax.statistics import to_arrays
from lsap_jax.weights_file import digest

Start = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands. `loss` is the mean of the batch under way; `eta_seconds` is None until a chunk was timed."""

    done: int
    failed: int
    total: int
    step: int
    steps: int
    images_per_second: float
    loss: float
    eta_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What came of a run: images done (earlier ones included), failed, skipped because finished earlier.

    Attributes:
        whole: False where other shards are still writing, and the last of them will put everything together.
    """

    done: int
    failed: int
    skipped: int
    out: Path
    whole: bool = True


def run(
    G: Generator,
    source: Source,
    config: ConfigDict,
    out: str | Path,
    *,
    generator_name: str,
    start: Start | None = None,
    shard: Shard | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Invert every image of a source into the run folder `out`, or finish the run that is there.

    Batches are formed from the source's order; one with an unfinished image is computed again as it was, so that a
    resumed run gives the same bytes as an uninterrupted one.

    Several processes may each take a shard of the same run, at once or one after another, on machines that share the
    folder. They need no word from each other: one that dies loses its images in flight alone, and a later run, with any
    number of shards or without, finishes the rest.

    Args:
        generator_name: name or path to record.
        start: codes by id to begin from.
        shard: the share of this process; None is everything, by this process alone. All shards take the same batch
            size, else some batches are nobody's until the next run.
        progress: called after every chunk of steps.
        stop: asked between chunks; once it is true, the batch under way is saved, and a later run goes on from there.

    Raises:
        Preempted: it was stopped.
        LsapError: the folder belongs to another run, a result or an input has changed, the disk is full, ….
    """
    inverter = Inverter(G, config)
    described = describe(G, inverter, generator_name, start)
    share = [b for k, b in enumerate(inverter.batches(len(source))) if shard is None or shard.owns(k)]
    ids = [source.ids[i] for batch in share for i in batch]
    with RunFolder.open(out, described, part=shard.name if shard else "") as folder:
        finished = folder.finished(ids=ids)
        skipped = len(finished)
        clock = Clock(total=len(ids), done=skipped, report=progress)
        pending = [list(b) for b in share if any(source.ids[i] not in finished for i in b)]
        stream = source.stream([i for indices in pending for i in indices])
        with ThreadPoolExecutor(2, thread_name_prefix="lsap-write") as writers:
            for indices in pending:
                if stop():
                    raise Preempted("stopped between two batches")
                items = [next(stream)[1] for _ in indices]
                _batch(inverter, folder, source, indices, items, start or {}, clock, writers, stop)
        if shard is None:
            folder.finish()
            drop_flight(folder.path / FLIGHTS)
        failed = sum(id in folder.failures() for id in ids)
    whole = shard is None or _put_together(out, described)
    return Summary(done=len(ids) - failed, failed=failed, skipped=skipped, out=Path(out), whole=whole)


def _put_together(out: str | Path, described: dict[str, Any]) -> bool:
    """What all shards have written so far as one; False where another one is still writing, which does it later."""
    try:
        with RunFolder.open(out, described) as folder:
            folder.finish()
    except InUse:
        return False
    return True


def _batch(
    inverter: Inverter,
    folder: RunFolder,
    source: Source,
    indices: list[int],
    items: list[Item | ImageError],
    start: Start,
    clock: "Clock",
    writers: ThreadPoolExecutor,
    stop: Callable[[], bool],
) -> None:
    """One batch: failures noted, the rest inverted, what is not finished yet saved."""
    finished = folder.finished(check=False)
    jobs: list[Job | None] = []
    for index, item in zip(indices, items, strict=True):
        if isinstance(item, ImageError):
            folder.fail(source.ids[index], item.reason, source.inputs[index])
            clock.failed += 1
            jobs.append(None)
        else:
            folder.check_input(item.id, item.sha256, source.inputs[index])
            jobs.append(Job(id=item.id, image=item.image, start=start.get(item.id)))
    if all(job is None for job in jobs):
        return
    clock.under_way = sum(job is not None and job.id not in finished for job in jobs)
    flight = inverter.flight_of(folder.path, jobs)
    results = inverter(jobs, clock.chunk, flight, stop)
    saved = []
    for index, item, result in zip(indices, items, results, strict=True):
        if isinstance(item, ImageError) or item.id in finished:
            continue
        if result is None:
            folder.fail(item.id, "the loss was not finite at any step", source.inputs[index])
            clock.failed += 1
        else:
            saved.append(writers.submit(_save, folder, item, result))
    for future in saved:
        future.result()
        clock.done += 1
    drop_flight(flight)
    clock.under_way = 0
    clock.tell()


def _save(folder: RunFolder, item: Item, result: Inverted) -> None:
    folder.write(
        item.id,
        codes=result.codes,
        image=result.image,
        target=item.image,
        curve=result.curve,
        metrics=result.metrics,
        input_sha256=item.sha256,
        flags=result.flags,
        notes=item.notes,
    )


class Clock:
    """Counts images and steps of a run and tells a listener about it."""

    def __init__(self, total: int, done: int, report: Callable[[Progress], None] | None) -> None:
        self.total, self.done, self.failed, self.report = total, done, 0, report
        self.before = done
        self.started = time.monotonic()
        self.step, self.steps, self.loss, self.under_way = 0, 0, float("nan"), 0

    def chunk(self, step: int, steps: int, loss: float) -> None:
        """A chunk of the batch under way is over."""
        self.step, self.steps, self.loss = step, steps, loss
        self.tell()

    def tell(self) -> None:
        """Report where the run stands."""
        if self.report is None:
            return
        # The batch under way counts by its steps, so that there is an estimate before the first image is done.
        done = self.done - self.before + self.under_way * self.step / max(self.steps, 1)
        rate = done / max(time.monotonic() - self.started, 1e-9)
        left = self.total - self.failed - self.before - done
        self.report(
            Progress(
                done=self.done,
                failed=self.failed,
                total=self.total,
                step=self.step,
                steps=self.steps,
                images_per_second=rate,
                loss=self.loss,
                eta_seconds=left / rate if rate > 0 else None,
            )
        )


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
