"""Measures of edits over strength, with bootstrap intervals over images, and at equal success.

A strength of one space is not that of another, nor that of one direction that of another. Spaces are therefore compared
direction by direction where equally many of their edits have succeeded: at the strength at which a direction's success
curve first reaches a level, by linear interpolation; means are over directions that reach it in all that is compared.
Intervals are BCa ones over resampled images; the same images are drawn everywhere, so that differences are paired.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lsap_jax.metrics.significance import Interval, bca

RESAMPLES = 2000
FEW_RESAMPLES = 400  # are enough for the many curves by direction
CONFIDENCE = 0.95


class Resampled(NamedTuple):
    """A measure over strengths.

    Attributes:
        mean: [S].
        draws: [R, S] means of R resamples of the images.
        without: [N, S] means without one image each, for BCa.
        counts: [S] edits that have it.
        images: that have it at any strength.
    """

    mean: np.ndarray
    draws: np.ndarray
    without: np.ndarray
    counts: np.ndarray
    images: int


def resampled(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Resampled:
    """Means over directions and images of [D, S, N], NaN left out."""
    there = np.isfinite(values)
    sums, counts = np.where(there, values, 0.0).sum(axis=0), there.sum(axis=0)
    weights = _weights(values.shape[-1], resamples, seed)
    with np.errstate(invalid="ignore"):
        total, all_counts = sums.sum(axis=1), counts.sum(axis=1)
        draws = (weights @ sums.T) / (weights @ counts.T)
        without = ((total[:, None] - sums) / (all_counts[:, None] - counts)).T
        mean = total / all_counts
    return Resampled(mean, draws, without, all_counts, int(there.any(axis=(0, 1)).sum()))


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
        _interval(mean, draws, without, int(count), found.images)
        for mean, draws, without, count in zip(found.mean, found.draws.T, found.without.T, found.counts, strict=True)
    ]


class AtSuccess(NamedTuple):
    """A measure where a level of success is reached, those of the resamples [R], and those without one image each [N];
    NaN where it is not reached.
    """

    mean: float
    draws: np.ndarray
    without: np.ndarray
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
        return _interval(self.mean, self.draws, self.without, self.images, self.images)


def at_success(success: Resampled, measure: Resampled, strengths: np.ndarray, level: float) -> AtSuccess:
    """A measure of one direction at the strength where its success first reaches `level`.

    Args:
        measure: over the same strengths.
        strengths: [S], ascending.
        level: from 0 to 1.
    """
    curves, values = (np.concatenate([one.mean[None], one.without, one.draws]) for one in (success, measure))
    found = crossing(curves, values, np.asarray(strengths, float), level)[1]
    without, draws = np.split(found[1:], [len(success.without)])
    return AtSuccess(float(found[0]), draws, without, min(success.images, measure.images))


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
        return AtSuccess(math.nan, np.full(RESAMPLES, math.nan), np.full(1, math.nan), 0)
    draws, without = (np.mean(part, axis=0) for part in zip(*((one.draws, one.without) for one in found), strict=True))
    return AtSuccess(float(np.mean([one.mean for one in found])), draws, without, min(one.images for one in found))


def difference(a: AtSuccess, b: AtSuccess) -> AtSuccess:
    """a - b, paired by the resamples."""
    return AtSuccess(a.mean - b.mean, a.draws - b.draws, a.without - b.without, min(a.images, b.images))


def _interval(mean: float, draws: np.ndarray, without: np.ndarray, n: int, images: int) -> Interval:
    finite = draws[np.isfinite(draws)]
    if not math.isfinite(mean) or not len(finite) or images < 2:
        return Interval(mean=float(mean), low=math.nan, high=math.nan, n=n)
    low, high = bca(float(mean), finite, without, CONFIDENCE)
    return Interval(mean=float(mean), low=low, high=high, n=n)
