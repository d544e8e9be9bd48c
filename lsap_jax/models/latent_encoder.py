"""The latent encoder of IDInvert with its weights."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.networks import latent_encoder
from lsap_jax.networks.families import GeneratorConfig
from lsap_jax.networks.image_by_image import on_batch


class LatentEncoder(struct.PyTreeNode, kw_only=True):
    """Latent encoder of IDInvert: image to ws (`models.encoder.Encoder`).

    `params` are the variables {"params", "batch_stats"} of its network.
    """

    kind: ClassVar[str] = "encoder"
    codes: ClassVar[str] = "w+"
    config: latent_encoder.LatentEncoderConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    @property
    def input_resolution(self) -> int:
        """Pixels a side of the images that it takes."""
        return self.config.input_resolution

    def __call__(self, x: jax.Array, G: Any = None) -> jax.Array:
        """Images [B, r, r, C] in [-1, 1], r = `input_resolution`, to ws [B, num_ws, w_dim]."""
        return on_batch(_latent_code, self, {"x": x})  # type: ignore[no-any-return]

    def check_fits(self, generator: GeneratorConfig) -> None:
        """Raises LsapError if this generator takes ws of another shape, or makes images with other channels."""
        own = (self.config.num_ws, self.config.w_dim, self.config.in_channels)
        taken = (generator.num_ws, generator.w_dim, generator.img_channels)
        if own != taken:
            raise LsapError(
                f"the encoder makes ws of (rows, width) {own[:2]} from images with {own[2]} channels, this generator "
                f"has {taken[:2]} and {taken[2]}; train an encoder for it with `lsap-jax train-encoder`"
            )


def _latent_code(E: LatentEncoder, batch: Mapping[str, Any]) -> jax.Array:
    return latent_encoder.LatentEncoderNetwork(E.config).apply(E.params, batch["x"])  # type: ignore[return-value]
