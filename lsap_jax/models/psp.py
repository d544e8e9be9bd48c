"""The encoders of pSp, e4e, LSAP, ReStyle and the W encoder with their weights and the mean latent."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from lsap_jax.models.encoder import check_fits
from lsap_jax.models.generator import Generator
from lsap_jax.networks import psp
from lsap_jax.networks.families import GeneratorConfig
from lsap_jax.networks.image_by_image import on_batch
from lsap_jax.networks.view import View


class PspEncoder(struct.PyTreeNode, kw_only=True):
    """Encoder of images to ws (`models.encoder.Encoder`).

    `params` are {"encoder": of its network, "w_avg": the mean latent [num_ws, w_dim], which is added to its output}.
    """

    kind: ClassVar[str] = "psp"
    config: psp.PspConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    @property
    def codes(self) -> str:
        """Name of the space of its codes."""
        return "w" if self.config.heads == "single" else "w+"

    @property
    def view(self) -> View:
        """Size and filter of the images that it takes."""
        return self.config.view

    def __call__(self, images: jax.Array, G: Generator) -> jax.Array:
        """Images [B, h, w, C] in [-1, 1], of the size of `view`, to ws [B, num_ws, w_dim] of G."""
        return on_batch(_codes, (self, G.bare()), {"x": images})  # type: ignore[no-any-return]

    def with_unit(self, images: jax.Array, index: int) -> tuple[jax.Array, jax.Array]:
        """(ws, what the trunk's unit of this index makes [B, s, s, C]) of images, for an encoder of one pass."""
        network, params = psp.PspEncoder(self.config), {"params": self.params["encoder"]}
        offsets, found = network.apply(params, images, mutable=[psp.UNITS_OUT])
        return offsets + self.params["w_avg"][None], found[psp.UNITS_OUT]["outputs"][0][index]

    def check_fits(self, generator: GeneratorConfig) -> None:
        """Raises LsapError if this generator takes ws of another shape, or makes images with other channels."""
        own = (self.config.num_ws, self.config.w_dim, self.config.in_channels // (2 if self.config.sees_result else 1))
        check_fits(own, generator, "choose an encoder that was trained for it")


def param_shapes(config: psp.PspConfig) -> dict[str, Any]:
    """Params tree as ShapeDtypeStructs."""
    mean = jax.ShapeDtypeStruct((config.num_ws, config.w_dim), jnp.float32)
    return {"encoder": psp.param_shapes(config), "w_avg": mean}


def _codes(models: tuple[PspEncoder, Generator], batch: Mapping[str, Any]) -> jax.Array:
    E, G = models
    images, config = batch["x"], E.config
    network, params = psp.PspEncoder(config), {"params": E.params["encoder"]}
    mean = jnp.broadcast_to(E.params["w_avg"][None], (len(images), config.num_ws, config.w_dim))
    if not config.sees_result:
        return jnp.add(network.apply(params, images), mean)  # type: ignore[arg-type]

    def once(ws: jax.Array, _: None) -> tuple[jax.Array, None]:
        """ReStyle, §3: the encoder sees the target beside the present image, and predicts the offset of its ws."""
        shown = psp.pooled(G.synthesis(ws), config.view)
        offset = network.apply(params, jnp.concatenate([images, shown], axis=-1))
        return jnp.add(ws, offset), None  # type: ignore[arg-type]

    return jax.lax.scan(once, mean, length=config.passes)[0]  # type: ignore[no-any-return]
