"""S, StyleSpace: the styles of every convolution and torgb, after the affine layers (Wu et al., CVPR 2021)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.spaces.family import Flat
from lsap_jax.spaces.intermediate import start_ws

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator


def flat(G: "Generator", styles: Mapping[str, jax.Array]) -> jax.Array:
    """Styles by layer as one vector per image [B, Σ C], layers as in `config.layers`."""
    return jnp.concatenate([styles[layer.name] for layer in G.config.layers], axis=-1)


def by_layer(G: "Generator", s: jax.Array) -> dict[str, jax.Array]:
    """The inverse of `flat`."""
    found, at = {}, 0
    for layer in G.config.layers:
        found[layer.name] = s[:, at : at + layer.width]
        at += layer.width
    return found


@dataclass(frozen=True, kw_only=True)
class Style(Flat):
    """S, flat per image: 9,088 numbers for StyleGAN2 at 1024 px."""

    key = "s"
    per_layer = False
    needs_statistics = False
    has_ws = False
    is_w = False

    def shape(self, G: "Generator") -> tuple[int, ...]:
        """Shape of one image's code."""
        return (sum(layer.width for layer in G.config.layers),)

    def init(self, G: "Generator", rng: jax.Array, source: str) -> jax.Array:
        """Starting codes of as many images as there are keys [B]; see `start_ws`."""
        return self.from_ws(G, start_ws(G, rng, source, per_layer=True))

    def from_ws(self, G: "Generator", ws: jax.Array) -> jax.Array:
        """Codes of ws [B, num_ws, w_dim]."""
        return flat(G, G.styles(ws))

    def decode(self, G: "Generator", s: jax.Array) -> dict[str, Any]:
        """Codes to {"styles": layer name -> [B, C]}; there are no ws."""
        return {"styles": by_layer(G, s)}

    def reached(self, G: "Generator", rows: Collection[int]) -> np.ndarray:
        """bool [Σ C]: the styles of the layers that read these rows."""
        return np.concatenate([np.full(layer.width, layer.row in rows) for layer in G.config.layers])
