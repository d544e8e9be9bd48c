"""Priors on codes and on noise maps, against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsap_jax.losses import prior
from lsap_jax.spaces.noise import maps_of, retract

pytestmark = pytest.mark.usefixtures("quick_compilation")

SIDES = (4, 8, 16, 32)
COUNT = 3


def random_ws(seed: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal((COUNT, 6, 16))).astype(np.float32)


def random_maps(seed: int) -> np.ndarray:
    """Flat, as codes hold them."""
    return np.random.default_rng(seed).standard_normal((COUNT, sum(r * r for r in SIDES))).astype(np.float32)


@pytest.fixture(scope="module")
def priors(tiny):
    """Name -> (prior of one array [B, ...], an example)."""
    return {
        "pn": (jax.jit(lambda ws: prior.pn(tiny.statistics, ws)), random_ws),
        "pn with a floor": (jax.jit(lambda ws: prior.pn(tiny.statistics, ws, 0.1)), random_ws),
        "delta": (jax.jit(prior.delta), random_ws),
        "w_norm": (jax.jit(lambda ws: prior.w_norm(ws, tiny.w_avg)), random_ws),
        "noise": (jax.jit(lambda flat: prior.noise(maps_of(flat, SIDES))), random_maps),
    }


def test_domain_is_a_mean_square():
    ws, encoded = random_ws(0), random_ws(1)
    np.testing.assert_allclose(prior.domain(ws, encoded), np.square(ws - encoded).mean(axis=(1, 2)), rtol=1e-6)


NAMES = ("pn", "pn with a floor", "delta", "w_norm", "noise")


def autocorrelation(m: np.ndarray) -> float:
    """Of one map, as the projector's code has it."""
    found = 0.0
    while True:
        found += (m * np.roll(m, 1, axis=1)).mean() ** 2 + (m * np.roll(m, 1, axis=0)).mean() ** 2
        if len(m) <= 8:
            return found
        m = m.reshape(len(m) // 2, 2, len(m) // 2, 2).mean(axis=(1, 3))


@given(seed=st.integers(0, 2**31 - 1), scale=st.floats(1e-2, 1e2))
def test_they_are_their_formulas(tiny, priors, seed, scale):
    s = jax.tree.map(lambda a: np.asarray(a, np.float64), tiny.statistics)
    ws = random_ws(seed, scale)
    w = ws.astype(np.float64)
    pn = (np.where(w < 0, 5 * w, w) - s.p_mean) @ s.p_vectors
    expected = {
        "pn": np.square(pn / np.sqrt(s.p_values)).mean(axis=(1, 2)),
        "pn with a floor": np.square(pn / np.sqrt(np.maximum(s.p_values, 0.1 * s.p_values[0]))).mean(axis=(1, 2)),
        "delta": np.linalg.norm(w[:, 1:] - w[:, :1], axis=-1).sum(axis=1),
        "w_norm": np.linalg.norm((w - np.asarray(tiny.w_avg)).reshape(COUNT, -1), axis=1),
    }
    for name, value in expected.items():
        # The weakest axis of P_N magnifies the rounding of w.
        np.testing.assert_allclose(priors[name][0](ws), value, rtol=1e-3 if name == "pn" else 1e-5, err_msg=name)


@given(st.integers(0, 2**31 - 1))
def test_noise_is_compared_with_its_neighbours_at_every_scale(seed):
    flat = random_maps(seed)
    maps = maps_of(flat.astype(np.float64), SIDES)
    expected = [sum(autocorrelation(m[i]) for m in maps) for i in range(COUNT)]
    np.testing.assert_allclose(prior.noise(maps_of(jnp.asarray(flat), SIDES)), expected, rtol=1e-4, atol=1e-7)


def test_signal_in_noise_costs_more_than_noise():
    white = retract(jnp.asarray(random_maps(0)), SIDES)
    smooth = [m + jnp.roll(m, 1, 1) + jnp.roll(m, 1, 2) for m in maps_of(white, SIDES)]
    flat = retract(jnp.concatenate([m.reshape(COUNT, -1) for m in smooth], axis=-1), SIDES)
    assert (prior.noise(maps_of(flat, SIDES)) > 3 * prior.noise(maps_of(white, SIDES))).all()


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**31 - 1), index=st.integers(0, COUNT - 1))
def test_an_image_does_not_see_its_neighbours(priors, name, seed, index):
    value, example = priors[name]
    x = example(seed)
    np.testing.assert_allclose(value(x[index : index + 1])[0], value(x)[index], rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_and_each_images_own(tiny, priors, name):
    value, example = priors[name]
    slope = jax.jit(jax.grad(lambda x: value(x)[1]))
    gradient = np.asarray(slope(example(0)))
    assert gradient[1].any() and not gradient[0].any() and not gradient[2].any()
    mean = np.broadcast_to(np.asarray(tiny.w_avg), (COUNT, 6, 16))
    for x in (np.zeros_like(example(0)), *([mean] if name != "noise" else [])):  # every length is 0 there
        assert np.isfinite(value(x)).all() and np.isfinite(slope(x)).all()
    if name in ("delta", "w_norm"):
        assert not value(mean).any() and not slope(mean).any()
