"""The base-code regulariser of F spaces."""

import jax
import jax.numpy as jnp


def base_code(f: jax.Array, f0: jax.Array) -> jax.Array:
    """Mean squared distance of the base code from its start, per image.

    Eq. 3 of arXiv 2307.08995 writes the sum of squares; the authors' code takes the mean, for which their
    weight of 10 is meant.

    Args:
        f: base code [B, h, w, C].
        f0: start of the base code, of the same shape.

    Returns:
        [B].
    """
    return jnp.mean(jnp.square(f - f0), (1, 2, 3))
