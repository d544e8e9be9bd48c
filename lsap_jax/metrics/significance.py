"""How sure a difference between two inversions is: bootstrap intervals, and paired non-inferiority tests.

arXiv 2307.08995 (Table 1) claims that F/Z+ is not inferior to F/W+ with P_N: margin 1e-8, p = .002983 for MSE and
.001609 for SSIM over 50 images. It names no test, so both usual paired ones are here; a t test cannot have given these
p values for the published means (docs/comparison.md says why). Its margin is so small that the hypothesis amounts to
"better"; a margin of 5 % of the baseline's mean asks what the word promises.
"""

import math
import warnings
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

RESAMPLES = 9999
FEW = 4  # so few values have too many resamples without spread
_BLOCK = 2**22  # numbers per block of resamples: 32 MB
_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean of ``n`` values and its interval; the ends are NaN if there is only one value or one is not finite."""

    mean: float
    low: float
    high: float
    n: int


def interval_text(i: Interval) -> str:
    """A mean with its interval."""
    if not math.isfinite(i.mean):
        return "–"
    return f"{i.mean:.4g}" + (f" [{i.low:.3g}, {i.high:.3g}]" if math.isfinite(i.low) else "")


@dataclass(frozen=True, kw_only=True)
class NonInferiority:
    """Outcome of `non_inferiority`.

    Attributes:
        n: pairs.
        margin: in the metric's units, 0 or more.
        difference: mean of candidate - baseline.
        t, p_t: of the one-sided paired t test; a large t speaks for the candidate.
        wilcoxon, p_wilcoxon: of the one-sided signed-rank test; its statistic is the sum of the positive ranks.
    """

    n: int
    margin: float
    difference: float
    t: float
    p_t: float
    wilcoxon: float
    p_wilcoxon: float


def bootstrap_interval(
    values: np.ndarray, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Studentised bootstrap interval of the mean (bootstrap-t).

    Errors of images are skewed. Of 50 values, intervals of 95 % cover the mean of a gamma distribution of shape 0.3 in
    91 % of cases as percentiles, in 92 % as BCa and in 94 % so; of a log-normal one of sigma 1 in 90, 91 and 93 %. It
    ends at the least and the greatest value. Where resamples without spread leave no studentised interval (4 values or
    fewer, or an outlier among equal ones), it is `bca`.

    Args:
        values: [N], N of 1 or more.
        seed: of the resampling; the same values give the same interval.

    Raises:
        ValueError: not [N], or empty.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 12 and 14.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"an interval needs values [N] with N > 0, got {list(values.shape)}")
    n = len(values)
    if not np.isfinite(values).all():
        infinite = np.isposinf(values).any() and not np.isnan(values).any() and not np.isneginf(values).any()
        return Interval(mean=math.inf if infinite else math.nan, low=math.nan, high=math.nan, n=n)
    mean = float(values.mean())
    if n == 1:
        return Interval(mean=mean, low=math.nan, high=math.nan, n=n)
    if np.ptp(values) == 0:  # rounding would leave a spread
        return Interval(mean=float(values[0]), low=float(values[0]), high=float(values[0]), n=n)
    centred = values - mean
    means, deviations = _resampled(centred, resamples, seed)
    spread = np.abs(centred).max()
    if n > FEW and (deviations > 1e-6 * spread).mean() > 0.5 * (1 + confidence):
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(means == 0, 0.0, means / deviations)
        # Order statistics: between them and infinite ones nothing could be interpolated.
        least, greatest = np.quantile(t, [0.5 * (1 - confidence), 0.5 * (1 + confidence)], method="nearest")
        deviation = float(centred.std())
        low = max(mean - float(greatest) * deviation, float(values.min()))
        high = min(mean - float(least) * deviation, float(values.max()))
        return Interval(mean=mean, low=low, high=high, n=n)
    low, high = bca(0.0, means, -centred / (n - 1), confidence)
    return Interval(mean=mean, low=mean + low, high=mean + high, n=n)


def _resampled(values: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations [R] of resamples of values [N]."""
    rng = np.random.default_rng(seed)
    found, size = [], max(1, _BLOCK // len(values))
    for start in range(0, resamples, size):
        some = values[rng.integers(0, len(values), (min(size, resamples - start), len(values)))]
        found.append((some.mean(axis=1), some.std(axis=1)))
    means, deviations = (np.concatenate(part) for part in zip(*found, strict=True))
    return means, deviations


def bca(estimate: float, draws: np.ndarray, without: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Ends of the bias-corrected and accelerated interval of any statistic of a set of images (Efron, 1987).

    Args:
        estimate: the statistic of all images.
        draws: [R], R > 0, its values in resamples of the images.
        without: [N], its values without one image each; NaN where it has none.
    """
    below = np.mean(draws < estimate) + 0.5 * np.mean(draws == estimate)
    # Where all draws lie on one side, the correction would be infinite.
    bias = _NORMAL.inv_cdf(float(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws))))
    influence = np.nanmean(without) - without[~np.isnan(without)] if not np.isnan(without).all() else np.zeros(1)
    size = np.abs(influence).max()
    cubes, squares = (np.sum((influence / size) ** power) for power in (3, 2)) if size > 0 else (0.0, 1.0)
    acceleration = float(cubes / (6 * squares**1.5))
    parts = []
    for tail in (0.5 * (1 - confidence), 0.5 * (1 + confidence)):
        z = bias + _NORMAL.inv_cdf(tail)
        slope = 1 - acceleration * z
        parts.append(_NORMAL.cdf(bias + z / slope) if slope > 0 else float(tail > 0.5))
    low, high = np.quantile(draws, parts)
    return float(low), float(high)


def non_inferiority(
    candidate: np.ndarray, baseline: np.ndarray, margin: float, *, higher_is_better: bool = False
) -> NonInferiority:
    """Whether the candidate is worse than the baseline by less than a margin, image by image.

    With the advantage a = baseline - candidate (candidate - baseline where higher is better), the null hypothesis is
    mean a <= -margin, in the signed-rank test: a + margin is symmetric about a value of 0 or less. Small p: not
    inferior. Where all a are equal, t is infinite and p_t its limit 0 or 1; an advantage of exactly -margin in every
    image has p 1 in both tests.

    Args:
        candidate, baseline: [N], finite; position i of both is the same image.
        margin: 0 or more, in the metric's units; 0 asks for superiority.

    Returns:
        The statistics; t and p_t are NaN for a single pair.

    Raises:
        ValueError: other shapes, no pair, a value that is not finite, or a negative margin.

    References:
        arXiv 2307.08995, Table 1 (see above); Wilcoxon, Individual Comparisons by Ranking Methods (1945).
    """
    candidate, baseline = np.asarray(candidate, np.float64), np.asarray(baseline, np.float64)
    if candidate.ndim != 1 or candidate.shape != baseline.shape or not len(candidate):
        raise ValueError(f"pairs need two arrays [N] with N > 0, got {list(candidate.shape)}, {list(baseline.shape)}")
    if not (np.isfinite(candidate).all() and np.isfinite(baseline).all()):
        raise ValueError("a test needs finite values; leave the other pairs out and count them")
    if not margin >= 0:
        raise ValueError(f"margin {margin}: 0 or more is needed")
    difference = candidate - baseline
    shifted = (difference if higher_is_better else -difference) + margin
    t, p_t = _t_test(shifted)
    wilcoxon, p_wilcoxon = _signed_ranks(shifted)
    return NonInferiority(
        n=len(candidate),
        margin=float(margin),
        difference=float(difference.mean()),
        t=t,
        p_t=p_t,
        wilcoxon=wilcoxon,
        p_wilcoxon=p_wilcoxon,
    )


def _t_test(values: np.ndarray) -> tuple[float, float]:
    """(t, p) of the hypothesis that the mean of values [N] is 0 or less."""
    if len(values) == 1:
        return math.nan, math.nan
    if np.ptp(values) == 0:  # 0 / 0 for scipy
        sign = float(np.sign(values[0]))
        return (0.0, 1.0) if sign == 0 else (sign * math.inf, 0.0 if sign > 0 else 1.0)
    from scipy import stats

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)  # nearly equal: t is large, and that is it
        found = stats.ttest_1samp(values, 0.0, alternative="greater")
    return float(found.statistic), float(found.pvalue)


def _signed_ranks(values: np.ndarray) -> tuple[float, float]:
    """(sum of the ranks of positive values, p) of the hypothesis that values [N] centre on 0 or less."""
    if not values.any():
        return 0.0, 1.0
    from scipy import stats

    found = stats.wilcoxon(values, alternative="greater")
    return float(found.statistic), float(found.pvalue)
