"""Measures of edits over strength, with bootstrap intervals over images, and at equal success.

A strength of one space is not that of another. Spaces are therefore compared where equally many of their edits have
succeeded: at the strength at which the success curve first reaches a level, by linear interpolation. Intervals are
percentiles over resampled images; the same images are drawn for every space, so that differences are paired.
"""

import math
from typing import NamedTuple

import numpy as np

from lsap_jax.metrics.significance import Interval

RESAMPLES = 2000
CONFIDENCE = 0.95
LEAST_REACHED = 0.5  # of the resamples, for an interval at a level of success


class Resampled(NamedTuple):
    """A measure over strengths: its means [S] and those of R resamples of the images [R, S]; n edits that have it."""

    mean: np.ndarray
    draws: np.ndarray
    n: int


def resampled(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Resampled:
    """Means over directions and images of [D, S, N], NaN left out."""
    there = np.isfinite(values)
    sums, counts = np.where(there, values, 0.0).sum(axis=0), there.sum(axis=0)
    images = values.shape[-1]
    weights = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    with np.errstate(invalid="ignore"):
        mean = sums.sum(axis=1) / counts.sum(axis=1)
        draws = (weights @ sums.T) / (weights @ counts.T)
    return Resampled(mean, draws, int(counts.sum()))


def intervals(found: Resampled) -> list[Interval]:
    """The mean at every strength with its interval; one image has none."""
    return [_interval(m, d, found.n // len(found.mean)) for m, d in zip(found.mean, found.draws.T, strict=True)]


class AtSuccess(NamedTuple):
    """A measure where a level of success is reached, with the strength for it, and those of the resamples [R]; NaN in
    both where the level is not reached.
    """

    strength: Interval
    measure: Interval
    draws: np.ndarray


def at_success(success: Resampled, measure: Resampled, strengths: np.ndarray, level: float) -> AtSuccess:
    """A measure at the strength where the success first reaches `level`.

    Args:
        strengths: [S], ascending.
        level: from 0 to 1.
    """
    curves = np.concatenate([success.mean[None], success.draws])
    values = np.concatenate([measure.mean[None], measure.draws])
    where, found = crossing(curves, values, np.asarray(strengths, float), level)
    return AtSuccess(_interval(where[0], where[1:], measure.n), _interval(found[0], found[1:], measure.n), found[1:])


def crossing(
    curves: np.ndarray, values: np.ndarray, strengths: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """(strength [R], value [R]) where each curve [R, S] first reaches the level; NaN where it never does."""
    reached = curves >= level
    first = reached.argmax(axis=1)
    rows = np.arange(len(curves))
    before = np.maximum(first - 1, 0)
    low, high = curves[rows, before], curves[rows, first]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(first == before, 0.0, (level - low) / (high - low))
    never = ~reached.any(axis=1)

    def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where(never, math.nan, a + part * (b - a))

    return between(strengths[before], strengths[first]), between(values[rows, before], values[rows, first])


def difference(a: AtSuccess, b: AtSuccess) -> Interval:
    """Of the measure, a - b, paired by the resamples."""
    return _interval(a.measure.mean - b.measure.mean, a.draws - b.draws, a.measure.n)


def _interval(mean: float, draws: np.ndarray, n: int) -> Interval:
    finite = draws[np.isfinite(draws)]
    if not math.isfinite(mean) or len(finite) < LEAST_REACHED * len(draws) or n < 2:
        return Interval(mean=float(mean), low=math.nan, high=math.nan, n=n)
    low, high = np.percentile(finite, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Interval(mean=float(mean), low=float(low), high=float(high), n=n)
