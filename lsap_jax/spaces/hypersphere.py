"""Z and Z+: codes on the hypersphere of radius √z_dim (arXiv 2307.08995 §3.1, 2306.00241).

A normal z of many dimensions has norm √z_dim almost surely, so the prior of Z is the uniform distribution on this
sphere. Optimisation leaves it; the retraction of eq. 5 brings every z_i back.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.spaces.family import reached_rows
from lsap_jax.spaces.mapping_inverse import fit_one, fit_rows
from lsap_jax.spaces.sphere import retract, slerp

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator


@dataclass(frozen=True, kw_only=True)
class Hypersphere:
    """Z (one z per image) or Z+ (one z per layer).

    `normalise` puts StyleGAN's own normalisation of z inside the graph, as the authors' code of F/Z+ does: then z may
    leave the sphere during the optimisation without changing the image. Without it z enters the mapping network as it
    is, and has to be retracted after every move.
    """

    per_layer: bool
    normalise: bool = False
    key = "z"
    start = "random"
    needs_statistics = False
    has_ws = True
    is_w = False
    on_sphere = True

    def shape(self, G: "Generator") -> tuple[int, ...]:
        """Shape of one image's code."""
        return (G.num_ws, G.z_dim) if self.per_layer else (G.z_dim,)

    def init(self, G: "Generator", rng: jax.Array, source: str) -> jax.Array:
        """Starting codes of as many images as there are keys [B]: "random", or "w_avg", the z that comes nearest to
        it.
        """
        shape = self.shape(G)
        if source == "random":
            return retract(jax.vmap(lambda key: jax.random.normal(key, shape))(rng))
        if G.config.repeat_w:
            z = fit_rows(G, G.mean_w[:, None])
            return jnp.broadcast_to(z if self.per_layer else z[:, 0], (len(rng), *shape))
        ws = jnp.broadcast_to(G.mean_w[:, None], (len(G.mean_w), G.num_ws, G.w_dim))
        return jnp.broadcast_to(self.from_ws(G, ws), (len(rng), *shape))

    def from_ws(self, G: "Generator", ws: jax.Array) -> jax.Array:
        """Codes whose ws come near to ws [B, num_ws, w_dim] (`fit_rows`, `fit_one`)."""
        return fit_rows(G, ws) if self.per_layer else fit_one(G, ws)

    def decode(self, G: "Generator", z: jax.Array) -> dict[str, Any]:
        """Codes [B, z_dim] or [B, num_ws, z_dim] to {"ws": [B, num_ws, w_dim]}, without truncation."""
        if self.per_layer:
            return {"ws": G.map_rows(z, normalize=self.normalise)}
        return {"ws": G.map_ws(z, normalize=self.normalise)}

    def retract(self, z: jax.Array) -> jax.Array:
        return retract(z)

    def move(self, z: jax.Array, direction: jax.Array, strength: jax.Array) -> jax.Array:
        """retract(z + strength · direction); strength [B], direction broadcasts against one code."""
        step = strength.reshape(-1, *(1,) * (z.ndim - 1)) * jnp.broadcast_to(direction, z.shape[1:])[None]
        return retract(z + step)

    def between(self, a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
        """Along the great arcs, every z_i by itself."""
        return slerp(a, b, t.reshape(-1, *(1,) * (a.ndim - 1)))

    def reached(self, G: "Generator", rows: Collection[int]) -> np.ndarray | None:
        return reached_rows(G, rows, self.per_layer)
