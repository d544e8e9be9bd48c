"""W and W+, StyleGAN's intermediate latent space: outputs of the mapping network, one for all layers or one per layer
(Image2StyleGAN, ICCV 2019).
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.spaces.family import Flat, reached_rows
from lsap_jax.spaces.hypersphere import Hypersphere

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator


def start_ws(G: "Generator", rng: jax.Array, source: str, per_layer: bool) -> jax.Array:
    """ws [B, num_ws, w_dim] to start from, by a key per image [B].

    Args:
        source: "w_avg" is `G.mean_w`, "random" the mapping of a random z, of one per layer where `per_layer`.
    """
    if source == "w_avg":
        return jnp.broadcast_to(G.mean_w[:, None], (rng.shape[0], G.num_ws, G.w_dim))
    sphere = Hypersphere(per_layer=per_layer)
    return sphere.decode(G, sphere.init(G, rng, "random"))["ws"]


@dataclass(frozen=True, kw_only=True)
class Intermediate(Flat):
    """W (one w per image) or W+ (one w per layer)."""

    per_layer: bool
    key = "w"
    needs_statistics = False
    has_ws = True
    is_w = True

    def shape(self, G: "Generator") -> tuple[int, ...]:
        """Shape of one image's code."""
        return (G.num_ws, G.w_dim) if self.per_layer else (G.w_dim,)

    def init(self, G: "Generator", rng: jax.Array, source: str) -> jax.Array:
        """Starting codes of as many images as there are keys [B]; see `start_ws`."""
        return self.from_ws(G, start_ws(G, rng, source, self.per_layer))

    def from_ws(self, G: "Generator", ws: jax.Array) -> jax.Array:
        """Codes of ws [B, num_ws, w_dim]; W takes the mean row, the nearest to all of them."""
        return ws if self.per_layer else jnp.mean(ws, 1)

    def decode(self, G: "Generator", w: jax.Array) -> dict[str, Any]:
        """Codes to {"ws": [B, num_ws, w_dim]}."""
        return {"ws": w if self.per_layer else G.repeat_w(w)}

    def reached(self, G: "Generator", rows: Collection[int]) -> np.ndarray | None:
        return reached_rows(G, rows, self.per_layer)
