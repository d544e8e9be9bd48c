"""Promise 1 on processors: every image runs the same program, so its bits are the same whatever is beside it.

`.ci/run` repeats these tests with other instruction sets and another size of the thread pool.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lsap_jax
from lsap_jax.networks.image_by_image import in_groups
from lsap_jax.testing import tiny_generator, tiny_images

ROWS = (1, 2, 5)


@pytest.fixture(scope="module")
def G():
    return tiny_generator(basecode=True)


@pytest.fixture(scope="module")
def z(G):
    return jax.random.normal(jax.random.key(1), (8, G.z_dim))


def same_rows(function, *arrays):
    """`function` of the first rows gives the first rows of what it gives for all, bit for bit."""
    whole = function(*arrays)
    for rows in ROWS:
        part = function(*(a[:rows] for a in arrays))
        jax.tree.map(lambda a, b, n=rows: np.testing.assert_array_equal(a, b[:n]), part, whole)


def test_rows_of_a_generator(G, z):
    ws = G.mapping(z, truncation_psi=0.7)
    same_rows(lambda z: G.mapping(z, truncation_psi=0.7), z)
    same_rows(G.synthesis, ws)


@pytest.mark.slow
def test_rows_of_other_roads_through_a_generator(G, z):
    ws = G.mapping(z, truncation_psi=0.7)
    same_rows(G.styles, ws)
    same_rows(lambda ws: G.synthesis(ws, "random", jax.random.key(0)), ws)
    f = G.features(ws)[1]["b8.conv0"]
    same_rows(lambda ws, f: G.synthesis(ws, f=f), ws, f)


def test_rows_of_what_comes_with_a_generator(G):
    images = jnp.asarray(tiny_images(8) / 127.5 - 1, jnp.float32)
    same_rows(G.discriminator.features, images)
    same_rows(G.basecode, images)


@pytest.mark.slow  # test_latent_encoder.py has the encoder
def test_a_bundled_generator_and_its_encoder():
    G = lsap_jax.load_generator("toonhead64")
    images = G.synthesis(G.mapping(jax.random.normal(jax.random.key(1), (8, G.z_dim))))
    same_rows(lambda z: G.synthesis(G.mapping(z)), jax.random.normal(jax.random.key(1), (8, G.z_dim)))
    same_rows(lambda x: G.encoder(x, G), images)


def test_a_trace_computes_its_batch_at_once(G, z):
    """Gradients and other transformations of a batch stay what they were; values agree up to rounding."""
    ws = G.mapping(z)
    traced = jax.jit(lambda G, ws: G.synthesis(ws))
    np.testing.assert_allclose(traced(G, ws), G.synthesis(ws), atol=1e-5)
    slope = jax.grad(lambda ws: jnp.square(G.synthesis(ws)).sum())(ws)
    alone = jax.grad(lambda ws: jnp.square(G.synthesis(ws)).sum())(ws[2:3])
    np.testing.assert_allclose(slope[2:3], alone, rtol=1e-3, atol=1e-3 * float(jnp.abs(alone).max()))


@settings(max_examples=15)
@given(st.lists(st.booleans(), min_size=1, max_size=7), st.integers(0, 8))
def test_groups(live, size):
    x = np.arange(2.0 * len(live), dtype=np.float32).reshape(-1, 2)
    found = jax.jit(lambda x, live: in_groups(size, live, lambda x: {"y": jnp.square(x) + 1}, x))(x, np.array(live))
    wanted = np.array(live)
    np.testing.assert_array_equal(found["y"][wanted], (np.square(x) + 1)[wanted])
    if size == 1:
        np.testing.assert_array_equal(found["y"][~wanted], 0)


def test_places_without_an_image_cost_nothing():
    rounds = []

    def some(x):
        jax.debug.callback(rounds.append, x[0, 0])
        return x

    live = np.array([False, True, False, False, True, False])
    jax.block_until_ready(jax.jit(lambda x, live: in_groups(1, live, some, x))(np.arange(6.0)[:, None], live))
    jax.effects_barrier()
    assert sorted(map(float, rounds)) == [1.0, 4.0]


@pytest.mark.slow
@pytest.mark.parametrize("space", ["f/z+", "w+"])
def test_an_inversion_is_the_same_in_every_batch_and_on_every_number_of_devices(G, space):
    images, ids = tiny_images(5), [f"k{i}" for i in range(5)]
    every = lsap_jax.invert(G, images, space, steps=12, ids=ids, batch_size=5)
    for batch in (1, 3):
        found = lsap_jax.invert(G, images, space, steps=12, ids=ids, batch_size=batch)
        jax.tree.map(np.testing.assert_array_equal, found.codes, every.codes)
        np.testing.assert_array_equal(found.images, every.images)
        jax.tree.map(np.testing.assert_array_equal, found.metrics, every.metrics)
    alone = lsap_jax.invert(G, images[3:4], space, steps=12, ids=ids[3:4])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[3]), alone.codes, every.codes)
