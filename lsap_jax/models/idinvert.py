"""IDInvert's released encoder with its weights."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from flax import struct

from lsap_jax.models.encoder import check_fits
from lsap_jax.networks import idinvert
from lsap_jax.networks.families import GeneratorConfig
from lsap_jax.networks.image_by_image import on_batch
from lsap_jax.networks.latent_encoder import LatentEncoderConfig
from lsap_jax.networks.view import View, square


class IdinvertEncoder(struct.PyTreeNode, kw_only=True):
    """Encoder of images to ws (`models.encoder.Encoder`); nothing is added to its output."""

    kind: ClassVar[str] = "idinvert"
    codes: ClassVar[str] = "w+"
    config: LatentEncoderConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    @property
    def view(self) -> View:
        """Size and filter of the images that it takes."""
        return square(self.config.input_resolution)

    def __call__(self, images: jax.Array, G: Any = None) -> jax.Array:
        """Images [B, r, r, C] in [-1, 1], r = `config.input_resolution`, to ws [B, num_ws, w_dim]."""
        return on_batch(_codes, self, {"x": images})  # type: ignore[no-any-return]

    def check_fits(self, generator: GeneratorConfig) -> None:
        """Raises LsapError if this generator takes ws of another shape, or makes images with other channels."""
        own = (self.config.num_ws, self.config.w_dim, self.config.in_channels)
        check_fits(own, generator, "choose an encoder that was trained for it")


def _codes(E: IdinvertEncoder, batch: Mapping[str, Any]) -> jax.Array:
    return idinvert.IdinvertNetwork(E.config).apply({"params": E.params}, batch["x"])  # type: ignore[return-value]
