"""The contract of a family of spaces, for detail codes, and the functions that the flat families share."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator


class Family(Protocol):
    """The detail code of a space, as a frozen dataclass of pure functions. Codes are [B, *shape]; B is any number.

    A new family is a file with such a class and a row of `lsap_jax.spaces.space.DETAILS`.
    """

    @property
    def key(self) -> str:
        """Name of the array, in codes and in files."""

    @property
    def per_layer(self) -> bool:
        """Whether there is a code per row of ws, [num_ws, d]; else one code serves all layers."""

    @property
    def start(self) -> str:
        """What "auto" starts from: "random" or "w_avg"."""

    @property
    def needs_statistics(self) -> bool:
        """Whether `G.statistics` has to be there."""

    @property
    def has_ws(self) -> bool:
        """Whether codes stand for ws; else they are styles, which are not truncated."""

    @property
    def is_w(self) -> bool:
        """Whether a code is w itself, so that the StyleGAN2 projector's noise on w can be added to it."""

    @property
    def on_sphere(self) -> bool:
        """Whether every row lies on the sphere of radius √d. It then turns by angles and has no coordinate to reach."""

    def shape(self, G: "Generator") -> tuple[int, ...]:
        """Shape of one image's code."""

    def init(self, G: "Generator", rng: jax.Array, source: str) -> jax.Array:
        """Starting codes of as many images as there are keys [B]; `source` is "random" or "w_avg"."""

    def from_ws(self, G: "Generator", ws: jax.Array) -> jax.Array:
        """Codes of ws [B, num_ws, w_dim], or those that come nearest."""

    def decode(self, G: "Generator", code: jax.Array) -> dict[str, Any]:
        """Codes to {"ws": [B, num_ws, w_dim]}, without truncation, or to {"styles": layer name -> [B, C]}."""

    def retract(self, code: jax.Array) -> jax.Array:
        """Codes [B, ...] back in the space."""

    def move(self, code: jax.Array, direction: jax.Array, strength: jax.Array) -> jax.Array:
        """Codes moved by strength [B] along a direction, which broadcasts against one code."""

    def between(self, a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
        """Codes t [B] of the way from a to b."""

    def reached(self, G: "Generator", rows: Collection[int]) -> np.ndarray | None:
        """bool, broadcasts against one code: its part for these rows of ws. None if one code serves other rows, too."""


def add(code: jax.Array, direction: jax.Array, strength: jax.Array) -> jax.Array:
    """code [B, ...] + strength [B] · direction, which broadcasts against one code."""
    return code + strength.reshape(-1, *(1,) * (code.ndim - 1)) * jnp.broadcast_to(direction, code.shape[1:])[None]


def mix(a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
    """(1 - t) · a + t · b of codes [B, ...], t [B]."""
    t = t.reshape(-1, *(1,) * (a.ndim - 1))
    return (1 - t) * a + t * b


def reached_rows(G: "Generator", rows: Collection[int], per_layer: bool) -> np.ndarray | None:
    """`Family.reached` of codes that are rows of ws: [num_ws, 1], or [1] for one code that serves all rows."""
    if per_layer:
        return np.isin(np.arange(G.num_ws), list(rows))[:, None]
    return np.ones(1, bool) if len(rows) == G.num_ws else None


class Flat:
    """The functions that families without a sphere share: codes are free, move in steps and mix on straight lines."""

    on_sphere = False
    start = "w_avg"

    def retract(self, code: jax.Array) -> jax.Array:
        return code

    def move(self, code: jax.Array, direction: jax.Array, strength: jax.Array) -> jax.Array:
        return add(code, direction, strength)

    def between(self, a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
        return mix(a, b, t)
