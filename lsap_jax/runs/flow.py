"""Images that have converged leave their batch, and the next ones take their places."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

import numpy as np

from lsap_jax.inversion.inverter import Inverter, StepReport
from lsap_jax.inversion.jobs import Inverted, Job
from lsap_jax.inversion.loop import State
from lsap_jax.inversion.objective import Targets
from lsap_jax.runs.worker import Stop, never
from lsap_jax.storage.flight import Preempted

Curve = dict[str, np.ndarray]


def flow(
    inverter: Inverter, jobs: Iterable[Job], report: StepReport | None = None, stop: Stop = never
) -> Iterator[tuple[Job, Inverted | None]]:
    """Results of any number of jobs as each is done, in whatever order; None where no step was finite.

    After every chunk, images that have taken their steps or have converged leave, and others enter. Shapes never
    change and each image counts its own steps, so its result is that of running alone.

    Args:
        report: called after every chunk with the steps that the images under way have taken on average.
        stop: called before every chunk.

    Raises:
        Preempted: `stop` returned true; finished results have been yielded before.
    """
    queue, steps = iter(jobs), inverter.config.steps
    slots: list[Job | None] = [None] * inverter.batch_size
    curves: list[Curve] = [{}] * len(slots)
    under_way: tuple[State, Targets] | None = None
    while True:
        stays = np.array([job is not None for job in slots])
        slots = [next(queue, None) if job is None else job for job in slots]
        if all(job is None for job in slots):
            return
        if stop():
            raise Preempted("stopped between two chunks of steps")
        if any(job is not None and not old for job, old in zip(slots, stays, strict=True)):
            fresh = inverter.begin(slots)
            under_way = inverter.enter(~stays, fresh, under_way) if stays.any() else fresh
        assert under_way is not None
        state, chunk = inverter.advance(slots, *under_way)
        under_way = (state, under_way[1])
        rows = inverter.join([chunk])
        curves = [_longer(curve, rows, i, steps + 1) for i, curve in enumerate(curves)]
        busy = [i for i, job in enumerate(slots) if job is not None]
        if report is not None:
            losses = [x for i in busy if np.isfinite(x := curves[i]["loss"][-1])]
            taken = np.mean([len(curves[i]["loss"]) for i in busy])
            report(min(int(taken), steps), steps, float(np.mean(losses)) if losses else float("nan"))
        done = {i for i in busy if is_done(curves[i]["loss"], steps, inverter.config.converge)}
        if done:
            yield from _leaving(inverter, under_way, slots, curves, done)
        slots = [None if i in done else job for i, job in enumerate(slots)]
        curves = [{} if i in done else curve for i, curve in enumerate(curves)]


def _leaving(
    inverter: Inverter,
    under_way: tuple[State, Targets],
    slots: Sequence[Job | None],
    curves: Sequence[Curve],
    done: Container[int],
) -> Iterator[tuple[Job, Inverted | None]]:
    """Results of the slots in `done`."""
    jobs = [job if i in done else None for i, job in enumerate(slots)]
    for job, result in zip(jobs, inverter.end(jobs, *under_way, curves), strict=True):
        if job is not None:
            yield job, result


def _longer(curve: Curve, chunk: Mapping[str, np.ndarray], slot: int, most: int) -> Curve:
    """An image's curve with its row of a chunk [B, length] at the end; `most` entries at most."""
    return {
        name: np.concatenate([curve.get(name, values[slot, :0]), values[slot]])[:most] for name, values in chunk.items()
    }


def is_done(losses: Sequence[float] | np.ndarray, steps: int, options: Mapping[str, float]) -> bool:
    """Whether an image with this curve is done: all steps taken, or its least loss fell by no more than the part
    `options["tolerance"]` over the last `options["patience"]` steps, which 0 turns off.
    """
    patience = int(options["patience"])
    if len(losses) > steps:
        return True
    if not 0 < patience < len(losses):
        return False
    return bool(np.fmin.reduce(losses) >= (1 - options["tolerance"]) * np.fmin.reduce(losses[:-patience]))
