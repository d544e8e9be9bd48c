"""MoCo's ResNet-50: images of anything to unit vectors of 2048, for the similarity loss of e4e, pSp and ReStyle.

Params carry the names of torchvision's network: `layer1.0.downsample.0.weight` becomes
`params["layer1"]["0"]["downsample"]["0"]["weight"]`, in HWIO.

References: He et al., Deep Residual Learning for Image Recognition (CVPR 2016); Chen et al., Improved Baselines with
Momentum Contrastive Learning (MoCo v2, arXiv 2003.04297).
"""

from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.inception import Conv, Kernel
from lsap_jax.networks.inception_resnet import unit
from lsap_jax.networks.irse import Norm, ShortcutLayer, Unit
from lsap_jax.networks.parameters import initial_shapes

RESOLUTION, FEATURES, EXPANSION = 224, 2048, 4
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, units, stride of the first


def nearest(images: jax.Array) -> jax.Array:
    """Images [B, H, W, C] at 224 px as `torch.nn.functional.interpolate` has it by default: one pixel for each."""
    for axis, formula in ((1, "oh,bhwc->bowc"), (2, "ow,bhwc->bhoc")):
        if (size := images.shape[axis]) != RESOLUTION:
            chosen = np.arange(RESOLUTION) * size // RESOLUTION
            weights = jnp.asarray(np.eye(size)[chosen], images.dtype)
            images = jnp.einsum(formula, weights, images, precision=FULL)
    return images


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 with the stride, 1 x 1, each with a norm; the shortcut is a convolution where the shape changes."""

    unit: Unit

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width, stride = self.unit
        y = nn.relu(Norm(name="bn1")(Kernel(Conv("conv1", width), name="conv1")(x)))
        y = nn.relu(Norm(name="bn2")(Kernel(Conv("conv2", width, (3, 3), stride), name="conv2")(y)))
        y = Norm(name="bn3")(Kernel(Conv("conv3", EXPANSION * width), name="conv3")(y))
        if x.shape[-1] != EXPANSION * width or stride > 1:
            x = ShortcutLayer(Unit(EXPANSION * width, stride), name="downsample")(x)
        return nn.relu(x + y)


class Stage(nn.Module):
    """Units in a row."""

    width: int
    count: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for k in range(self.count):
            x = Bottleneck(Unit(self.width, self.stride if k == 0 else 1), name=str(k))(x)
        return x


class MocoNetwork(nn.Module):
    """Images [B, 224, 224, 3] in [-1, 1], as e4e's loss gives them, to unit vectors [B, 2048]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(Norm(name="bn1")(Kernel(Conv("conv1", 64, (7, 7), 2), name="conv1")(x)))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for k, (width, count, stride) in enumerate(STAGES):
            x = Stage(width, count, stride, name=f"layer{k + 1}")(x)
        return unit(x.mean(axis=(1, 2)))


@cache
def param_shapes() -> dict[str, Any]:
    """Params tree of the network as ShapeDtypeStructs."""
    return initial_shapes(MocoNetwork(), (1, RESOLUTION, RESOLUTION, 3))
