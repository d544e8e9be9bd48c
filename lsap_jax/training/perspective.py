"""Random changes of perspective, with which HFGI's aligner learns to move details.

The corners of an image move inwards, each by its own random number of pixels, and what lies outside becomes 0, as
torchvision's RandomPerspective does; here every image of a batch has its own corners.
"""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


def random_perspective(images: jax.Array, rng: jax.Array, *, scale: float = 0.15, chance: float = 0.9) -> jax.Array:
    """Images [B, H, W, C], each changed with this chance.

    Args:
        rng: one key.
        scale: how far a corner moves at most, as a share of half a side, in [0, 1].
    """
    count, height, width, _ = images.shape
    chance_rng, corner_rng = jax.random.split(rng)
    most = jnp.array([int(scale * (width // 2)), int(scale * (height // 2))])
    moved = jax.random.randint(corner_rng, (count, 4, 2), 0, most[None, None] + 1).astype(jnp.float32)
    corners = jnp.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], jnp.float32)
    inwards = jnp.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], jnp.float32)
    changed = jax.vmap(warped)(images, corners[None] + inwards[None] * moved)
    chosen = jax.random.bernoulli(chance_rng, chance, (count, 1, 1, 1))
    return jnp.where(chosen, changed, images)


def warped(image: jax.Array, corners: jax.Array) -> jax.Array:
    """An image [H, W, C] whose corners come to lie at other places, bilinear, 0 outside.

    Args:
        corners: [4, 2], (x, y) in pixels of the upper left, upper right, lower right, lower left one.
    """
    height, width, _ = image.shape
    a, b, c = _from_square(corners).T
    to_square = jnp.stack([jnp.cross(b, c), jnp.cross(c, a), jnp.cross(a, b)])  # the inverse, but for a factor
    y, x = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
    at = jnp.stack([x, y, jnp.ones_like(x)])
    u, v, w = jnp.einsum("ij,jhw->ihw", to_square, at, precision=jax.lax.Precision.HIGHEST)
    # Corners are counted at the pixels' indices, places at their centres, as in torchvision.
    places = jnp.stack([v / w * (height - 1) - 0.5, u / w * (width - 1) - 0.5])
    return jax.vmap(lambda one: map_coordinates(one, list(places), order=1), in_axes=2, out_axes=2)(image)


def _from_square(corners: jax.Array) -> jax.Array:
    """The homography [3, 3] of the unit square to four corners (Heckbert, Fundamentals of Texture Mapping, 2.2.3)."""
    p0, p1, p2, p3 = corners
    d1, d2, s = p1 - p2, p3 - p2, p0 - p1 + p2 - p3
    area = d1[0] * d2[1] - d2[0] * d1[1]
    g, h = (s[0] * d2[1] - d2[0] * s[1]) / area, (d1[0] * s[1] - s[0] * d1[1]) / area
    first, second = p1 - p0 + g * p1, p3 - p0 + h * p3
    return jnp.stack([jnp.append(first, g), jnp.append(second, h), jnp.append(p0, 1.0)], axis=1)
