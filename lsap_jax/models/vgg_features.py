"""IDInvert's perceptual distance: the mean square of what relu4_3 of VGG16 tells apart (arXiv 2004.00049, eq. 6).

The network is Caffe's: images have 0 to 255 grey levels, their channels are BGR, less a mean for each. With the weights
of torchvision, which LPIPS brings along, it is the same network with other numbers.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from lsap_jax.networks.frozen import freeze, variables
from lsap_jax.networks.perceptual import PerceptualNetwork
from lsap_jax.networks.pixel_maps import bicubic

MEAN = (103.939, 116.779, 123.68)  # of blue, green and red
TAP = 3  # of LPIPS' taps of VGG16, relu4_3
VGG16 = "vgg16"


class VggFeatures(struct.PyTreeNode, kw_only=True):
    """The distance as a `losses.judges.Judge`; `network` are params of `PerceptualNetwork("vgg16")`."""

    name: ClassVar[str] = "vgg_relu4_3"
    blackens: ClassVar[bool] = True
    network: Mapping[str, Any]
    resolution: int = struct.field(pytree_node=False, default=256)

    @property
    def description(self) -> str:
        """One line that defines the distance, for results."""
        return (
            f"mean square of the difference of VGG16's relu4_3, images of 0 to 255, BGR less Caffe's mean, above "
            f"{self.resolution} px reduced by bicubic without antialiasing"
        )

    @jax.jit
    def features(self, images: jax.Array) -> list[jax.Array]:
        """[B, H/8, W/8, 512] of images [B, H, W, C] in [-1, 1], as the only entry of a list."""
        if max(images.shape[1:3]) > self.resolution:
            images = bicubic(images, (self.resolution, self.resolution))
        if images.shape[-1] == 1:
            images = jnp.repeat(images, 3, axis=-1)
        bgr = (images[..., ::-1] + 1) * 127.5 - jnp.asarray(MEAN, images.dtype)[None, None, None]
        taps: Any = PerceptualNetwork(VGG16).apply(variables(self.network), bgr)
        return [taps[TAP]]

    @jax.jit
    def distance(self, a: list[jax.Array], b: list[jax.Array], mask: jax.Array | None = None) -> jax.Array:
        """Distance [B] between `features` of two batches.

        Args:
            mask: [B, H, W] in [0, 1], under which both were computed; the distance is then that of IDInvert's semantic
                diffusion, divided by the part of the image that counts, as the pixel term is. An empty mask gives 0.
        """
        found = jnp.mean(jnp.square(a[0] - b[0]), (1, 2, 3))
        return found if mask is None else found / jnp.maximum(jnp.mean(mask, (1, 2)), 1e-8)

    @partial(jax.jit, static_argnames=("side", "winograd"))
    def freeze(self, side: int, winograd: int = 0) -> "VggFeatures":
        """A copy for images of `side` pixels with frozen weights, as `Generator.freeze` makes one."""
        side = min(side, self.resolution)
        images = jnp.zeros((1, side, side, 3))
        return self.replace(network=freeze(PerceptualNetwork(VGG16), self.network, images, winograd=winograd))
