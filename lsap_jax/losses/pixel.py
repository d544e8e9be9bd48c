"""Pixel losses, one value per image."""

import jax
import jax.numpy as jnp

from lsap_jax.networks.pixel_maps import weighted_mean


def mse(a: jax.Array, b: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Mean squared difference per image (in eq. 1 of arXiv 2307.08995, as a mean as in the authors' code).

    Args:
        a, b: [B, H, W, C] in [-1, 1].
        mask: [B, H, W] in [0, 1]; weights pixels, the result is divided by the mask's sum and is 0 for an empty mask.

    Returns:
        [B].
    """
    return weighted_mean(jnp.mean(jnp.square(a - b), -1), mask)
