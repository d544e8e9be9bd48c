"""SAM's invertibility network with its weights."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.networks.families import GeneratorConfig
from lsap_jax.networks.invertibility import Invertibility, InvertibilityConfig


class InvertibilityNetwork(struct.PyTreeNode, kw_only=True):
    """Predicts how badly each latent reconstructs each pixel of an image."""

    kind: ClassVar[str] = "invertibility"
    config: InvertibilityConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    def maps(self, images: jax.Array) -> jax.Array:
        """Images [B, H, W, C] in [-1, 1] to maps [B, H, W, 1 + resolutions]: the codes, then offsets of blocks."""
        return Invertibility(self.config).apply({"params": self.params}, images)  # type: ignore[return-value]

    def check_fits(self, generator: GeneratorConfig) -> None:
        """Raises LsapError if this generator has no such blocks, or makes images with other channels."""
        c = self.config
        if c.in_channels != generator.img_channels:
            raise LsapError(
                f"SAM's network reads images with {c.in_channels} channels, this generator makes images with "
                f"{generator.img_channels}; choose a network that was trained for it"
            )
        if wrong := [r for r in c.resolutions if r not in generator.resolutions[:-1]]:
            raise LsapError(
                f"SAM's network judges offsets at {wrong[0]} px, this generator has blocks of "
                f"{', '.join(map(str, generator.resolutions))} px, the last of which takes none; choose a network that "
                "was trained for it"
            )
