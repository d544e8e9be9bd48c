"""P and P_N: activation, whitening, and its floor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsap_jax.models.generator_file import load_generator
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.gaussian import Gaussian, colour, p_of, w_of, whiten
from lsap_jax.spaces.statistics import with_statistics

pytestmark = pytest.mark.usefixtures("quick_compilation")

seeds = st.integers(0, 2**31 - 1)
floors = st.floats(0, 0.5)
whiten, colour = (jax.jit(f, static_argnames="floor") for f in (whiten, colour))


@pytest.fixture(scope="module")
def trained():
    """The bundled generator, whose variances span four powers of ten, with its statistics; without the rest."""
    G = with_statistics(load_generator("toonhead64"))
    return G.without("discriminator", "basecode")


def sample_w(G, count: int, seed: int) -> jax.Array:
    return jax.jit(lambda G, z: G.map_w(z))(G, jax.random.normal(jax.random.key(seed), (count, G.z_dim)))


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1))
def test_the_activation_is_undone(values):
    w = jnp.asarray(values, jnp.float32)
    np.testing.assert_allclose(p_of(w), np.where(np.array(values) < 0, 5 * np.array(values), values), rtol=1e-6)
    np.testing.assert_allclose(w_of(p_of(w)), w, rtol=1e-6)
    np.testing.assert_allclose(p_of(w_of(w)), w, rtol=1e-6)


@pytest.mark.parametrize("model", ["tiny", pytest.param("trained", marks=pytest.mark.slow)])
def test_fresh_samples_are_white(model, request):
    """Mean 0 and standard deviation 1 along every axis, within the sampling error of both sets of samples."""
    G = request.getfixturevalue(model)
    s, count = G.statistics, 100_000
    strong = np.asarray(s.p_values > 1e-3 * s.p_values[0])
    assert strong.sum() >= len(strong) / 2
    pn = np.asarray(whiten(s, p_of(sample_w(G, count, 12_345))), np.float64)[:, strong]
    both = np.sqrt(1 / count + 1 / s.samples)
    assert np.abs(pn.mean(axis=0)).max() < 5 * both
    centred = pn - pn.mean(axis=0)
    # The deviation's own: √((kurtosis - 1) / 4n).
    spread = np.sqrt(((centred**4).mean(axis=0) - 1) / 4) * both
    assert (np.abs(centred.std(axis=0) - 1) < 5 * spread).all()
    # Nothing is left between the axes.
    correlation = np.corrcoef(pn.T) - np.eye(strong.sum())
    assert np.abs(correlation).max() < 7 * both * np.sqrt((centred**4).mean(axis=0).max() / 3)


@pytest.mark.parametrize("model", ["tiny", "trained"])
def test_w_comes_back_from_p_n_within_a_ten_thousandth_of_its_spread(model, request):
    G = request.getfixturevalue(model)
    w = sample_w(G, 1000, 7)
    again = w_of(colour(G.statistics, whiten(G.statistics, p_of(w))))
    assert jnp.linalg.norm(again - w, axis=-1).max() < 1e-4 * G.statistics.w_spread


def test_whitening_is_the_formula(tiny):
    s = jax.tree.map(lambda a: np.asarray(a, np.float64), tiny.statistics)
    w = sample_w(tiny, 50, 1)
    p = np.where(np.asarray(w, np.float64) < 0, 5, 1) * np.asarray(w, np.float64)
    for floor in (0.0, 0.1):
        scale = np.sqrt(np.maximum(s.p_values, floor * s.p_values.max()))
        expected = (p - s.p_mean) @ s.p_vectors / scale
        found = whiten(tiny.statistics, p_of(w), floor=floor)
        # Rounding of p, divided by the smallest deviation.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 / scale.min())
        np.testing.assert_allclose(found, whiten(tiny.statistics, p_of(w)[:, None], floor=floor)[:, 0], rtol=1e-6)


@given(seeds, st.sampled_from([0.0, 1e-4, 0.01, 0.3]))
def test_the_floor_limits_the_stretch(tiny_statistics, seed, floor):
    s = tiny_statistics
    step = jnp.asarray(np.random.default_rng(seed).standard_normal((20, len(s.p_mean))), jnp.float32)
    here = s.p_mean[None]
    stretched = jnp.linalg.norm(whiten(s, here + step, floor=floor) - whiten(s, here, floor=floor), axis=-1)
    longest = jnp.linalg.norm(step, axis=-1) / jnp.sqrt(jnp.maximum(floor * s.p_values.max(), s.p_values.min()))
    assert (stretched <= longest * 1.001).all()
    weakest = s.p_vectors[:, -1][None]
    found = jnp.linalg.norm(whiten(s, here + weakest, floor=floor))
    np.testing.assert_allclose(found, longest[0] / jnp.linalg.norm(step[0]), rtol=1e-2)
    np.testing.assert_allclose(colour(s, whiten(s, here + step, floor=floor), floor=floor), here + step, atol=2e-5)


@pytest.fixture(scope="module")
def tiny_statistics(tiny):
    return tiny.statistics


def test_the_floor_belongs_to_the_space(tiny):
    space = parse_space("pn+", eigenvalue_floor=0.2)
    assert space.detail == Gaussian(whitened=True, per_layer=True, eigenvalue_floor=0.2)
    ws = tiny.map_rows(jax.random.normal(jax.random.key(0), (3, tiny.num_ws, tiny.z_dim)))
    codes = {"p": space.from_ws(tiny, ws)}
    np.testing.assert_allclose(codes["p"], whiten(tiny.statistics, p_of(ws), floor=0.2), atol=1e-6)
    np.testing.assert_allclose(space.decode(tiny, codes).ws, ws, atol=1e-5)
    free = parse_space("pn+").from_ws(tiny, ws)
    assert (jnp.abs(codes["p"]) < jnp.abs(free))[..., -1].all()
    np.testing.assert_allclose(codes["p"][..., 0], free[..., 0], rtol=1e-6)


def test_samples_have_length_root_d_in_p_n(tiny):
    """What the prior 0.01 · mean(p_N²) is at the generator's own samples: 0.01."""
    pn = parse_space("pn").from_ws(tiny, tiny.repeat_w(sample_w(tiny, 20_000, 3)))
    np.testing.assert_allclose(jnp.square(pn).mean(), 1, atol=0.02)


def test_a_whitened_space_says_that_it_needs_statistics(tiny):
    bare = tiny.without("statistics")
    with pytest.raises(ValueError, match="with_statistics"):
        parse_space("pn").decode(bare, {"p": jnp.zeros((1, 16))})
    assert parse_space("pn").needs_statistics and not parse_space("p").needs_statistics
    assert parse_space("p").decode(bare, {"p": jnp.zeros((1, 16))}).ws.shape == (1, 6, 16)
