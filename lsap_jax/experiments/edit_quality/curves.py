"""Measures of edits over strength, with bootstrap intervals over images, and at equal success.

A strength of one space is not that of another, nor that of one direction that of another. Spaces are therefore compared
direction by direction where equally many of their edits have succeeded: at the strength at which a direction's success
curve first reaches a level, by linear interpolation; means are over directions that reach it in all that is compared.
Intervals are percentiles over resampled images; the same images are drawn everywhere, so that differences are paired.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lsap_jax.metrics.significance import Interval

RESAMPLES = 2000
FEW_RESAMPLES = 400  # are enough for the many curves by direction
CONFIDENCE = 0.95


class Resampled(NamedTuple):
    """A measure over strengths.

    Attributes:
        mean: [S].
        draws: [R, S] means of R resamples of the images.
        counts: [S] edits that have it.
        images: that have it at any strength.
    """

    mean: np.ndarray
    draws: np.ndarray
    counts: np.ndarray
    images: int


def resampled(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Resampled:
    """Means over directions and images of [D, S, N], NaN left out."""
    there = np.isfinite(values)
    sums, counts = np.where(there, values, 0.0).sum(axis=0), there.sum(axis=0)
    weights = _weights(values.shape[-1], resamples, seed)
    with np.errstate(invalid="ignore"):
        mean = sums.sum(axis=1) / counts.sum(axis=1)
        draws = (weights @ sums.T) / (weights @ counts.T)
    return Resampled(mean, draws, counts.sum(axis=1), int(there.any(axis=(0, 1)).sum()))


def fewer_draws(found: Resampled) -> Resampled:
    """The same with the first 400 resamples alone."""
    return found._replace(draws=found.draws[:FEW_RESAMPLES])


def strengths_until_peak(success: Resampled) -> int:
    """How many strengths there are up to the one with the highest success."""
    return int(np.nanargmax(success.mean)) + 1


@lru_cache(maxsize=4)
def _weights(images: int, resamples: int, seed: int) -> np.ndarray:
    """[R, N] how often every resample has an image; floats, as whole numbers have no fast product."""
    drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)
    weights = drawn.astype(np.float64)
    weights.flags.writeable = False
    return weights


def intervals(found: Resampled) -> list[Interval]:
    """The mean at every strength with its interval; a single image has none."""
    return [
        _interval(mean, draws, int(count), found.images)
        for mean, draws, count in zip(found.mean, found.draws.T, found.counts, strict=True)
    ]


class AtSuccess(NamedTuple):
    """A measure where a level of success is reached, and those of the resamples [R]; NaN where it is not reached."""

    mean: float
    draws: np.ndarray
    images: int

    @property
    def reached(self) -> bool:
        """Whether the level is reached, by enough of the resamples for an interval."""
        return math.isfinite(self.mean) and bool(np.isfinite(self.draws).mean() >= 0.5 * (1 + CONFIDENCE))

    @property
    def doubtful(self) -> bool:
        """Whether the level is reached, but by too few of the resamples."""
        return math.isfinite(self.mean) and not self.reached

    @property
    def interval(self) -> Interval:
        return _interval(self.mean, self.draws, self.images, self.images)


def at_success(success: Resampled, measure: Resampled, strengths: np.ndarray, level: float) -> AtSuccess:
    """A measure of one direction at the strength where its success first reaches `level`.

    Args:
        measure: over the same strengths.
        strengths: [S], ascending.
        level: from 0 to 1.
    """
    curves = np.concatenate([success.mean[None], success.draws])
    values = np.concatenate([measure.mean[None], measure.draws])
    found = crossing(curves, values, np.asarray(strengths, float), level)[1]
    return AtSuccess(float(found[0]), found[1:], min(success.images, measure.images))


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


def pooled(found: Sequence[AtSuccess]) -> AtSuccess:
    """The mean over directions; NaN for none."""
    if not found:
        return AtSuccess(math.nan, np.full(RESAMPLES, math.nan), 0)
    draws = np.mean([one.draws for one in found], axis=0)
    return AtSuccess(float(np.mean([one.mean for one in found])), draws, min(one.images for one in found))


def difference(a: AtSuccess, b: AtSuccess) -> AtSuccess:
    """a - b, paired by the resamples."""
    return AtSuccess(a.mean - b.mean, a.draws - b.draws, min(a.images, b.images))


def _interval(mean: float, draws: np.ndarray, n: int, images: int) -> Interval:
    finite = draws[np.isfinite(draws)]
    if not math.isfinite(mean) or not len(finite) or images < 2:
        return Interval(mean=float(mean), low=math.nan, high=math.nan, n=n)
    low, high = np.percentile(finite, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Interval(mean=float(mean), low=float(low), high=float(high), n=n)
