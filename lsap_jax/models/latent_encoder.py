"""The latent encoder of IDInvert with its weights."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from flax import struct

from lsap_jax.models.encoder import check_fits
from lsap_jax.networks import latent_encoder
from lsap_jax.networks.families import GeneratorConfig
from lsap_jax.networks.image_by_image import on_batch
from lsap_jax.networks.view import View, square


class LatentEncoder(struct.PyTreeNode, kw_only=True):
    """Latent encoder of IDInvert: image to ws (`models.encoder.Encoder`).

    `params` are the variables {"params", "batch_stats"} of its network.
    """

    kind: ClassVar[str] = "encoder"
    codes: ClassVar[str] = "w+"
    config: latent_encoder.LatentEncoderConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    @property
    def view(self) -> View:
        """Size and filter of the images that it takes."""
        return square(self.config.input_resolution)

    def __call__(self, x: jax.Array, G: Any = None) -> jax.Array:
        """Images [B, r, r, C] in [-1, 1], r = `config.input_resolution`, to ws [B, num_ws, w_dim]."""
        return on_batch(_latent_code, self, {"x": x})  # type: ignore[no-any-return]

    def check_fits(self, generator: GeneratorConfig) -> None:
        """Raises LsapError if this generator takes ws of another shape, or makes images with other channels."""
        own = (self.config.num_ws, self.config.w_dim, self.config.in_channels)
        check_fits(own, generator, "train an encoder for it with `lsap-jax train-encoder`")


def _latent_code(E: LatentEncoder, batch: Mapping[str, Any]) -> jax.Array:
    return latent_encoder.LatentEncoderNetwork(E.config).apply(E.params, batch["x"])  # type: ignore[return-value]
