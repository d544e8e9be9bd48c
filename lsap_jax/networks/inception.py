"""Inception v3 as FID uses it: TensorFlow's network of 2015-12-05, up to the 2048 features of its last pooling.

It is not torchvision's Inception v3: average pools leave padding out of their mean, and a branch of the last block
pools by maximum. `STAGES` describes the whole network, and one module runs it. Params carry the names of the public
port to torch (pt_inception-2015-12-05-6726825d.pth, pytorch-fid): `Mixed_5b.branch1x1.conv.weight` becomes
`params["Mixed_5b"]["branch1x1"]["conv"]["weight"]`, in HWIO.

References: Szegedy et al., Rethinking the Inception Architecture for Computer Vision (CVPR 2016); Heusel et al., GANs
Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (NeurIPS 2017).
"""

from functools import cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.arithmetic import precision
from lsap_jax.networks.convolution import conv2d
from lsap_jax.networks.parameters import initial_shapes
from lsap_jax.networks.pixel_maps import bilinear

RESOLUTION = 299
FEATURES = 2048
EPSILON = 1e-3  # of the batch norms


class Conv(NamedTuple):
    """Convolution without bias, batch norm and ReLU; kernel (height, width), padded to keep the size or not at all."""

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padded: bool = True


class Pool(NamedTuple):
    """3 x 3 pooling by "max" or "average"; averages are over the pixels that lie in the image."""

    kind: str
    stride: int = 1
    padded: bool = True


class Fork(NamedTuple):
    """Convolutions side by side on one input, their outputs concatenated."""

    sides: tuple[Conv, ...]


class Mixed(NamedTuple):
    """Branches side by side on one input, each a row of steps, their outputs concatenated in this order."""

    name: str
    branches: tuple[tuple[Conv | Pool | Fork, ...], ...]


Stage = Conv | Pool | Mixed


def _block_a(name: str, pooled: int) -> Mixed:
    double = (
        Conv("branch3x3dbl_1", 64),
        Conv("branch3x3dbl_2", 96, (3, 3)),
        Conv("branch3x3dbl_3", 96, (3, 3)),
    )
    five = (Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5)))
    pool = (Pool("average"), Conv("branch_pool", pooled))
    return Mixed(name, ((Conv("branch1x1", 64),), five, double, pool))


def _block_b(name: str) -> Mixed:
    double = (
        Conv("branch3x3dbl_1", 64),
        Conv("branch3x3dbl_2", 96, (3, 3)),
        Conv("branch3x3dbl_3", 96, (3, 3), stride=2, padded=False),
    )
    three = (Conv("branch3x3", 384, (3, 3), stride=2, padded=False),)
    return Mixed(name, (three, double, (Pool("max", stride=2, padded=False),)))


def _block_c(name: str, inner: int) -> Mixed:
    seven = (
        Conv("branch7x7_1", inner),
        Conv("branch7x7_2", inner, (1, 7)),
        Conv("branch7x7_3", 192, (7, 1)),
    )
    double = (
        Conv("branch7x7dbl_1", inner),
        Conv("branch7x7dbl_2", inner, (7, 1)),
        Conv("branch7x7dbl_3", inner, (1, 7)),
        Conv("branch7x7dbl_4", inner, (7, 1)),
        Conv("branch7x7dbl_5", 192, (1, 7)),
    )
    return Mixed(name, ((Conv("branch1x1", 192),), seven, double, (Pool("average"), Conv("branch_pool", 192))))


def _block_d(name: str) -> Mixed:
    three = (Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, (3, 3), stride=2, padded=False))
    seven = (
        Conv("branch7x7x3_1", 192),
        Conv("branch7x7x3_2", 192, (1, 7)),
        Conv("branch7x7x3_3", 192, (7, 1)),
        Conv("branch7x7x3_4", 192, (3, 3), stride=2, padded=False),
    )
    return Mixed(name, (three, seven, (Pool("max", stride=2, padded=False),)))


def _block_e(name: str, pool: str) -> Mixed:
    three = (
        Conv("branch3x3_1", 384),
        Fork((Conv("branch3x3_2a", 384, (1, 3)), Conv("branch3x3_2b", 384, (3, 1)))),
    )
    double = (
        Conv("branch3x3dbl_1", 448),
        Conv("branch3x3dbl_2", 384, (3, 3)),
        Fork((Conv("branch3x3dbl_3a", 384, (1, 3)), Conv("branch3x3dbl_3b", 384, (3, 1)))),
    )
    return Mixed(name, ((Conv("branch1x1", 320),), three, double, (Pool(pool), Conv("branch_pool", 192))))


STAGES: tuple[Stage, ...] = (
    Conv("Conv2d_1a_3x3", 32, (3, 3), stride=2, padded=False),
    Conv("Conv2d_2a_3x3", 32, (3, 3), padded=False),
    Conv("Conv2d_2b_3x3", 64, (3, 3)),
    Pool("max", stride=2, padded=False),
    Conv("Conv2d_3b_1x1", 80),
    Conv("Conv2d_4a_3x3", 192, (3, 3), padded=False),
    Pool("max", stride=2, padded=False),
    _block_a("Mixed_5b", pooled=32),
    _block_a("Mixed_5c", pooled=64),
    _block_a("Mixed_5d", pooled=64),
    _block_b("Mixed_6a"),
    _block_c("Mixed_6b", inner=128),
    _block_c("Mixed_6c", inner=160),
    _block_c("Mixed_6d", inner=160),
    _block_c("Mixed_6e", inner=192),
    _block_d("Mixed_7a"),
    _block_e("Mixed_7b", pool="average"),
    _block_e("Mixed_7c", pool="max"),
)


def resize(images: jax.Array) -> jax.Array:
    """Images [B, H, W, C] at 299 x 299 px, as `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`.

    Larger images alias: FID's public port does the same, and FID values depend on it.
    """
    return bilinear(images, (RESOLUTION, RESOLUTION))


def pool(x: jax.Array, step: Pool) -> jax.Array:
    """See `Pool`; x is [B, H, W, C]."""
    edge = 1 if step.padded else 0
    shared: dict[str, Any] = {"strides": (step.stride, step.stride), "padding": ((edge, edge), (edge, edge))}
    if step.kind == "max":
        return nn.max_pool(x, (3, 3), **shared)
    return nn.avg_pool(x, (3, 3), **shared, count_include_pad=False)


class Kernel(nn.Module):
    """Convolution without bias; param `weight` (HWIO)."""

    step: Conv

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        (height, width), stride = self.step.kernel, self.step.stride
        weight = self.param("weight", nn.initializers.he_normal(), (height, width, x.shape[-1], self.step.width))
        edges = [(k - 1) // 2 if self.step.padded else 0 for k in (height, width)]
        if height == width:
            return conv2d(x, weight, stride, edges[0])
        padding, numbers = [(edge, edge) for edge in edges], ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, weight, (stride, stride), padding, dimension_numbers=numbers, precision=precision()
        )


class Norm(nn.Module):
    """Batch norm with fixed statistics, which are params here: nothing ever trains this network."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1],)
        weight = self.param("weight", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.param("running_mean", nn.initializers.zeros, shape)
        variance = self.param("running_var", nn.initializers.ones, shape)
        scale = weight / jnp.sqrt(variance + EPSILON)
        return (x - mean[None, None, None, :]) * scale[None, None, None, :] + bias[None, None, None, :]


class Convolution(nn.Module):
    """See `Conv`."""

    step: Conv

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.relu(Norm(name="bn")(Kernel(self.step, name="conv")(x)))


class MixedBlock(nn.Module):
    """See `Mixed`."""

    branches: tuple[tuple[Conv | Pool | Fork, ...], ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        outputs = []
        for steps in self.branches:
            y = x
            for step in steps:
                if isinstance(step, Pool):
                    y = pool(y, step)
                elif isinstance(step, Conv):
                    y = Convolution(step, name=step.name)(y)
                else:
                    y = jnp.concatenate([Convolution(side, name=side.name)(y) for side in step.sides], axis=-1)
            outputs.append(y)
        return jnp.concatenate(outputs, axis=-1)


class InceptionNetwork(nn.Module):
    """Images [B, H, W, 3] in [-1, 1], of any size, to the features [B, 2048] of the last pooling (pool_3)."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = resize(images)
        for stage in STAGES:
            if isinstance(stage, Pool):
                x = pool(x, stage)
            elif isinstance(stage, Conv):
                x = Convolution(stage, name=stage.name)(x)
            else:
                x = MixedBlock(stage.branches, name=stage.name)(x)
        return jnp.mean(x, (1, 2))


@cache
def param_shapes() -> dict[str, Any]:
    """Params tree of the network as ShapeDtypeStructs; named as torch names them, e.g. `Conv2d_1a_3x3.conv.weight`."""
    return initial_shapes(InceptionNetwork(), (1, RESOLUTION, RESOLUTION, 3))
