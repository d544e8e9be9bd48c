"""HFGI's networks with their weights: details that codes lost, as a scale and a shift of a layer's features."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.networks import hfgi
from lsap_jax.networks.families import GeneratorConfig
from lsap_jax.networks.layer_table import Layer, LayerTable
from lsap_jax.networks.pixel_maps import bilinear


class Hfgi(struct.PyTreeNode, kw_only=True):
    """HFGI's consultation encoder and aligner for a generator; `params` are {"residue": …, "grid_align": …}."""

    kind: ClassVar[str] = "hfgi"
    config: hfgi.HfgiConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    def seen(self, images: jax.Array) -> jax.Array:
        """Unclipped images [B, R, R, C] of a generator as both networks see them, [B, r, r, C] in [-1, 1]."""
        side = self.config.input_resolution
        return bilinear(jnp.clip(images, -1, 1), (side, side))

    def aligned(self, details: jax.Array, guide: jax.Array) -> jax.Array:
        """Details [B, r, r, C], a target less the image of its codes, moved to where the guide, as of `seen`, has its
        own.
        """
        beside = jnp.concatenate([details, guide], axis=-1)
        return hfgi.Aligner(self.config).apply({"params": self.params["grid_align"]}, beside)  # type: ignore[return-value]

    def conditions(self, details: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Aligned details to (scale, shift), [B, s, s, channels] each, for features · (1 + scale) + shift."""
        return hfgi.Consultation(self.config).apply({"params": self.params["residue"]}, details)  # type: ignore[return-value]

    def layer(self, generator: LayerTable) -> Layer:
        """The layer whose features are changed: the first convolution of its block.

        Raises:
            LsapError: this generator has no such block.
        """
        return generator.first_convolution(self.config.resolution, "HFGI's")

    def check_fits(self, generator: GeneratorConfig) -> None:
        """Raises LsapError if this generator has no such features, or makes images with other channels."""
        own = self.config.channels, self.config.in_channels
        taken = self.layer(generator).channels, generator.img_channels
        if own != taken:
            raise LsapError(
                f"HFGI's networks change {own[0]} features at {self.config.resolution} px, of images with {own[1]} "
                f"channels; this generator has {taken[0]} and {taken[1]}; choose networks that were trained for it"
            )
