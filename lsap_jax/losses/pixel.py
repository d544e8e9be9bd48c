"""Pixel losses, one value per image."""

import jax
import jax.numpy as jnp


def weighted_mean(values: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Mean per image [B] of a map [B, h, w], weighted by a mask of the same shape in [0, 1]; 0 for an empty mask."""
    if mask is None:
        return jnp.mean(values, (1, 2))
    weight = jnp.sum(mask, (1, 2))
    return jnp.sum(values * mask, (1, 2)) / jnp.where(weight > 0, weight, 1.0)


def mse(a: jax.Array, b: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Mean squared difference per image (eq. 2 of arXiv 2307.08995, as a mean as in the authors' code).

    Args:
        a, b: [B, H, W, C] in [-1, 1].
        mask: [B, H, W] in [0, 1]; weights pixels, the result is divided by the mask's sum and is 0 for an empty mask.

    Returns:
        [B].
    """
    return weighted_mean(jnp.mean(jnp.square(a - b), -1), mask)
