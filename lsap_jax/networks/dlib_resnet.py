"""dlib's face recognition network: faces to descriptors of 128 numbers, close for one person.

A ResNet of 29 convolutions without padding where it halves the resolution; branches of different sizes and widths are
added as if the smaller one went on with zeros. Two pictures show one person if their descriptors are less than
`SAME_PERSON` apart, by dlib's documentation. Params carry the converter's names (`convert_weights.dlib_file`),
convolutions in HWIO.

References: He et al., Deep Residual Learning for Image Recognition (CVPR 2016); King, Dlib-ml (JMLR 2009), and
dlib's examples/dnn_face_recognition_ex.cpp.
"""

from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.inception_resnet import Dense
from lsap_jax.networks.parameters import initial_shapes

RESOLUTION = 150
FEATURES = 128
SAME_PERSON = 0.6  # Euclidean distance of two descriptors
MEAN = (122.782, 117.001, 104.298)  # of the training pictures: red, green, blue levels
STEM = 32
# Blocks from the image on: width, and whether the block halves the resolution.
BLOCKS: tuple[tuple[int, bool], ...] = (
    *((32, False),) * 3,
    *((64, True), *((64, False),) * 3),
    *((128, True), *((128, False),) * 2),
    *((256, True), *((256, False),) * 2),
    (256, True),
)
_NUMBERS = ("NHWC", "HWIO", "NHWC")


class Conv(nn.Module):
    """Convolution with bias; padded to keep the size where the stride is 1."""

    width: int
    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.width)
        weight = self.param("weight", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        edge = self.kernel // 2 if self.stride == 1 else 0
        y = jax.lax.conv_general_dilated(
            x, weight, (self.stride,) * 2, [(edge, edge)] * 2, dimension_numbers=_NUMBERS, precision=FULL
        )
        return y + bias[None, None, None]


class Layer(nn.Module):
    """Convolution, then a scale and a shift per channel: the batch norm of training."""

    width: int
    kernel: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (self.width,))
        shift = self.param("shift", nn.initializers.zeros, (self.width,))
        x = Conv(self.width, self.kernel, self.stride, name="conv")(x)
        return x * scale[None, None, None] + shift[None, None, None]


def halved(x: jax.Array) -> jax.Array:
    """Means of 2 x 2 pixels; a last odd row or column is left out."""
    return nn.avg_pool(x, (2, 2), (2, 2))


def padded_sum(a: jax.Array, b: jax.Array) -> jax.Array:
    """a + b, both with zeros behind their rows, columns and channels up to the larger size of each."""
    shape = tuple(max(m, n) for m, n in zip(a.shape, b.shape, strict=True))
    a, b = (jnp.pad(x, [(0, n - m) for m, n in zip(x.shape, shape, strict=True)]) for x in (a, b))
    return a + b


class DlibResnet(nn.Module):
    """Faces [B, 150, 150, 3], aligned as dlib does, in levels from 0 to 255, to descriptors [B, 128]."""

    @nn.compact
    def __call__(self, levels: jax.Array) -> jax.Array:
        x = (levels - jnp.asarray(MEAN)[None, None, None]) / 256
        x = nn.relu(Layer(STEM, 7, 2, name="layer0")(x))
        x = nn.max_pool(x, (3, 3), (2, 2))
        for k, (width, down) in enumerate(BLOCKS):
            y = nn.relu(Layer(width, stride=2 if down else 1, name=f"layer{2 * k + 1}")(x))
            y = Layer(width, name=f"layer{2 * k + 2}")(y)
            x = nn.relu(padded_sum(y, halved(x) if down else x))
        return Dense(FEATURES, name="fc")(jnp.mean(x, (1, 2)))  # type: ignore[no-any-return]


@cache
def param_shapes() -> dict[str, Any]:
    """Params tree of the network as ShapeDtypeStructs."""
    return initial_shapes(DlibResnet(), (1, RESOLUTION, RESOLUTION, 3))
