"""How sure a difference between two inversions is: bootstrap intervals of a mean, and paired non-inferiority tests.

arXiv 2307.08995 (Table 1) claims that F/Z+ is not inferior to F/W+ with P_N: margin 1e-8, p = .002983 for MSE and
.001609 for SSIM over 50 images. It names no test, so both usual paired ones are here. Its margin is so small that the
hypothesis amounts to "better"; a margin of 5 % of the baseline's mean asks what the word promises.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np

RESAMPLES = 9999
_BLOCK = 2**22  # numbers per block of resamples: 32 MB


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean of ``n`` values and its interval; the ends are NaN if there is only one value or one is not finite."""

    mean: float
    low: float
    high: float
    n: int


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
    """Percentile bootstrap interval of the mean.

    The percentile method, not BCa: BCa has no value where all resamples lie on one side of the mean, as they do for a
    few nearly equal numbers, and its jackknife needs N² memory.

    Args:
        values: [N], N of 1 or more.
        seed: of the resampling; the same values give the same interval.

    Raises:
        ValueError: not [N], or empty.
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
    if np.ptp(values) == 0:  # scipy warns of a degenerate distribution
        return Interval(mean=float(values[0]), low=float(values[0]), high=float(values[0]), n=n)
    from scipy import stats

    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, min(resamples, _BLOCK // n)),
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean=mean, low=float(found.low), high=float(found.high), n=n)


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
