"""Decoded codes: the inputs of the synthesis network that codes of any space stand for."""

from collections.abc import Mapping

import jax
from flax import struct

from lsap_jax.networks.synthesis import NoiseMode


class Decoded(struct.PyTreeNode, kw_only=True):
    """Inputs of the synthesis; leaves [B, ...].

    Attributes:
        ws: [B, num_ws, w_dim] after truncation, or None where the codes are styles.
        styles: layer name -> [B, C].
        f: base code [B, s, s, C], or None.
        noise: layer name -> [B, r, r], or None for the generator's own.
        noise_mode: as in `Generator.synthesis`.
        c: labels [B, c_dim] of a conditional generator, or None.
    """

    ws: jax.Array | None
    styles: Mapping[str, jax.Array]
    f: jax.Array | None = None
    noise: Mapping[str, jax.Array] | None = None
    noise_mode: NoiseMode = struct.field(pytree_node=False, default="const")
    c: jax.Array | None = None
