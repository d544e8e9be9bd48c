"""Changes of perspective: places against equations solved another way, and what is random about them."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lsap_jax.training.perspective import random_perspective, warped

H, W = 12, 16
CORNERS = np.array([[0, 0], [W - 1, 0], [W - 1, H - 1], [0, H - 1]], np.float64)
RAMP = np.stack(np.meshgrid(np.arange(W), np.arange(H)), axis=-1).astype(np.float32)  # a pixel's (x, y)
_warped = jax.jit(warped)


def solved(corners):
    """The eight coefficients of output to input places, as torchvision finds them, of all pixels' centres."""
    rows, sides = [], []
    for (x, y), (u, v) in zip(corners, CORNERS, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        sides += [u, v]
    a, b, c, d, e, f, g, h = np.linalg.solve(np.array(rows, np.float64), np.array(sides))
    x, y = np.meshgrid(np.arange(W) + 0.5, np.arange(H) + 0.5)
    share = g * x + h * y + 1
    return np.stack([(a * x + b * y + c) / share - 0.5, (d * x + e * y + f) / share - 0.5], axis=-1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 4, width=32), min_size=8, max_size=8))
def test_places_are_those_of_the_solved_equations(moves):
    corners = CORNERS + np.reshape(moves, (4, 2)) * [[1, 1], [-1, 1], [-1, -1], [1, -1]]
    places, found = solved(corners), np.asarray(_warped(RAMP, jnp.asarray(corners, jnp.float32)))
    inside = (places >= 0).all(-1) & (places[..., 0] <= W - 1) & (places[..., 1] <= H - 1)
    assert inside.sum() > 4
    np.testing.assert_allclose(found[inside], places[inside], atol=2e-3)
    outside = (places <= -1).any(-1) | (places[..., 0] >= W) | (places[..., 1] >= H)
    assert not found[outside].any()


def test_images_change_alone_and_by_chance():
    images, rng = jnp.tile(jnp.asarray(RAMP)[None], (16, 1, 1, 1)), jax.random.key(0)
    changed = np.asarray(random_perspective(images, rng, scale=0.5, chance=0.5))
    kept = np.array([np.array_equal(one, RAMP) for one in changed])
    assert 3 < kept.sum() < 13
    others = changed[~kept]
    assert all((others[i] != others[j]).any() for i in range(len(others)) for j in range(i))
    np.testing.assert_array_equal(random_perspective(images, rng, scale=0.5, chance=0.0), images)
    still = random_perspective(images, rng, scale=0.0, chance=1.0)
    np.testing.assert_allclose(still, images, atol=1e-3)
