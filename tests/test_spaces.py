"""Spaces: the sphere, starts, moves, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lsap_jax.errors import LsapError
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.feature import check_resolution, default_resolution, own_feature, start, uses_encoder
from lsap_jax.spaces.sphere import retract, tangent
from lsap_jax.testing import tiny_generator

vectors = hnp.arrays(np.float32, (3, 16), elements=st.floats(-100, 100, width=32)).filter(
    lambda z: (np.linalg.norm(z, axis=1) > 1e-3).all()
)


@given(vectors)
def test_retraction_lands_on_the_sphere_and_keeps_the_direction(z):
    r = np.asarray(retract(jnp.asarray(z)))
    np.testing.assert_allclose(np.linalg.norm(r, axis=1), 4.0, rtol=1e-5)
    cosine = (r * z).sum(1) / np.linalg.norm(r, axis=1) / np.linalg.norm(z, axis=1)
    np.testing.assert_allclose(cosine, 1.0, atol=1e-5)
    np.testing.assert_allclose(retract(jnp.asarray(r)), r, atol=1e-5)


@given(vectors, vectors)
def test_tangent_is_orthogonal_and_a_projection(z, v):
    t = np.asarray(tangent(jnp.asarray(z), jnp.asarray(v)), np.float64)
    scale = np.linalg.norm(z, axis=1) * np.linalg.norm(v, axis=1) + 1e-6
    assert (np.abs((t * z).sum(1)) / scale < 1e-5).all()
    again = np.asarray(tangent(jnp.asarray(z), jnp.asarray(t, jnp.float32)))
    np.testing.assert_allclose(again, t, atol=1e-4 * np.abs(v).max() + 1e-6)


def test_the_zero_vector_stays_and_has_a_finite_gradient():
    assert (retract(jnp.zeros((2, 8))) == 0).all()
    assert jnp.isfinite(jax.grad(lambda z: retract(z).sum())(jnp.zeros((2, 8)))).all()


@pytest.fixture(scope="module")
def G():
    return tiny_generator(basecode=True)


@pytest.mark.parametrize("name", ["z", "z+", "f/z", "f/z+"])
def test_a_code_decodes_to_the_image_of_its_ws(G, name):
    space = parse_space(name)
    rng = jax.random.split(jax.random.key(0), 2)
    f0 = jnp.broadcast_to(own_feature(G, 4), (2, 4, 4, 8)) if space.has_base else None
    codes = space.init(G, rng, f0)
    assert tuple(codes) == space.keys
    rows = codes["z"] if "+" in name else jnp.repeat(codes["z"][:, None], G.num_ws, axis=1)
    ws = jnp.stack([G.mapping(rows[:, i])[:, i] for i in range(G.num_ws)], axis=1)
    expected = G.synthesis(ws, f=f0) if space.has_base else G.synthesis(ws)
    np.testing.assert_allclose(G.synthesis(**space.decode(G, codes)), expected, atol=1e-5)


def test_starts_depend_on_the_key_alone(G):
    space = parse_space("z+")
    rng = jax.random.split(jax.random.key(1), 4)
    together, alone = space.init(G, rng)["z"], space.init(G, rng[2:3])["z"]
    np.testing.assert_array_equal(together[2:3], alone)
    assert np.abs(together[0] - together[1]).max() > 0.1
    np.testing.assert_allclose(jnp.linalg.norm(together, axis=-1), 4.0, rtol=1e-5)


@given(st.floats(-5, 5, width=32), st.integers(0, 100))
def test_moves_stay_on_the_sphere_and_strength_zero_changes_no_bit(strength, seed):
    space = parse_space("z+")
    z_rng, d_rng = jax.random.split(jax.random.key(seed))
    codes = space.retract({"z": jax.random.normal(z_rng, (2, 6, 16))})
    direction = jax.random.normal(d_rng, (16,))
    moved = space.move(codes, direction, jnp.array([strength, 0.0], jnp.float32))["z"]
    np.testing.assert_allclose(jnp.linalg.norm(moved, axis=-1), 4.0, rtol=1e-5)
    np.testing.assert_array_equal(moved[1], codes["z"][1])
    if abs(strength) > 0.1:
        assert np.abs(moved[0] - codes["z"][0]).max() > 1e-4


def test_normalising_spaces_do_not_see_the_length(G):
    codes = parse_space("z").init(G, jax.random.split(jax.random.key(0), 1))
    longer = {"z": codes["z"] * 3}
    inside, outside = parse_space("z", normalise=True), parse_space("z")
    same = G.synthesis(**inside.decode(G, longer))
    np.testing.assert_allclose(same, G.synthesis(**inside.decode(G, codes)), atol=1e-5)
    assert np.abs(G.synthesis(**outside.decode(G, longer)) - same).max() > 1e-3


def test_truncation_belongs_to_the_space(G):
    codes = parse_space("z+").init(G, jax.random.split(jax.random.key(0), 1))
    full = parse_space("z+").decode(G, codes)["ws"]
    cut = parse_space("z+", truncation_psi=0.5, truncation_cutoff=2).decode(G, codes)["ws"]
    mean = np.asarray(G.w_avg)[None, None]
    np.testing.assert_allclose(cut[:, :2], mean + 0.5 * (full[:, :2] - mean), atol=1e-5)
    np.testing.assert_array_equal(cut[:, 2:], full[:, 2:])


def test_where_the_base_code_starts(G):
    images = jnp.ones((2, 32, 32, 3)) * jnp.array([0.1, -0.4])[:, None, None, None]
    assert uses_encoder(G, 4, "auto") and not uses_encoder(G, 8, "auto") and not uses_encoder(G, 4, "w_avg")
    encoded = start(G, images, 4, "auto")
    np.testing.assert_allclose(encoded, G.basecode(images), atol=1e-6)
    own = start(G, images, 8, "auto")
    np.testing.assert_array_equal(own[0], own[1])
    ws = jnp.broadcast_to(G.w_avg[None, None], (1, G.num_ws, G.w_dim))
    np.testing.assert_allclose(own[:1], G.features(ws)[1]["b8.conv0"], atol=1e-6)
    with pytest.raises(LsapError, match="needs a base-code encoder for resolution 8; this generator has one for base"):
        uses_encoder(G, 8, "encoder")
    with pytest.raises(LsapError, match="choose auto, encoder or w_avg"):
        uses_encoder(G, 4, "mean")


def test_names_and_resolutions_that_are_not_there(G):
    with pytest.raises(LsapError, match="unknown space 'q'; there are z, z\\+, f/z, f/z\\+"):
        parse_space("q")
    assert default_resolution(G) == 4
    assert check_resolution(G, 0) == 4 and check_resolution(G, 16) == 16
    with pytest.raises(LsapError, match="base_resolution 32 is none of"):
        check_resolution(G, 32)
    import dataclasses

    other = G.replace(config=dataclasses.replace(G.config, architecture="orig"))
    with pytest.raises(LsapError, match="architecture 'skip', this one is 'orig'"):
        check_resolution(other, 4)
    space = parse_space("F/Z+")
    assert parse_space(space) is space and space.name == "f/z+"
