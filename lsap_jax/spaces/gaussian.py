"""P and P_N: w before the mapping network's last activation, and p whitened (Zhu et al., Improved StyleGAN
Embedding, arXiv 2012.09036).

LeakyReLU_5 undoes the activation LeakyReLU_0.2, up to the gain √2, which stays in p. There w is about normal:

    p = LeakyReLU_5(w)        p_N = Λ^-½ · Vᵀ (p - μ)

with mean μ, variances Λ and axes V of `LatentStatistics`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.layers import channelwise
from lsap_jax.spaces.family import Flat, reached_rows
from lsap_jax.spaces.intermediate import start_ws

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator
    from lsap_jax.models.latent_statistics import LatentStatistics

SLOPE = 0.2  # of the mapping network's activation


def p_of(w: jax.Array) -> jax.Array:
    """LeakyReLU_5(w)."""
    return jnp.where(w >= 0, w, w / SLOPE)


def w_of(p: jax.Array) -> jax.Array:
    """LeakyReLU_0.2(p), the inverse of `p_of`."""
    return jnp.where(p >= 0, p, p * SLOPE)


def _scale(statistics: "LatentStatistics", floor: float, ndim: int) -> jax.Array:
    """Standard deviations along the axes, none below the root of `floor` times the largest variance."""
    values = jnp.maximum(statistics.p_values, floor * statistics.p_values.max())
    return channelwise(jnp.sqrt(values), ndim)


def whiten(statistics: "LatentStatistics", p: jax.Array, floor: float = 0.0) -> jax.Array:
    """p [..., w_dim] to p_N: of mean 0 and variance 1 along every axis for samples of the generator.

    Args:
        floor: least variance, as a part of the largest. Without it p_N is extremely stiff: the variances of the FFHQ
            generator span a factor of 4.5e8, and rounding in w decides the last axes.
    """
    centred = p - channelwise(statistics.p_mean, p.ndim)
    return jnp.matmul(centred, statistics.p_vectors, precision=FULL) / _scale(statistics, floor, p.ndim)


def colour(statistics: "LatentStatistics", pn: jax.Array, floor: float = 0.0) -> jax.Array:
    """The inverse of `whiten`."""
    scaled = pn * _scale(statistics, floor, pn.ndim)
    turned = jnp.matmul(scaled, statistics.p_vectors.T, precision=FULL)
    return turned + channelwise(statistics.p_mean, pn.ndim)


@dataclass(frozen=True, kw_only=True)
class Gaussian(Flat):
    """P, P_N (one per image) or P_N+ (one per layer). Whitened spaces need the generator's `statistics`."""

    per_layer: bool = False
    whitened: bool
    eigenvalue_floor: float = 0.0
    key = "p"
    has_ws = True
    is_w = False

    @property
    def needs_statistics(self) -> bool:
        return self.whitened

    def shape(self, G: "Generator") -> tuple[int, ...]:
        """Shape of one image's code."""
        return (G.num_ws, G.w_dim) if self.per_layer else (G.w_dim,)

    def init(self, G: "Generator", rng: jax.Array, source: str) -> jax.Array:
        """Starting codes of as many images as there are keys [B]; see `start_ws`."""
        return self.from_ws(G, start_ws(G, rng, source, self.per_layer))

    def from_ws(self, G: "Generator", ws: jax.Array) -> jax.Array:
        """Codes of ws [B, num_ws, w_dim]; a space with one code per image takes the mean row."""
        p = p_of(ws if self.per_layer else jnp.mean(ws, 1))
        return self._statistics(G).each(partial(whiten, floor=self.eigenvalue_floor), p) if self.whitened else p

    def decode(self, G: "Generator", p: jax.Array) -> dict[str, Any]:
        """Codes to {"ws": [B, num_ws, w_dim]}."""
        p = self._statistics(G).each(partial(colour, floor=self.eigenvalue_floor), p) if self.whitened else p
        w = w_of(p)
        return {"ws": w if self.per_layer else G.repeat_w(w)}

    def reached(self, G: "Generator", rows: Collection[int]) -> np.ndarray | None:
        return reached_rows(G, rows, self.per_layer)

    def _statistics(self, G: "Generator") -> "LatentStatistics":
        if G.statistics is None:
            raise ValueError("a whitened space needs a generator with statistics: lsap_jax.with_statistics(G)")
        return G.statistics
