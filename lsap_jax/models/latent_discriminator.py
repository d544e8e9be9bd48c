"""The latent discriminator of e4e with its weights, which comes with an encoder's training."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.networks.families import GeneratorConfig
from lsap_jax.networks.image_by_image import on_batch
from lsap_jax.networks.latent_discriminator import LatentDiscriminator as Network
from lsap_jax.networks.latent_discriminator import LatentDiscriminatorConfig


class LatentDiscriminator(struct.PyTreeNode, kw_only=True):
    """Latent discriminator: codes to logits."""

    kind: ClassVar[str] = "latent_discriminator"
    config: LatentDiscriminatorConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    def __call__(self, w: jax.Array) -> jax.Array:
        """w [B, ..., w_dim] to logits [B, ...]."""
        return on_batch(_logits, self, {"w": w})  # type: ignore[no-any-return]

    def check_fits(self, generator: GeneratorConfig) -> None:
        """Raises LsapError if this generator takes w of another width."""
        if generator.w_dim != self.config.w_dim:
            raise LsapError(
                f"the latent discriminator judges codes of {self.config.w_dim} numbers, this generator has "
                f"{generator.w_dim}; leave it out"
            )


def _logits(critic: LatentDiscriminator, batch: Mapping[str, Any]) -> jax.Array:
    return Network().apply({"params": critic.params}, batch["w"])  # type: ignore[return-value]
