"""Z and Z+: codes on the hypersphere of radius √z_dim (arXiv 2307.08995 §3.1, 2306.00241).

A normal z of many dimensions has norm √z_dim almost surely, so the prior of Z is the uniform distribution on this
sphere. Optimisation leaves it; the retraction of eq. 5 brings every z_i back.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from lsap_jax.networks.reduction import total

if TYPE_CHECKING:
    from lsap_jax.generator import Generator


def retract(z: jax.Array) -> jax.Array:
    """Eq. 5: z_i ← √d · z_i / |z_i| over the last axis of [..., d]. A zero vector, which has no direction, stays
    zero.
    """
    squared = total(jnp.square(z), -1, keepdims=True)
    safe = jnp.where(squared > 0, squared, 1.0)
    return z * (jnp.sqrt(jnp.float32(z.shape[-1])) * jax.lax.rsqrt(safe)).astype(z.dtype)


def tangent(z: jax.Array, v: jax.Array) -> jax.Array:
    """The part of v [..., d] that is tangent to the sphere at z [..., d]."""
    squared = total(jnp.square(z), -1, keepdims=True)
    along = total(z * v, -1, keepdims=True) / jnp.where(squared > 0, squared, 1.0)
    return v - along * z


@dataclass(frozen=True, kw_only=True)
class Hypersphere:
    """Z (one z per image) or Z+ (one z per layer).

    `normalise` puts StyleGAN's own normalisation of z inside the graph, as the authors' code of F/Z+ does: then z may
    leave the sphere during the optimisation without changing the image. Without it z enters the mapping network as it
    is, and whoever moves it retracts it.
    """

    extended: bool
    normalise: bool = False
    key = "z"

    def shape(self, G: "Generator") -> tuple[int, ...]:
        """Shape of one image's code."""
        return (G.num_ws, G.z_dim) if self.extended else (G.z_dim,)

    def init(self, G: "Generator", rng: jax.Array) -> jax.Array:
        """Random codes [B, ...] from a key per image [B]."""
        shape = self.shape(G)
        return retract(jax.vmap(lambda key: jax.random.normal(key, shape))(rng))

    def decode(self, G: "Generator", z: jax.Array) -> jax.Array:
        """Codes [B, z_dim] or [B, num_ws, z_dim] to ws [B, num_ws, w_dim], without truncation."""
        if self.extended:
            return G.map_rows(z, normalize=self.normalise)
        w = G.map_w(z, normalize=self.normalise)
        return jnp.broadcast_to(w[:, None], (w.shape[0], G.num_ws, G.w_dim))

    def retract(self, z: jax.Array) -> jax.Array:
        return retract(z)

    def move(self, z: jax.Array, direction: jax.Array, strength: jax.Array) -> jax.Array:
        """retract(z + strength · direction); strength [B], direction broadcasts against one code."""
        step = strength.reshape(-1, *(1,) * (z.ndim - 1)) * jnp.broadcast_to(direction, z.shape[1:])[None]
        return retract(z + step)
