"""S, StyleSpace: the styles of every convolution and torgb, after the affine layers (Wu et al., CVPR 2021)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lsap_jax.spaces.extended import add, mix, start_ws

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator


def flat(G: "Generator", styles: Mapping[str, jax.Array]) -> jax.Array:
    """Styles by layer as one vector per image [B, Σ C], layers as in `config.style_layers()`."""
    return jnp.concatenate([styles[name] for name in G.config.style_layers()], axis=-1)


def by_layer(G: "Generator", s: jax.Array) -> dict[str, jax.Array]:
    """The inverse of `flat`."""
    found, at = {}, 0
    for name, (_, width) in G.config.style_layers().items():
        found[name] = s[:, at : at + width]
        at += width
    return found


@dataclass(frozen=True, kw_only=True)
class Style:
    """S, flat per image: 9,088 numbers for StyleGAN2 at 1024 px."""

    key = "s"
    start = "w_avg"
    statistics = False

    def shape(self, G: "Generator") -> tuple[int, ...]:
        """Shape of one image's code."""
        return (sum(width for _, width in G.config.style_layers().values()),)

    def init(self, G: "Generator", rng: jax.Array, source: str) -> jax.Array:
        """Starting codes of as many images as there are keys [B]; see `start_ws`."""
        return self.from_ws(G, start_ws(G, rng, source, extended=True))

    def from_ws(self, G: "Generator", ws: jax.Array) -> jax.Array:
        """Codes of ws [B, num_ws, w_dim]."""
        return flat(G, G.styles(ws))

    def decode(self, G: "Generator", s: jax.Array) -> dict[str, Any]:
        """Codes to {"styles": layer name -> [B, C]}; there are no ws."""
        return {"styles": by_layer(G, s)}

    def retract(self, s: jax.Array) -> jax.Array:
        return s

    def move(self, s: jax.Array, direction: jax.Array, strength: jax.Array) -> jax.Array:
        return add(s, direction, strength)

    def between(self, a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
        return mix(a, b, t)
