"""Distortion metrics against scikit-image's values; the unbiased kernel distance and its features."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parity import assert_parity

from lsap_jax.errors import LsapError
from lsap_jax.metrics import kid as kid_module
from lsap_jax.metrics.distortion import (
    METRICS,
    MS_SSIM_WEIGHTS,
    ms_ssim,
    ms_ssim_weights,
    mse,
    psnr,
    ssim,
    ssim01,
    structural_similarity,
)
from lsap_jax.metrics.kid import few, fit_whitening, kid, kid_subsets, random_features

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def reference(golden):
    data = golden("ssim_skimage")
    return data, json.loads(bytes(data["meta_json"]))["cases"]


def _inputs(data, case):
    """The pair [1, H, W, C] that a case of the reference was computed on."""
    i, kind = case["image"], case["input"]
    if kind.startswith("gray"):
        return data[f"gray_a{i}"][None, :, :, None], data[f"gray_b{i}"][None, :, :, None]
    suffix = "_uint8" if kind == "uint8" else ""
    a, b = (data[n + suffix][i][None].astype(np.float32) for n in "ab")
    return (2 * a - 1, 2 * b - 1) if kind == "float_pm1" else (a, b)


@pytest.mark.parametrize("number", range(28))
def test_ssim_equals_scikit_image(reference, number):
    data, cases = reference
    case = cases[number]
    a, b = _inputs(data, case)
    uniform = None if case.get("gaussian_weights") else case.get("win_size", 7)
    found = structural_similarity(jnp.asarray(a), jnp.asarray(b), data_range=case["data_range"], uniform=uniform)
    assert_parity("ssim", f"case {number}", found[0], data[f"ssim_{number:03d}"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("image", [0, 1])
def test_the_metrics_of_results_equal_scikit_image(reference, image):
    data, cases = reference
    a, b = (jnp.asarray(2 * data[n][image][None] - 1) for n in "ab")
    wanted = {"ssim": "float_pm1", "ssim01": "float01"}
    for function in (ssim, ssim01):
        number = next(
            k
            for k, c in enumerate(cases)
            if c["image"] == image and c["input"] == wanted[function.__name__] and c.get("gaussian_weights")
        )
        np.testing.assert_allclose(function(a, b)[0], data[f"ssim_{number:03d}"], rtol=1e-5)
    assert_parity("psnr", f"image {image}", psnr(a, b)[0], data[f"psnr_{image}"], rtol=1e-6, atol=0)
    assert_parity("mse", f"image {image}", mse(a, b)[0], 4 * data[f"mse_{image}"], rtol=1e-5, atol=0)  # on [0, 1] there
    assert set(METRICS) == {"mse", "psnr", "ssim", "ssim01", "ms_ssim"}


def test_psnr_formula_and_identity():
    a = jnp.zeros((2, 4, 4, 3))
    b = a.at[1].set(0.5)
    np.testing.assert_allclose(psnr(a, b), [np.inf, 10 * np.log10(4 / 0.25)], rtol=1e-6)


def test_metrics_clip_to_the_range():
    a, b = jnp.full((1, 12, 12, 3), 3.0), jnp.full((1, 12, 12, 3), -7.0)
    assert mse(a, b)[0] == 4 and psnr(a, b)[0] == 0


@given(st.integers(0, 10**6))
def test_ssim_is_symmetric_one_for_identical_and_ignores_batch_mates(seed):
    a, b = (jnp.asarray(v) for v in np.random.RandomState(seed).uniform(-1, 1, (2, 2, 13, 14, 3)).astype(np.float32))
    for function in (ssim, ssim01):
        np.testing.assert_allclose(function(a, b), function(b, a), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(function(a, a), 1, atol=1e-5)
        np.testing.assert_allclose(function(a, b)[:1], function(a[:1], b[:1]), rtol=1e-6, atol=1e-7)


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(LsapError, match="11 x 11 px, got 8 x 8"):
        ssim(jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 8, 8, 3)))


def _pairs(number, height, width):
    """The pairs that golden_metrics.npz has values of: noise added, contrast reduced, unrelated, inverted."""
    r = np.random.RandomState(number)
    low = np.repeat(np.repeat(r.uniform(-1, 1, (4, height // 16, width // 16, 3)), 16, axis=1), 16, axis=2)
    noise = r.uniform(-1, 1, (4, height, width, 3))
    a = 0.6 * low + 0.2 * noise
    b = np.stack([a[0] + 0.3 * noise[1], 0.8 * a[1] - 0.1, noise[2], -a[3]])
    return (jnp.asarray(np.clip(v, -1, 1), jnp.float32) for v in (a, b))


MS_SSIM_SIZES = [(208, 192), (96, 112), (64, 64), (16, 16)]


@pytest.mark.parametrize(("number", "size"), list(enumerate(MS_SSIM_SIZES)))
def test_ms_ssim_equals_pytorch_msssim(number, size):
    """With 5, 4, 3 and 1 scales; how the values were made is told in test_inception.py."""
    with np.load(Path(__file__).parents[1] / "vectors" / "golden_metrics.npz") as file:
        expected = file[f"ms_ssim{number}"]
    assert_parity("ms_ssim", str(size), ms_ssim(*_pairs(number, *size)), expected)
    assert expected[3] == 0  # an inverted image's negative contrast


def test_ms_ssim_has_as_many_scales_as_fit():
    assert ms_ssim_weights(161) == ms_ssim_weights(1024) == MS_SSIM_WEIGHTS
    scales = {160: 4, 81: 4, 80: 3, 41: 3, 40: 2, 21: 2, 20: 1, 11: 1}
    assert {side: len(ms_ssim_weights(side)) for side in scales} == scales
    assert all(sum(ms_ssim_weights(side)) == pytest.approx(1) for side in scales)
    a, b = (v[:2] for v in _pairs(5, 16, 16))
    np.testing.assert_allclose(ms_ssim(a, b), ssim01(a, b), rtol=1e-4)  # one scale is SSIM
    for claim in ("5 above 160", "4 above 80", "3 above 40", "2 above 20"):
        assert claim in METRICS["ms_ssim"].description["scales"]


@given(st.integers(0, 10**6))
def test_ms_ssim_is_symmetric_one_for_identical_and_ignores_batch_mates(seed):
    a, b = (jnp.asarray(v) for v in np.random.RandomState(seed).uniform(-1, 1, (2, 2, 21, 23, 3)).astype(np.float32))
    b = 0.7 * a + 0.3 * b
    np.testing.assert_allclose(ms_ssim(a, b), ms_ssim(b, a), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ms_ssim(a, a), 1, rtol=3e-7)
    np.testing.assert_array_equal(ms_ssim(a, b)[:1], ms_ssim(a[:1], b[:1]))


def test_ms_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(LsapError, match="MS-SSIM needs images of at least 11 x 11 px, got 12 x 10"):
        ms_ssim(jnp.zeros((1, 12, 10, 3)), jnp.zeros((1, 12, 10, 3)))


def _naive_mmd2(x, y):
    def k(p, q):
        return float((p @ q / len(p) + 1) ** 3)

    m, n = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    yy = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return xx + yy - 2 * sum(k(p, q) for p in x for q in y) / (m * n)


def _kernel(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3


def _u_centred(x):
    """The mean square of the U-centred kernel of one set, by its definition."""
    k, n = _kernel(x, x) * (1 - np.eye(len(x))), len(x)
    means = k.sum(1) / (n - 2)
    centred = k - means[:, None] - means[None] + k.sum() / ((n - 1) * (n - 2))
    return (centred[~np.eye(n, dtype=bool)] ** 2).sum() / (n * (n - 3))


def _residual(x, y):
    k = _kernel(x, y)
    left = k - k.mean(1, keepdims=True) - k.mean(0, keepdims=True) + k.mean()
    return (left**2).sum() / ((k.shape[0] - 1) * (k.shape[1] - 1))


def test_kid_is_the_textbook_estimator_and_its_error_the_jackknife_that_counts_pairs_once():
    r = np.random.RandomState(0)
    x, y = r.randn(7, 4), r.randn(5, 4) + 2  # far apart, so that the part of single images is not 0
    found = kid(x, y)
    np.testing.assert_allclose(found.value, _naive_mmd2(x, y), rtol=1e-10)
    left_x = np.array([_naive_mmd2(np.delete(x, i, 0), y) for i in range(7)])
    left_y = np.array([_naive_mmd2(x, np.delete(y, i, 0)) for i in range(5)])
    jackknife = 6 * left_x.var() + 4 * left_y.var()
    a, b, ab = _u_centred(x), _u_centred(y), _residual(x, y)
    single = jackknife - 4 * a / (7 * 5) - 4 * b / (5 * 3) - 8 * ab / 35
    assert single > 0
    np.testing.assert_allclose(found.stderr**2, single + 2 * a / (7 * 6) + 2 * b / (5 * 4) + 4 * ab / 35, rtol=1e-9)
    assert kid(x[:3], y[:3]).stderr > 0  # three images tell nothing of pairs within a set


@pytest.mark.parametrize(("m", "n", "shift"), [(50, 50, 0.0), (25, 50, 0.0), (50, 50, 0.2), (50, 50, 1.0)])
def test_kid_error_is_the_spread_of_kid(m, n, shift):
    """The spread of 600 values is known within 3 %; the error is a few per cent above it, as no part is negative. The
    jackknife alone has 1.41 where the sets are alike.
    """
    r = np.random.RandomState(3)
    found = [kid(r.randn(m, 64), r.randn(n, 64) + shift) for _ in range(600)]
    error = np.sqrt(np.mean([v.stderr**2 for v in found]))
    assert 0.93 < error / np.std([v.value for v in found]) < 1.18


def test_kid_is_unbiased_and_its_error_covers():
    r = np.random.RandomState(1)
    results = [kid(r.randn(30, 6), r.randn(20, 6)) for _ in range(300)]
    values = np.array([v.value for v in results])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))
    assert 0.5 < np.mean([v.stderr for v in results]) / values.std() < 2.5
    shifted = kid(r.randn(60, 6), r.randn(60, 6) + 1.0)
    assert shifted.value > 3 * shifted.stderr > 0


def test_kid_over_subsets_agrees_and_repeats():
    r = np.random.RandomState(2)
    x, y = r.randn(80, 5), r.randn(50, 5) + 0.5
    found = kid_subsets(x, y, subsets=40, subset_size=25)
    assert found == kid_subsets(x, y, subsets=40, subset_size=25)
    assert abs(found.mean - kid(x, y).value) < 3 * found.std
    assert found.subset_size == 25 and kid_subsets(x, y, subsets=2).subset_size == 50
    whole = kid_subsets(x, y[:50], subsets=1, subset_size=80)
    assert whole.subset_size == 50
    np.testing.assert_allclose(kid_subsets(x[:50], y, subsets=1).mean, kid(x[:50], y).value, rtol=1e-9)


def test_a_kid_of_fewer_than_100_images_is_said_to_mean_nothing():
    assert few(99) == "KID of 99 images means nothing; it takes 100 or more" and few(100) == few(5000) == ""


def test_kid_refuses_what_it_cannot_compare():
    with pytest.raises(LsapError, match=r"\(4, 3\) and \(4, 2\)"):
        kid(np.zeros((4, 3)), np.zeros((4, 2)))
    with pytest.raises(LsapError, match="at least 3"):
        kid(np.zeros((2, 3)), np.zeros((9, 3)))


@pytest.fixture(scope="module")
def textures():
    """280 images of random blobs, 32 px, uint8."""
    r = np.random.RandomState(3)
    low = r.uniform(0, 255, (280, 4, 4, 3))
    return np.repeat(np.repeat(low, 8, axis=1), 8, axis=2).astype(np.uint8)


def test_random_features_are_fixed_and_per_image(textures):
    textures = textures[:100]
    found = random_features(textures)
    assert len(found) == 100 and found.dtype == np.float32 and np.isfinite(found).all()
    np.testing.assert_array_equal(found, random_features(textures))
    np.testing.assert_allclose(random_features(textures[70:73]), found[70:73], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(random_features(textures / np.float32(127.5) - 1), found, rtol=1e-5, atol=1e-5)
    assert np.abs(random_features(textures, seed=1) - found).max() > 0.1
    assert "seed 1" in kid_module.feature_description(1) and "FID" not in kid_module.feature_description()


def test_whitened_random_features_see_what_the_eye_sees(textures):
    """Two parts of a set are close; a blurred, noisy, recoloured or collapsed part is far, in units of the error."""
    whiten = fit_whitening(random_features(textures[:160]))
    reference = whiten(random_features(textures[160:220]))
    np.testing.assert_allclose(whiten(random_features(textures[:160])).mean(axis=0), 0, atol=1e-4)
    b = textures[220:].astype(float)
    floor = kid(reference, whiten(random_features(b.astype(np.uint8))))
    assert abs(floor.value) < 3 * floor.stderr
    changes = {
        "blurred": np.mean([np.roll(b, (i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0),
        "noisy": b + 48 * np.random.RandomState(4).randn(*b.shape),
        "tinted": b * np.array([1.0, 1.0, 0.4]),
        "collapsed": b[np.arange(60) % 4],
    }
    for name, changed in changes.items():
        found = kid(reference, whiten(random_features(np.clip(changed, 0, 255).astype(np.uint8))))
        assert found.value > 3 * found.stderr, name


def test_whitening_gives_unit_variances():
    r = np.random.RandomState(5)
    x = r.randn(400, 12) @ r.randn(12, 12) + 3
    found = fit_whitening(x)(x)
    assert found.shape == (400, 12)
    np.testing.assert_allclose(np.cov(found.T), np.eye(12), atol=0.3)
    with pytest.raises(LsapError, match="at least 8"):
        fit_whitening(x[:5])


def test_random_features_refuse_tiny_images():
    with pytest.raises(LsapError, match="8 x 8"):
        random_features(np.zeros((2, 4, 4, 3), np.uint8))
