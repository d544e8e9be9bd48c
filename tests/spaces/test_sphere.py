"""Geometry of the sphere, and how codes of z spaces move on it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lsap_jax.errors import LsapError
from lsap_jax.spaces import parse_space, sphere

pytestmark = pytest.mark.usefixtures("quick_compilation")

DIM, RADIUS = 16, 4.0
vectors = hnp.arrays(np.float32, (3, DIM), elements=st.floats(-100, 100, width=32)).filter(
    lambda z: (np.linalg.norm(z, axis=1) > 1e-3).all()
)
seeds = st.integers(0, 2**31 - 1)
angles = st.floats(-3, 3, width=32)
retract, rotate, slerp, tangent = (jax.jit(f) for f in (sphere.retract, sphere.rotate, sphere.slerp, sphere.tangent))


def points(seed: int, count: int = 2) -> np.ndarray:
    """`count` groups of five points on the sphere."""
    z = np.random.default_rng(seed).standard_normal((count, 5, DIM))
    return (RADIUS * z / np.linalg.norm(z, axis=-1, keepdims=True)).astype(np.float32)


def angle(a, b) -> np.ndarray:
    """Between vectors, in float64; exact for near and for opposite ones (Kahan)."""
    a, b = (
        np.asarray(x, np.float64) / np.linalg.norm(np.asarray(x, np.float64), axis=-1, keepdims=True) for x in (a, b)
    )
    return 2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))


def full(value: float, z) -> jax.Array:
    return jnp.full((*z.shape[:-1], 1), value, jnp.float32)


def on_sphere(z) -> None:
    np.testing.assert_allclose(np.linalg.norm(np.asarray(z, np.float64), axis=-1), RADIUS, rtol=1e-5)


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


@given(seeds, angles, st.floats(1e-3, 1e3))
def test_a_rotation_turns_by_its_angle_within_the_plane(seed, alpha, length):
    z, d = points(seed)
    turned = rotate(jnp.asarray(z), jnp.asarray(d * length), full(alpha, z))
    on_sphere(turned)
    np.testing.assert_allclose(angle(z, turned), abs(alpha), atol=2e-6)
    left = np.abs(angle(z, d) - alpha)  # of the way to the direction, or beyond it
    np.testing.assert_allclose(angle(turned, d), np.minimum(left, 2 * np.pi - left), atol=3e-6)
    # Nothing leaves the plane of z and d.
    basis = np.linalg.qr(np.stack([z, d], axis=-1).astype(np.float64))[0]
    inside = (basis @ (basis.swapaxes(-1, -2) @ np.asarray(turned, np.float64)[..., None]))[..., 0]
    np.testing.assert_allclose(turned, inside, atol=1e-5)


@given(seeds, angles)
def test_there_and_back_short_of_the_direction_is_where_it_was(seed, alpha):
    z, d = points(seed)
    theta = angle(z, d)
    assume((theta - alpha > 0.05).all() and (theta - alpha < np.pi - 0.05).all())
    there = rotate(jnp.asarray(z), jnp.asarray(d), full(alpha, z))
    np.testing.assert_allclose(rotate(there, jnp.asarray(d), full(-alpha, z)), z, atol=2e-5)


@given(seeds, st.sampled_from([1.0, -1.0, 0.01, -250.0]))
def test_along_itself_there_is_no_course_and_z_stays(seed, factor):
    z = points(seed)[0]
    np.testing.assert_array_equal(rotate(jnp.asarray(z), jnp.asarray(z * factor), full(1.0, z)), z)


@given(seeds, st.floats(0, 1, width=32))
def test_slerp_is_even_symmetric_and_stays_on_the_sphere(seed, t):
    a, b = (jnp.asarray(p) for p in points(seed))
    found = slerp(a, b, full(t, a))
    on_sphere(found)
    whole = angle(a, b)
    np.testing.assert_allclose(angle(a, found), t * whole, atol=3e-6)
    np.testing.assert_allclose(angle(found, b), (1 - t) * whole, atol=3e-6)
    np.testing.assert_allclose(found, slerp(b, a, 1 - full(t, a)), atol=2e-5)


@given(seeds, st.sampled_from([1e-6, 1e-4, 1e-2]))
def test_slerp_between_neighbours_keeps_its_digits(seed, gap):
    a, step = points(seed)
    b = np.asarray(retract(jnp.asarray(a + gap * step)))
    found = np.asarray(slerp(jnp.asarray(a), jnp.asarray(b), full(0.5, a)))
    np.testing.assert_allclose(found, (a.astype(np.float64) + b) / 2, atol=2e-6 + gap**2)  # 5e-4 by the arc cosine


def test_the_ends_of_slerp_are_its_points():
    a, b = (jnp.asarray(p) for p in points(3))
    np.testing.assert_allclose(slerp(a, b, full(0.0, a)), a, rtol=2e-7, atol=1e-7)
    np.testing.assert_allclose(slerp(a, b, full(1.0, a)), b, atol=2e-6)
    np.testing.assert_array_equal(slerp(a, -a, full(0.3, a)), a)


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


@given(seeds, angles)
def test_a_turn_of_a_space_is_the_rotation_of_every_row(seed, alpha):
    space, (z, d) = parse_space("z+"), points(seed)
    codes = {"z": jnp.stack([jnp.asarray(z)] * 2)}
    turned = space.turn(codes, jnp.asarray(d), jnp.array([alpha, 0.0]))["z"]
    np.testing.assert_allclose(angle(z, turned[0]), abs(alpha), atol=2e-6)
    np.testing.assert_array_equal(turned[1], z)
    # One direction for all rows.
    row = space.turn(codes, jnp.asarray(d[0]), jnp.array([alpha, 0.0]))["z"][0, 0]
    np.testing.assert_allclose(row, turned[0, 0], atol=1e-5)


def test_flat_spaces_have_no_angle():
    with pytest.raises(LsapError, match=r"space w\+ is flat: .* give strengths as steps"):
        parse_space("w+").turn({"w": jnp.zeros((1, 2, 3))}, jnp.ones(3), jnp.ones(1))


@given(seeds, st.floats(0, 1, width=32))
def test_between_codes_z_takes_the_arc_and_all_else_the_line(seed, t):
    space = parse_space("f/z+", noise_sides=(2,))
    rng = np.random.default_rng(seed)
    f, noise = rng.standard_normal((2, 1, 4, 4, 2)), rng.standard_normal((2, 1, 4))
    ends = [
        {"z": jnp.asarray(z)[None], "f": jnp.asarray(f[i], jnp.float32), "noise": jnp.asarray(noise[i], jnp.float32)}
        for i, z in enumerate(points(seed))
    ]
    found = space.between(*ends, jnp.array([t], jnp.float32))
    np.testing.assert_allclose(
        found["z"][0], slerp(ends[0]["z"][0], ends[1]["z"][0], full(t, found["z"][0])), atol=2e-6
    )
    np.testing.assert_allclose(found["f"], (1 - t) * f[0] + t * f[1], atol=1e-5)
    np.testing.assert_allclose(np.square(found["noise"]).mean(), 1, rtol=1e-4)
