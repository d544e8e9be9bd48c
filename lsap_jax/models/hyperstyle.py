"""HyperStyle's hypernetwork with its weights: an image beside what its codes render to, to changes of a generator."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.networks import hyperstyle
from lsap_jax.networks.families import GeneratorConfig
from lsap_jax.networks.psp import pooled


class HyperStyle(struct.PyTreeNode, kw_only=True):
    """The hypernetwork of a generator; `params` are those of `networks.hyperstyle.HyperNetwork`."""

    kind: ClassVar[str] = "hyperstyle"
    config: hyperstyle.HyperConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    def seen(self, images: jax.Array) -> jax.Array:
        """Images [B, R, R, C] of the generator as the network sees them."""
        return pooled(images, self.config.view)

    def changes(self, images: jax.Array, shown: jax.Array, generator: GeneratorConfig) -> dict[str, jax.Array]:
        """By how much each weight grows: parameter -> [B, k, k, in, out], k = 1 or 3.

        Args:
            images: targets [B, h, w, C] in [-1, 1], as `config.view` has them.
            shown: what their codes render to now, as of `seen`.
        """
        beside = jnp.concatenate([images, shown], axis=-1)
        found: Any = hyperstyle.HyperNetwork(self.config).apply({"params": self.params}, beside)
        return dict(zip(self.parameters(generator), found, strict=True))

    def parameters(self, generator: GeneratorConfig) -> tuple[str, ...]:
        """Names of the weights that it changes, in the order of `config.slots`."""
        return tuple(f"synthesis.{generator.layers[index].name}.weight" for index, *_ in self.config.slots)

    def check_fits(self, generator: GeneratorConfig) -> None:
        """Raises LsapError if a layer of this generator has weights of another shape, or its images other channels."""
        if 2 * generator.img_channels != self.config.in_channels:
            raise LsapError(
                f"the hypernetwork sees images with {self.config.in_channels // 2} channels, this generator makes "
                f"{generator.img_channels}; choose one that was trained for it"
            )
        for index, *own in self.config.slots:
            layer = generator.layers[index] if index < len(generator.layers) else None
            if layer is None or layer.kind != "conv" or layer.styles_features:
                found = "no such convolution"
            elif own != [layer.width, layer.channels]:
                found = f"{layer.name} there, of {layer.width} and {layer.channels}"
            else:
                continue
            raise LsapError(
                f"the hypernetwork changes layer {index} with {own[0]} features in and {own[1]} out, this generator "
                f"has {found}; choose one that was trained for it"
            )
