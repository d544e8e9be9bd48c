"""W and W+: outputs of the mapping network, one for all layers or one per layer (Image2StyleGAN, ICCV 2019)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from lsap_jax.spaces.hypersphere import Hypersphere

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator


def add(code: jax.Array, direction: jax.Array, strength: jax.Array) -> jax.Array:
    """code [B, ...] + strength [B] · direction, which broadcasts against one code."""
    return code + strength.reshape(-1, *(1,) * (code.ndim - 1)) * jnp.broadcast_to(direction, code.shape[1:])[None]


def mix(a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
    """(1 - t) · a + t · b of codes [B, ...], t [B]."""
    t = t.reshape(-1, *(1,) * (a.ndim - 1))
    return (1 - t) * a + t * b


def start_ws(G: "Generator", rng: jax.Array, source: str, extended: bool) -> jax.Array:
    """ws [B, num_ws, w_dim] to start from, by a key per image [B].

    Args:
        source: "w_avg", or "random": the mapping of a random z, of one per layer where `extended`.
    """
    if source == "w_avg":
        return jnp.broadcast_to(G.w_avg[None, None], (rng.shape[0], G.num_ws, G.w_dim))
    sphere = Hypersphere(extended=extended)
    return sphere.decode(G, sphere.init(G, rng, "random"))["ws"]


@dataclass(frozen=True, kw_only=True)
class Extended:
    """W (one w per image) or W+ (one w per layer)."""

    extended: bool
    key = "w"
    start = "w_avg"
    statistics = False

    def shape(self, G: "Generator") -> tuple[int, ...]:
        """Shape of one image's code."""
        return (G.num_ws, G.w_dim) if self.extended else (G.w_dim,)

    def init(self, G: "Generator", rng: jax.Array, source: str) -> jax.Array:
        """Starting codes of as many images as there are keys [B]; see `start_ws`."""
        return self.from_ws(G, start_ws(G, rng, source, self.extended))

    def from_ws(self, G: "Generator", ws: jax.Array) -> jax.Array:
        """Codes of ws [B, num_ws, w_dim]; W takes the mean row, the nearest to all of them."""
        return ws if self.extended else jnp.mean(ws, 1)

    def decode(self, G: "Generator", w: jax.Array) -> dict[str, Any]:
        """Codes to {"ws": [B, num_ws, w_dim]}."""
        return {"ws": w if self.extended else G.repeat_w(w)}

    def retract(self, w: jax.Array) -> jax.Array:
        return w

    def move(self, w: jax.Array, direction: jax.Array, strength: jax.Array) -> jax.Array:
        return add(w, direction, strength)

    def between(self, a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
        return mix(a, b, t)
