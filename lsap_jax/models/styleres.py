"""The networks of StyleRes with their weights."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.networks.families import GeneratorConfig
from lsap_jax.networks.layer_table import Layer, LayerTable
from lsap_jax.networks.styleres import Gates, Residual, StyleResConfig


class StyleRes(struct.PyTreeNode, kw_only=True):
    """Residuals of images, and what they add to a generator's features; `params` are {"alignment", "extraction",
    "gates"}.
    """

    kind: ClassVar[str] = "styleres"
    config: StyleResConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    def residual(self, c: jax.Array, features: jax.Array) -> jax.Array:
        """Residuals r [B, s, s, width] of images.

        Args:
            c: [B, s, s, encoder_channels], what the encoder's unit `config.tap` makes of them.
            features: F [B, s, s, channels], of `layer` for their own codes.
        """
        params = {name: self.params[name] for name in ("alignment", "extraction")}
        return Residual(self.config).apply({"params": params}, c, features)  # type: ignore[return-value]

    def addition(self, features: jax.Array, residual: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(dF [B, s, s, channels], g [B, s, s, 1] in (0, 1)) for x, features of `layer` for any codes: x becomes
        x + g · dF.
        """
        network = Gates(self.config.inner, self.config.channels)
        return network.apply({"params": self.params["gates"]}, features, residual)  # type: ignore[return-value]

    def layer(self, generator: LayerTable) -> Layer:
        """The layer whose features are added to: the first convolution of its block.

        Raises:
            LsapError: this generator has no such block.
        """
        return generator.first_convolution(self.config.resolution, "StyleRes'")

    def check_fits(self, generator: GeneratorConfig) -> None:
        """Raises LsapError if this generator has no such features."""
        if (taken := self.layer(generator).channels) != self.config.channels:
            raise LsapError(
                f"StyleRes' networks add to {self.config.channels} features at {self.config.resolution} px, this "
                f"generator has {taken}; choose networks that were trained for it"
            )
