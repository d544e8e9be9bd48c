"""The base-code regulariser of F spaces."""

import jax
import jax.numpy as jnp


def base_code(f: jax.Array, f0: jax.Array) -> jax.Array:
    """Mean squared distance of the base code from its start, per image.

    Eq. 4 of arXiv 2307.08995 writes the sum of squares; the authors' code takes the mean, which the weight of 10
    belongs to.

    Args:
        f: base code [B, h, w, C].
        f0: the encoder's base code, of the same shape.

    Returns:
        [B].
    """
    return jnp.mean(jnp.square(f - f0), (1, 2, 3))
