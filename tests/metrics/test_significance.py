"""Bootstrap intervals and non-inferiority tests, against hand-computed values, scipy's, and their own symmetries."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from lsap_jax.metrics.significance import bca, bootstrap_interval, non_inferiority

numbers = st.floats(-1e6, 1e6)
values = arrays(np.float64, st.integers(1, 30), elements=numbers)
pairs = st.integers(1, 9).flatmap(lambda n: st.tuples(*2 * [arrays(np.float64, n, elements=numbers)]))


def test_interval_is_the_quantiles_of_the_means_of_all_resamples():
    """Two values have four resamples: the mean is 0, 1/2 (twice) or 1, so the 95 % interval is the whole range."""
    found = bootstrap_interval(np.array([0.0, 1.0]))
    assert (found.mean, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 2)


def test_interval_of_skewed_values_is_that_of_the_expansion():
    """Hall (1992): to the first order in 1 / √n, the ends of t are ±z moved by (2z² + 1) · skewness / (6 √n)."""
    sample = np.random.default_rng(0).exponential(size=400)
    found, error = bootstrap_interval(sample), stats.sem(sample)
    moved = (2 * 1.96**2 + 1) * stats.skew(sample) / (6 * np.sqrt(400))
    assert found.low == pytest.approx(sample.mean() - (1.96 - moved) * error, abs=0.1 * error)
    assert found.high == pytest.approx(sample.mean() + (1.96 + moved) * error, abs=0.1 * error)
    assert found.high + found.low - 2 * sample.mean() > 1.5 * moved * error  # percentiles: 2/3 of `moved`
    wider = bootstrap_interval(sample, confidence=0.99)
    assert wider.low < found.low < found.high < wider.high


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = [bootstrap_interval(rng.normal(3, 1, 40), resamples=500, seed=i) for i in range(300)]
    assert 0.90 <= np.mean([i.low <= 3 <= i.high for i in found]) <= 0.98


def test_intervals_of_skewed_values_cover_the_mean_where_percentiles_do_not():
    """50 values, as many as the papers have images, of a gamma distribution of shape 0.3: 92 % are 3.5 standard errors
    of 800 trials below 95 %.
    """
    rng, covered = np.random.default_rng(4), []
    for seed in range(800):
        sample = rng.gamma(0.3, size=50)
        draws = sample[np.random.default_rng(seed).integers(0, 50, (400, 50))].mean(axis=1)
        found = bootstrap_interval(sample, resamples=400, seed=seed)
        ends = np.percentile(draws, [2.5, 97.5]), bca(sample.mean(), draws, (sample.sum() - sample) / 49)
        covered.append([found.low <= 0.3 <= found.high, *(low <= 0.3 <= high for low, high in ends)])
    studentised, percentile, accelerated = np.mean(covered, axis=0)
    assert studentised >= 0.93 > 0.92 >= percentile
    assert percentile < accelerated < studentised


def test_bca_is_scipys():
    sample = np.random.default_rng(5).exponential(size=(1, 30))
    theirs = stats.bootstrap(sample, np.mean, n_resamples=9999, method="BCa", random_state=np.random.default_rng(6))
    ours = bca(sample.mean(), theirs.bootstrap_distribution, (sample.sum() - sample[0]) / 29)
    np.testing.assert_allclose(ours, theirs.confidence_interval, rtol=1e-3)


def test_bca_of_draws_on_one_side_and_of_statistics_without_influence():
    assert bca(0.0, np.arange(1.0, 100), np.zeros(5)) == pytest.approx((1.0, 1.0), abs=0.1)
    assert bca(100.0, np.arange(1.0, 100), np.zeros(5)) == pytest.approx((99.0, 99.0), abs=0.1)
    assert bca(0.0, np.linspace(-1, 1, 201), np.full(5, np.nan)) == pytest.approx((-0.95, 0.95), abs=1e-3)


@given(values)
def test_interval_holds_the_mean_and_lies_within_the_values(sample):
    found = bootstrap_interval(sample, resamples=200)
    assert found.mean == pytest.approx(sample.mean()) and found.n == len(sample)
    if len(sample) == 1:
        assert math.isnan(found.low) and math.isnan(found.high)
    else:
        slack = 1e-9 * max(1.0, np.abs(sample).max())
        assert sample.min() - slack <= found.low <= found.high <= sample.max() + slack
    assert repr(bootstrap_interval(sample, resamples=200)) == repr(found)


def test_interval_of_constants_infinities_and_nothing():
    assert bootstrap_interval(np.full(7, 0.1)).low == 0.1 == bootstrap_interval(np.full(7, 0.1)).high
    perfect = bootstrap_interval(np.array([30.0, math.inf]))
    assert perfect.mean == math.inf and math.isnan(perfect.low)
    assert math.isnan(bootstrap_interval(np.array([30.0, math.nan])).mean)
    assert math.isnan(bootstrap_interval(np.array([-math.inf, math.inf])).mean)
    for wrong in ([], [[1.0]]):
        with pytest.raises(ValueError, match="values"):
            bootstrap_interval(np.array(wrong))


def test_blocks_of_resamples_do_not_change_the_interval(monkeypatch):
    sample = np.random.default_rng(2).normal(size=50)
    whole = bootstrap_interval(sample, resamples=300)
    monkeypatch.setattr("lsap_jax.metrics.significance._BLOCK", 50 * 7)
    assert bootstrap_interval(sample, resamples=300) == whole


def test_three_pairs_by_hand():
    """Advantages 1, 2, 3: t = 2 / (1 / √3); p of 2 degrees of freedom = 1/2 - t / (2 √(2 + t²)); ranks 1 + 2 + 3."""
    found = non_inferiority(np.array([1.0, 1.0, 1.0]), np.array([2.0, 3.0, 4.0]), 0.0)
    t = 2 * math.sqrt(3)
    assert (found.n, found.margin, found.difference) == (3, 0.0, -2.0)
    assert found.t == pytest.approx(t) and found.p_t == pytest.approx(0.5 - t / (2 * math.sqrt(2 + t * t)))
    assert (found.wilcoxon, found.p_wilcoxon) == (6.0, 1 / 8)


def test_a_margin_shifts_the_hypothesis():
    """Worse by 1, 2, 3: shown within a margin of 5 (advantages 4, 3, 2 of it left), not within one of 2."""
    candidate, baseline = np.array([1.0, 2.0, 3.0]), np.zeros(3)
    wide, narrow = (non_inferiority(candidate, baseline, margin) for margin in (5.0, 2.0))
    assert wide.t == pytest.approx(3 * math.sqrt(3)) and (wide.wilcoxon, wide.p_wilcoxon) == (6.0, 1 / 8)
    assert narrow.t == 0.0 and narrow.p_t == pytest.approx(0.5)
    assert wide.difference == narrow.difference == 2.0


def test_agrees_with_scipy_on_fifty_images():
    rng = np.random.default_rng(3)
    baseline = rng.lognormal(-4, 0.5, 50)
    candidate = baseline * rng.normal(1.01, 0.05, 50)
    margin = 0.05 * baseline.mean()
    found = non_inferiority(candidate, baseline, margin)
    t, wilcoxon = (
        stats.ttest_rel(candidate, baseline + margin, alternative="less"),
        stats.wilcoxon(candidate - baseline - margin, alternative="less"),
    )
    assert found.t == pytest.approx(-t.statistic) and found.p_t == pytest.approx(t.pvalue) and found.p_t < 0.05
    assert found.wilcoxon == pytest.approx(50 * 51 / 2 - wilcoxon.statistic)
    assert found.p_wilcoxon == pytest.approx(wilcoxon.pvalue)


@given(pairs, st.floats(0, 1e3))
def test_higher_is_better_is_the_other_sign(both, margin):
    candidate, baseline = both
    higher = non_inferiority(candidate, baseline, margin, higher_is_better=True)
    lower = non_inferiority(-candidate, -baseline, margin)
    assert higher.difference == -lower.difference
    for name in ("t", "p_t", "wilcoxon", "p_wilcoxon"):
        np.testing.assert_equal(getattr(higher, name), getattr(lower, name))


@given(pairs, st.floats(0, 1e3), st.floats(0, 1e3))
def test_a_wider_margin_never_makes_it_harder(both, margin, more):
    candidate, baseline = both
    narrow, wide = (non_inferiority(candidate, baseline, m) for m in (margin, margin + more))
    for found in (narrow, wide):
        assert 0 <= found.p_wilcoxon <= 1
        assert len(candidate) == 1 and math.isnan(found.p_t) or 0 <= found.p_t <= 1
    if len(candidate) > 1 and np.ptp(candidate - baseline) > 1e-6:
        assert wide.p_t <= narrow.p_t + 1e-6


@pytest.mark.parametrize(
    ("difference", "margin", "t", "p_t", "p_wilcoxon"),
    [
        (0.0, 0.0, 0.0, 1.0, 1.0),
        (0.0, 1e-8, math.inf, 0.0, 1 / 16),
        (-0.5, 0.0, math.inf, 0.0, 1 / 16),
        (0.5, 0.25, -math.inf, 1.0, 1.0),
        (0.5, 0.5, 0.0, 1.0, 1.0),
    ],
)
def test_equal_differences(difference, margin, t, p_t, p_wilcoxon):
    found = non_inferiority(np.full(4, difference), np.zeros(4), margin)
    assert (found.t, found.p_t, found.p_wilcoxon) == (t, p_t, p_wilcoxon)


def test_nearly_equal_differences_and_single_pairs_are_no_error():
    nearly = non_inferiority(np.zeros(5), 1 + 1e-16 * np.arange(5), 0.0)
    assert nearly.t > 1e6 and nearly.p_t < 1e-6
    one = non_inferiority(np.array([1.0]), np.array([2.0]), 0.0)
    assert math.isnan(one.t) and math.isnan(one.p_t) and one.p_wilcoxon == 0.5


@pytest.mark.parametrize(
    ("candidate", "baseline", "margin", "told"),
    [
        ([1.0], [1.0, 2.0], 0.0, "pairs"),
        ([], [], 0.0, "pairs"),
        ([math.nan], [1.0], 0.0, "finite"),
        ([1.0], [math.inf], 0.0, "finite"),
        ([1.0], [1.0], -1.0, "margin"),
        ([1.0], [1.0], math.nan, "margin"),
    ],
)
def test_what_cannot_be_tested(candidate, baseline, margin, told):
    with pytest.raises(ValueError, match=told):
        non_inferiority(np.array(candidate), np.array(baseline), margin)
