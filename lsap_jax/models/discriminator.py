"""The discriminator of StyleGAN2 with its weights."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.networks.families import GeneratorConfig
from lsap_jax.networks.frozen import freeze, variables
from lsap_jax.networks.image_by_image import on_batch
from lsap_jax.networks.stylegan2 import discriminator


class Discriminator(struct.PyTreeNode, kw_only=True):
    """StyleGAN2 discriminator."""

    kind: ClassVar[str] = "discriminator"
    config: discriminator.DiscriminatorConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    def __call__(self, img: jax.Array, c: jax.Array | None = None) -> jax.Array:
        """Images [B, R, R, C] (and labels [B, c_dim]) to logits [B, 1]. The minibatch-stddev layer makes them depend
        on the batch.
        """
        return self.apply(img, c)[0]

    def alone(self, img: jax.Array, c: jax.Array | None = None) -> jax.Array:
        """Logits [B] of images that are alone in the minibatch-stddev layer (groups of one): they do not depend on the
        batch.
        """
        return self.replace(config=replace(self.config, mbstd_group_size=1))(img, c)[:, 0]  # type: ignore[no-any-return]

    def features(self, img: jax.Array) -> list[jax.Array]:
        """Block outputs before the minibatch-stddev layer, [B, R/2, R/2, .], [B, R/4, R/4, .], ...: independent of
        batch mates.
        """
        return on_batch(_critic_features, self, {"img": img})  # type: ignore[no-any-return]

    def freeze(self, winograd: int = 0) -> "Discriminator":
        """A copy for `features` alone with frozen weights, as `Generator.freeze` makes one."""
        r = self.config.img_resolution
        network = discriminator.DiscriminatorNetwork(self.config)
        img = jnp.zeros((1, r, r, self.config.img_channels))
        return self.replace(params=freeze(network, self.params, img, winograd=winograd, logits=False))

    @jax.jit
    def apply(self, img: jax.Array, c: jax.Array | None = None) -> tuple[jax.Array, list[jax.Array]]:
        """(logits, features) of one pass."""
        return discriminator.DiscriminatorNetwork(self.config).apply({"params": self.params}, img, c)  # type: ignore[return-value]

    def check_fits(self, generator: GeneratorConfig) -> None:
        """Raises LsapError if this generator's images differ in size, channels or classes from those that it judges."""
        own = (self.config.img_resolution, self.config.img_channels, self.config.c_dim)
        made = (generator.img_resolution, generator.img_channels, generator.c_dim)
        if own != made:
            raise LsapError(
                f"the discriminator judges images of (px, channels, classes) {own}, this generator makes {made}; "
                "choose the discriminator that was trained with it"
            )


def _critic_features(D: Discriminator, batch: Mapping[str, Any]) -> list[jax.Array]:
    network = discriminator.DiscriminatorNetwork(D.config)
    return network.apply(variables(D.params), batch["img"], logits=False)[1]  # type: ignore[return-value]


def discriminator_shapes(config: discriminator.DiscriminatorConfig) -> dict[str, Any]:
    """Params tree of a discriminator as ShapeDtypeStructs."""
    return jax.eval_shape(lambda: discriminator.initial_params(config, jax.random.key(0)))
