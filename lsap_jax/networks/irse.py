"""IR-SE50, the residual network with squeeze and excitation that ArcFace is trained with: faces to unit vectors of 512.

`UNITS` describes its 24 residual units. Params carry the names of the public file (model_ir_se50.pth):
`body.3.res_layer.5.fc1.weight` becomes `params["body"]["3"]["res_layer"]["5"]["fc1"]["weight"]`, in HWIO. The vector is
made of the last features in the order of torch's layout: channel, row, column.

References: Deng et al., ArcFace: Additive Angular Margin Loss for Deep Face Recognition (CVPR 2019), section 3.1 (the
"IR" unit); Hu et al., Squeeze-and-Excitation Networks (CVPR 2018).
"""

from functools import cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.inception import Conv, Kernel
from lsap_jax.networks.inception_resnet import unit
from lsap_jax.networks.layers import channelwise
from lsap_jax.networks.parameters import initial_shapes

RESOLUTION = 112  # fixed: the last layer sees 7 x 7 positions
FEATURES = 512
EPSILON = 1e-5  # of the batch norms
SQUEEZE = 16
BATCH = "batch"  # collection of the statistics of a batch, which trainings ask for
ALIGNED = 256  # px of an FFHQ-aligned image that the crop below is taken from
ROWS, COLUMNS = slice(35, 223), slice(32, 220)


class Unit(NamedTuple):
    """Residual unit; where the width changes, the shortcut is a convolution, else every stride-th pixel."""

    width: int
    stride: int = 1


def _stage(width: int, count: int) -> tuple[Unit, ...]:
    return (Unit(width, 2), *(Unit(width),) * (count - 1))


UNITS: tuple[Unit, ...] = (*_stage(64, 3), *_stage(128, 4), *_stage(256, 14), *_stage(512, 3))


def adaptive_matrix(source: int, size: int) -> np.ndarray:
    """Weights [size, source] of torch's 1-D adaptive average pooling: equal within a cell, and cells overlap."""
    cell = np.arange(size)
    first, end = cell * source // size, -(-(cell + 1) * source // size)
    samples = np.arange(source)
    inside = (samples >= first[:, None]) & (samples < end[:, None])
    return inside / (end - first)[:, None]


def adaptive_average(x: jax.Array, size: int) -> jax.Array:
    """`torch.nn.AdaptiveAvgPool2d` of [B, H, W, C]."""
    for axis, formula in ((1, "oh,bhwc->bowc"), (2, "ow,bhwc->bhoc")):
        if x.shape[axis] != size:
            weights = jnp.asarray(adaptive_matrix(x.shape[axis], size), x.dtype)
            x = jnp.einsum(formula, weights, x, precision=FULL)
    return x


def aligned_crop(images: jax.Array) -> jax.Array:
    """Aligned images [B, H, W, C] as the network's input [B, 112, 112, C], in the same range.

    This is the crop of the identity losses of pSp, e4e and LSAP: averaged to 256 px (FFHQ's framing), rows 35 to 222
    and columns 32 to 219, averaged to 112 px in cells that overlap.

    References: Richardson et al., Encoding in Style (CVPR 2021), section 3.2 (the identity loss).
    """
    return adaptive_average(adaptive_average(images, ALIGNED)[:, ROWS, COLUMNS, :], RESOLUTION)


class Norm(nn.Module):
    """Batch norm of the last axis with fixed statistics, which are params here.

    Where the collection `BATCH` is mutable it normalises by the batch, and puts its mean and its unbiased variance
    there, under the names of the params that average them.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def param(name: str, value: nn.initializers.Initializer) -> jax.Array:
            found: jax.Array = self.param(name, value, (x.shape[-1],))
            return channelwise(found, x.ndim)

        weight, bias = param("weight", nn.initializers.ones), param("bias", nn.initializers.zeros)
        mean, variance = param("running_mean", nn.initializers.zeros), param("running_var", nn.initializers.ones)
        if self.is_mutable_collection(BATCH) and not self.is_initializing():
            axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
            mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
            self.put_variable(BATCH, "running_mean", mean.ravel())
            self.put_variable(BATCH, "running_var", variance.ravel() * (count / max(count - 1, 1)))
        return (x - mean) * (weight / jnp.sqrt(variance + EPSILON)) + bias


class Prelu(nn.Module):
    """max(x, 0) + weight · min(x, 0), one weight per channel."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weight = self.param("weight", nn.initializers.constant(0.25), (x.shape[-1],))
        return jnp.where(x >= 0, x, weight[None, None, None, :] * x)


class Excitation(nn.Module):
    """Channels weighted by two 1 x 1 convolutions of their means (squeeze and excitation)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        y = jnp.mean(x, (1, 2), keepdims=True)
        y = nn.relu(Kernel(Conv("fc1", width // SQUEEZE), name="fc1")(y))
        return x * nn.sigmoid(Kernel(Conv("fc2", width), name="fc2")(y))


class ResidualLayer(nn.Module):
    """Norm, 3 x 3 convolution, PReLU, 3 x 3 convolution with the stride, norm, excitation if it is `excited`."""

    unit: Unit
    excited: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width, stride = self.unit
        x = Kernel(Conv("1", width, (3, 3)), name="1")(Norm(name="0")(x))
        x = Kernel(Conv("3", width, (3, 3), stride), name="3")(Prelu(name="2")(x))
        x = Norm(name="4")(x)
        return Excitation(name="5")(x) if self.excited else x


class ShortcutLayer(nn.Module):
    """1 x 1 convolution with the stride, and norm."""

    unit: Unit

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Norm(name="1")(Kernel(Conv("0", self.unit.width, stride=self.unit.stride), name="0")(x))


class ResidualUnit(nn.Module):
    """See `Unit`; `excited` ones weight their channels by squeeze and excitation."""

    unit: Unit
    excited: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if x.shape[-1] == self.unit.width:
            shortcut = x[:, :: self.unit.stride, :: self.unit.stride, :]  # torch's pooling with a window of one pixel
        else:
            shortcut = ShortcutLayer(self.unit, name="shortcut_layer")(x)
        return ResidualLayer(self.unit, self.excited, name="res_layer")(x) + shortcut


class InputLayer(nn.Module):
    """3 x 3 convolution, norm, PReLU."""

    width: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Prelu(name="2")(Norm(name="1")(Kernel(Conv("0", self.width, (3, 3)), name="0")(x)))


class Body(nn.Module):
    """The units in a row."""

    units: tuple[Unit, ...] = UNITS
    excited: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """The output of every unit."""
        found = []
        for k, one in enumerate(self.units):
            x = ResidualUnit(one, self.excited, name=str(k))(x)
            found.append(x)
        return found


class Linear(nn.Module):
    """Linear layer on [B, C]; params `weight` [C, 512] and `bias`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weight = self.param("weight", nn.initializers.he_normal(), (x.shape[-1], FEATURES))
        bias = self.param("bias", nn.initializers.zeros, (FEATURES,))
        return jnp.matmul(x, weight, precision=FULL) + bias[None, :]


class OutputLayer(nn.Module):
    """Norm, all features of an image to 512 numbers, norm."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Norm(name="0")(x).transpose(0, 3, 1, 2)  # torch flattens channel by channel
        return Norm(name="4")(Linear(name="3")(x.reshape(x.shape[0], -1)))


class Irse50(nn.Module):
    """Aligned faces [B, 112, 112, 3] in [-1, 1] to unit vectors [B, 512]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Body(name="body")(InputLayer(name="input_layer")(x))[-1]
        return unit(OutputLayer(name="output_layer")(x))


@cache
def param_shapes() -> dict[str, Any]:
    """Params tree of the network as ShapeDtypeStructs; named as torch names them, e.g. `body.0.res_layer.1.weight`."""
    return initial_shapes(Irse50(), (1, RESOLUTION, RESOLUTION, 3))
