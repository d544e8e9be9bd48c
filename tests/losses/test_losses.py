"""Resizing against torch, masked pixel loss, base-code regulariser."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsap_jax.losses.base import base_code
from lsap_jax.losses.pixel import mse
from lsap_jax.networks.pixel_maps import area, area_matrix, bicubic, cubic_matrix

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def torch_vectors() -> dict[str, np.ndarray]:
    """Outputs (y, area) and input gradients (g, for cotangents c) of torch.nn.functional.interpolate, in NHWC."""
    with np.load(Path(__file__).parents[1] / "vectors" / "bicubic_torch.npz") as file:
        return {k: file[k] for k in file.files}


@pytest.mark.parametrize("case", range(6))
def test_bicubic_equals_torch(torch_vectors, case):
    x, expected = torch_vectors[f"x{case}"], torch_vectors[f"y{case}"]
    np.testing.assert_allclose(bicubic(jnp.asarray(x), expected.shape[1:3]), expected, atol=5e-6)


@pytest.mark.parametrize("case", [1, 3])
def test_bicubic_gradient_equals_torch(torch_vectors, case):
    x, c, expected = (torch_vectors[f"{n}{case}"] for n in "xcg")
    gradient = jax.grad(lambda v: (bicubic(v, c.shape[1:3]) * c).sum())(jnp.asarray(x))
    np.testing.assert_allclose(gradient, expected, atol=5e-6)


def test_bicubic_by_four_has_the_authors_taps():
    row = cubic_matrix(1024, 256)[100]
    np.testing.assert_allclose(row[400:404], [-0.09375, 0.59375, 0.59375, -0.09375])
    assert np.count_nonzero(row) == 4


@pytest.mark.parametrize(("size", "factor"), [(1, 2), (2, 2), (5, 3), (3, 4), (4, 5), (2, 6), (3, 8)])
def test_integer_factors_take_the_same_taps_as_the_general_road(size, factor):
    x = np.random.RandomState(size).randn(1, size * factor, size * factor, 2).astype(np.float32)
    rows = cubic_matrix(size * factor, size)
    expected = np.einsum("oh,pw,bhwc->bopc", rows, rows, x)
    np.testing.assert_allclose(bicubic(jnp.asarray(x), (size, size)), expected, atol=1e-5)


def test_area_equals_torch_for_integer_factors(torch_vectors):
    np.testing.assert_allclose(area(jnp.asarray(torch_vectors["x0"]), (8, 8)), torch_vectors["area0"], atol=1e-6)


@given(st.integers(1, 40), st.integers(1, 40))
def test_area_is_an_average_that_keeps_the_mean(source, size):
    matrix = area_matrix(source, size)
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(matrix.sum(axis=0), size / source, rtol=1e-9)


def test_mse_is_the_mean_per_image():
    a, b = np.random.RandomState(0).randn(2, 3, 5, 6, 2).astype(np.float32)
    np.testing.assert_allclose(mse(jnp.asarray(a), jnp.asarray(b)), ((a - b) ** 2).mean(axis=(1, 2, 3)), rtol=1e-6)


def test_mask_selects_pixels():
    a, b = (jnp.asarray(v) for v in np.random.RandomState(1).randn(2, 2, 6, 6, 3).astype(np.float32))
    mask = jnp.zeros((2, 6, 6)).at[:, :3, :2].set(1.0)
    np.testing.assert_allclose(mse(a, b, mask), mse(a[:, :3, :2], b[:, :3, :2]), rtol=1e-6)
    np.testing.assert_allclose(mse(a, b, 0.25 * mask), mse(a, b, mask), rtol=1e-6)
    np.testing.assert_allclose(mse(a, b, jnp.ones((2, 6, 6))), mse(a, b), rtol=1e-6)


def test_empty_mask_gives_zero_loss_and_gradient():
    a = jnp.ones((2, 4, 4, 3))
    mask = jnp.zeros((2, 4, 4)).at[1].set(1.0)
    values, gradient = mse(a, 0 * a, mask), jax.grad(lambda v: mse(v, 0 * a, mask).sum())(a)
    np.testing.assert_array_equal(values, [0.0, 1.0])
    np.testing.assert_array_equal(gradient[0], 0 * gradient[0])
    assert np.isfinite(gradient).all()


def test_base_code_is_the_mean_square_and_per_image():
    f, f0 = np.random.RandomState(2).randn(2, 3, 4, 4, 8).astype(np.float32)
    expected = ((f - f0) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(base_code(jnp.asarray(f), jnp.asarray(f0)), expected, rtol=1e-6)
    gradient = jax.grad(lambda v: base_code(v, jnp.asarray(f0))[1])(jnp.asarray(f))
    assert not gradient[0].any() and not gradient[2].any() and gradient[1].any()
