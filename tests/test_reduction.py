"""Sums of a fixed order: the values and gradients of plain sums, and the same bits in every batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsap_jax.networks.reduction import average, matmul, scaled, total

ROWS = (1, 2, 3, 5, 8, 33, 64, 100)


def values(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@settings(max_examples=10)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.data())
def test_total_and_average_are_numpys(shape, data):
    first = data.draw(st.integers(0, len(shape) - 1))
    last = data.draw(st.integers(first, len(shape) - 1))
    axes, keep, x = tuple(range(first, last + 1)), data.draw(st.booleans()), values(shape)
    exact = x.astype(np.float64)
    scale = np.abs(exact).sum(axis=axes).max()
    with jax.disable_jit():
        np.testing.assert_allclose(total(x, axes, keep), exact.sum(axis=axes, keepdims=keep), rtol=0, atol=1e-6 * scale)
        np.testing.assert_allclose(average(x, axes, keep), exact.mean(axis=axes, keepdims=keep), atol=1e-5)


def test_negative_axes_and_axes_apart():
    x = jnp.asarray(values((2, 3, 4)))
    np.testing.assert_allclose(total(x, -1), x.sum(axis=-1), rtol=1e-6)
    np.testing.assert_allclose(total(x, (-1, -2)), x.sum(axis=(1, 2)), rtol=1e-5)
    with pytest.raises(ValueError, match="not neighbours"):
        total(x, (0, 2))


def test_rounding_stays_small_over_many_terms():
    x = np.full((1 << 20,), 0.1, np.float32)
    assert abs(float(jax.jit(lambda x: total(x, 0))(x)) / (x.astype(np.float64).sum()) - 1) < 3e-7


@pytest.mark.parametrize("shape", [(3, 1, 1, 7), (3, 5, 4, 1), (1, 5, 4, 7), (3, 5, 4, 7)])
def test_gradients_are_those_of_plain_sums(shape):
    x, s = values((3, 5, 4, 7)), values(shape, 1)

    def ours(x, s):
        return jnp.square(total(scaled(x, s), (1, 2, 3))).sum() + jnp.square(average(x, -1)).sum()

    def plain(x, s):
        return jnp.square((x * s).sum(axis=(1, 2, 3))).sum() + jnp.square(x.mean(axis=-1)).sum()

    for found, expected in zip(jax.grad(ours, (0, 1))(x, s), jax.grad(plain, (0, 1))(x, s), strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # R1 and path length differentiate a gradient once more.
    twice = [jax.grad(lambda x, f=f: jnp.square(jax.grad(f)(x, s)).sum())(x) for f in (ours, plain)]
    np.testing.assert_allclose(twice[0], twice[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("width", [24, 128, 512])
def test_a_product_does_not_depend_on_the_number_of_rows(width):
    x, w, g = values((100, width)), values((width, 96), 1), values((100, 96), 2)

    @jax.jit
    def both(x, w, g):
        y, back = jax.vjp(matmul, x, w)
        return y, back(g)[0]

    forward, backward = both(x, w, g)
    np.testing.assert_allclose(forward, x @ w, atol=1e-4 * np.sqrt(width))
    np.testing.assert_allclose(backward, g @ w.T, atol=1e-3)
    np.testing.assert_allclose(jax.grad(lambda w: (matmul(x, w) * g).sum())(w), x.T @ g, atol=1e-3)
    for rows in ROWS:
        y, dx = both(x[:rows], w, g[:rows])
        np.testing.assert_array_equal(y, forward[:rows])
        np.testing.assert_array_equal(dx, backward[:rows])


@pytest.mark.parametrize("shape", [(10, 128), (32, 32, 24)])
def test_a_sum_does_not_depend_on_the_batch(shape):
    x = values((16, *shape))

    @jax.jit
    def sums(x):
        return total(jnp.square(x), tuple(range(1, x.ndim))), average(jnp.square(x), -1)

    whole = sums(x)
    for rows in (1, 2, 3, 4, 7):
        for part, expected in zip(sums(x[:rows]), whole, strict=True):
            np.testing.assert_array_equal(part, expected[:rows])
