"""Images that have converged leave their batch, and the next ones take their places."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from lsap_jax.inversion.batch import Inverted, Inverter, Job, StepReport

Curve = dict[str, np.ndarray]


def flow(
    inverter: Inverter, jobs: Iterable[Job], report: StepReport | None = None
) -> Iterator[tuple[Job, Inverted | None]]:
    """Results of any number of jobs as each is done, in whatever order; None where no step was finite.

    After every chunk, images that have taken their steps or have converged leave, and others enter. Shapes never
    change and each image counts its own steps, so its result is that of running alone.

    Args:
        report: told after every chunk the steps that the images under way have taken on average.
    """
    queue, steps = iter(jobs), inverter.config.steps
    slots: list[Job | None] = [None] * inverter.batch_size
    curves: list[Curve] = [{}] * len(slots)
    under_way = None
    while True:
        entered = np.array([job is None for job in slots])
        slots = [next(queue, None) if job is None else job for job in slots]
        entered &= np.array([job is not None for job in slots])
        if entered.any():
            fresh = inverter.begin(slots)
            under_way = fresh if under_way is None else inverter.enter(entered, fresh, under_way)
        elif all(job is None for job in slots):
            return
        assert under_way is not None
        state, chunk = inverter.advance(*under_way)
        under_way = (state, under_way[1])
        columns = inverter.join([chunk])
        curves = [_longer(curve, columns, i, steps + 1) for i, curve in enumerate(curves)]
        busy = [i for i, job in enumerate(slots) if job is not None]
        if report is not None:
            losses = [x for i in busy if np.isfinite(x := curves[i]["loss"][-1])]
            taken = np.mean([len(curves[i]["loss"]) for i in busy])
            report(min(int(taken), steps), steps, float(np.mean(losses)) if losses else float("nan"))
        done = {i for i in busy if is_done(curves[i]["loss"], steps, inverter.config.converge)}
        if not done:
            continue
        leaving = [job if i in done else None for i, job in enumerate(slots)]
        for job, result in zip(leaving, inverter.end(leaving, *under_way, curves), strict=True):
            if job is not None:
                yield job, result
        slots = [None if i in done else job for i, job in enumerate(slots)]
        curves = [{} if i in done else curve for i, curve in enumerate(curves)]


def _longer(curve: Curve, chunk: Mapping[str, np.ndarray], slot: int, most: int) -> Curve:
    """An image's curve with its column of a chunk [length, B] at the end; at most so many entries."""
    return {
        name: np.concatenate([curve.get(name, values[:0, slot]), values[:, slot]])[:most]
        for name, values in chunk.items()
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
