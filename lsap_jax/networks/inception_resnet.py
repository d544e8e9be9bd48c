"""Inception-ResNet v1 as facenet-pytorch trained it on faces: pictures of a face to unit vectors of 512 numbers.

It is not the paper's network to the letter: its stem has no branches, residual branches are scaled down before they are
added (0.17, 0.10, 0.20; the last block's not at all), and the last block has no ReLU. `STAGES` describes the whole
network, and one module runs it. Params carry the names of the public file (20180402-114759-vggface2.pt):
`repeat_1.0.branch1.1.conv.weight` becomes `params["repeat_1"]["0"]["branch1"]["1"]["conv"]["weight"]`, in HWIO.

References: Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning (AAAI
2017); Schroff et al., FaceNet (CVPR 2015).
"""

from functools import cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.inception import Conv, Convolution, Norm, Pool, pool
from lsap_jax.networks.parameters import initial_shapes

RESOLUTION = 160  # that of training; the network runs on any size from 75 px
FEATURES = 512
_SMALLEST_NORM = 1e-12


class Row(NamedTuple):
    """Convolutions one after the other, named by their place."""

    name: str
    steps: tuple[Conv, ...]


Branch = Conv | Row | Pool


class Fork(NamedTuple):
    """Branches side by side on one input, their outputs concatenated in this order."""

    name: str
    branches: tuple[Branch, ...]


class Residual(NamedTuple):
    """A fork, a 1 x 1 convolution with bias back to the input's channels, scaled and added to the input; then ReLU."""

    name: str
    branches: tuple[Branch, ...]
    scale: float
    relu: bool = True


class Repeat(NamedTuple):
    """Residual blocks in a row."""

    name: str
    blocks: tuple[Residual, ...]


Stage = Conv | Pool | Fork | Repeat | Residual


def _row(name: str, *steps: tuple[int, tuple[int, int]] | tuple[int, tuple[int, int], int]) -> Row:
    """Convolutions of (width, kernel) that keep the size; of (width, kernel, stride) without padding."""
    convs = []
    for k, (width, kernel, *stride) in enumerate(steps):
        convs.append(Conv(str(k), width, kernel, stride=stride[0] if stride else 1, padded=not stride))
    return Row(name, tuple(convs))


def _repeat(name: str, count: int, branches: tuple[Branch, ...], scale: float) -> Repeat:
    return Repeat(name, tuple(Residual(str(k), branches, scale) for k in range(count)))


_HALVED = Pool("max", stride=2, padded=False)
_BLOCK_35 = (
    Conv("branch0", 32),
    _row("branch1", (32, (1, 1)), (32, (3, 3))),
    _row("branch2", (32, (1, 1)), (32, (3, 3)), (32, (3, 3))),
)
_BLOCK_17 = (Conv("branch0", 128), _row("branch1", (128, (1, 1)), (128, (1, 7)), (128, (7, 1))))
_BLOCK_8 = (Conv("branch0", 192), _row("branch1", (192, (1, 1)), (192, (1, 3)), (192, (3, 1))))
_REDUCTION_A = (
    Conv("branch0", 384, (3, 3), stride=2, padded=False),
    _row("branch1", (192, (1, 1)), (192, (3, 3)), (256, (3, 3), 2)),
    _HALVED,
)
_REDUCTION_B = (
    _row("branch0", (256, (1, 1)), (384, (3, 3), 2)),
    _row("branch1", (256, (1, 1)), (256, (3, 3), 2)),
    _row("branch2", (256, (1, 1)), (256, (3, 3)), (256, (3, 3), 2)),
    _HALVED,
)

STAGES: tuple[Stage, ...] = (
    Conv("conv2d_1a", 32, (3, 3), stride=2, padded=False),
    Conv("conv2d_2a", 32, (3, 3), padded=False),
    Conv("conv2d_2b", 64, (3, 3)),
    _HALVED,
    Conv("conv2d_3b", 80),
    Conv("conv2d_4a", 192, (3, 3), padded=False),
    Conv("conv2d_4b", 256, (3, 3), stride=2, padded=False),
    _repeat("repeat_1", 5, _BLOCK_35, 0.17),
    Fork("mixed_6a", _REDUCTION_A),
    _repeat("repeat_2", 10, _BLOCK_17, 0.10),
    Fork("mixed_7a", _REDUCTION_B),
    _repeat("repeat_3", 5, _BLOCK_8, 0.20),
    Residual("block8", _BLOCK_8, 1.0, relu=False),
)


def unit(x: jax.Array) -> jax.Array:
    """Vectors [B, C] scaled to length 1; a vector of zeros stays as it is."""
    length = jnp.sqrt(jnp.sum(jnp.square(x), -1, keepdims=True))
    return x / jnp.maximum(length, _SMALLEST_NORM)


class Dense(nn.Module):
    """Linear layer without bias on [B, C]; param `weight` [C, width]."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weight = self.param("weight", nn.initializers.he_normal(), (x.shape[-1], self.width))
        return jnp.matmul(x, weight, precision=FULL)


class Projection(nn.Module):
    """1 x 1 convolution with bias; params `weight` (HWIO) and `bias`."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weight = self.param("weight", nn.initializers.he_normal(), (1, 1, x.shape[-1], self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, weight, (1, 1), "VALID", dimension_numbers=numbers, precision=FULL)
        return y + bias[None, None, None, :]


class RowBlock(nn.Module):
    """See `Row`."""

    steps: tuple[Conv, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for step in self.steps:
            x = Convolution(step, name=step.name)(x)
        return x


def _branch(x: jax.Array, branch: Branch) -> jax.Array:
    """One branch of the module that is being run."""
    if isinstance(branch, Pool):
        return pool(x, branch)
    if isinstance(branch, Conv):
        return Convolution(branch, name=branch.name)(x)
    return RowBlock(branch.steps, name=branch.name)(x)


class ForkBlock(nn.Module):
    """See `Fork`."""

    branches: tuple[Branch, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.concatenate([_branch(x, branch) for branch in self.branches], axis=-1)


class ResidualBlock(nn.Module):
    """See `Residual`."""

    block: Residual

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        sides = jnp.concatenate([_branch(x, branch) for branch in self.block.branches], axis=-1)
        x = x + self.block.scale * Projection(x.shape[-1], name="conv2d")(sides)
        return nn.relu(x) if self.block.relu else x


class RepeatBlock(nn.Module):
    """See `Repeat`."""

    blocks: tuple[Residual, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = ResidualBlock(block, name=block.name)(x)
        return x


class InceptionResnetV1(nn.Module):
    """Faces [B, H, W, 3], (level - 127.5) / 128 of 256 levels, to unit vectors [B, 512]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for stage in STAGES:
            if isinstance(stage, Pool):
                x = pool(x, stage)
            elif isinstance(stage, Conv):
                x = Convolution(stage, name=stage.name)(x)
            elif isinstance(stage, Fork):
                x = ForkBlock(stage.branches, name=stage.name)(x)
            elif isinstance(stage, Repeat):
                x = RepeatBlock(stage.blocks, name=stage.name)(x)
            else:
                x = ResidualBlock(stage, name=stage.name)(x)
        x = Dense(FEATURES, name="last_linear")(jnp.mean(x, (1, 2)))
        return unit(Norm(name="last_bn")(x[:, None, None, :])[:, 0, 0, :])


@cache
def param_shapes() -> dict[str, Any]:
    """Params tree of the network as ShapeDtypeStructs; named as torch names them, e.g. `conv2d_1a.conv.weight`."""
    return initial_shapes(InceptionResnetV1(), (1, RESOLUTION, RESOLUTION, 3))
