"""Priors that keep ws and noise maps where the generator's samples are. Each gives one value per image."""

import jax
import jax.numpy as jnp

from lsap_jax.models.latent_statistics import LatentStatistics
from lsap_jax.spaces.gaussian import p_of, whiten


def _length(x: jax.Array) -> jax.Array:
    """Euclidean norm over the last axis, with gradient 0 at the zero vector (naively NaN)."""
    squared = jnp.sum(jnp.square(x), -1)
    alive = squared > 0
    return jnp.where(alive, jnp.sqrt(jnp.where(alive, squared, 1.0)), 0.0)


def pn(statistics: LatentStatistics, ws: jax.Array, floor: float = 0.0) -> jax.Array:
    """Mean of p_N² over rows and axes of ws [B, L, w_dim], as in BDInvert's code: idle rows count, too."""
    return jnp.mean(jnp.square(whiten(statistics, p_of(ws), floor)), (1, 2))


def delta(ws: jax.Array) -> jax.Array:
    """Σ_l |w_l - w_0| of ws [B, L, w_dim] (e4e, SIGGRAPH 2021; SAM)."""
    return jnp.sum(_length(ws[:, 1:] - ws[:, :1]), 1)


def w_norm(ws: jax.Array, w_avg: jax.Array) -> jax.Array:
    """|ws - w_avg| of ws [B, L, w_dim], over rows and dimensions together (pSp, CVPR 2021)."""
    return _length((ws - w_avg[None, None]).reshape(ws.shape[0], -1))


def domain(ws: jax.Array, encoded: jax.Array) -> jax.Array:
    """Mean of (ws - E(G(ws)))² over rows and dimensions of ws [B, L, w_dim]: the distance to the codes that the encoder
    gives for their image (IDInvert, ECCV 2020, eq. 6).
    """
    return jnp.mean(jnp.square(ws - encoded), (1, 2))


def noise(maps: list[jax.Array]) -> jax.Array:
    """Autocorrelation of noise maps [B, r, r] with their neighbours, over a pyramid down to 8 px (StyleGAN2, appendix
    D): Σ of (mean of n · n shifted by one)² in both directions.
    """
    found = jnp.zeros(maps[0].shape[0])
    for m in maps:
        while True:
            for axis in (1, 2):
                found = found + jnp.square(jnp.mean(m * jnp.roll(m, 1, axis), (1, 2)))
            if m.shape[1] <= 8:
                break
            m = 0.25 * (m[:, ::2, ::2] + m[:, 1::2, ::2] + m[:, ::2, 1::2] + m[:, 1::2, 1::2])
    return found
