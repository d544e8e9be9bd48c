"""BiSeNet, which names the part of a face that every pixel shows: one of 19 classes.

A ResNet-18, its deep features gated by their means and added on the way up, and a fusion with its features at an eighth
of the size. Params carry the names of the public file: `cp.resnet.layer1.0.conv1.weight` is
`params["cp"]["resnet"]["layer1"]["0"]["conv1"]["weight"]`, in HWIO. Heads that only the training reads are left out.

References: Yu et al., BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation (arXiv 1808.00897),
as github.com/zllrunning/face-parsing.PyTorch has it, without the spatial path.
"""

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.bounds import Channels, Side, between, length
from lsap_jax.networks.invertibility import Dilated, Shortcut
from lsap_jax.networks.irse import Norm
from lsap_jax.networks.parameters import initial_shapes
from lsap_jax.networks.psp import upsampled

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in [0, 1]
Units = Annotated[int, between(1, 64)]


@dataclass(frozen=True, kw_only=True)
class FaceParserConfig:
    """Shape of the network; by default that of the public one.

    Attributes:
        classes: that a pixel can have.
        input_resolution: px a side of images as the network was trained with them; it takes any.
        stem: width of the first layer.
        widths, units: of the four stages; all but the first halve the sides.
        context: width of the features on the way up, whose last ones are fused with those of the second stage.
        fused, squeezed: width of the fusion, and of the layer between its mean and its gate.
        head: width of the head's first layer.
    """

    classes: Annotated[int, between(1, 255)] = 19
    input_resolution: Side = 512
    stem: Channels = 64
    widths: Annotated[tuple[Channels, ...], length(4, 4)] = (64, 128, 256, 512)
    units: Annotated[tuple[Units, ...], length(4, 4)] = (2, 2, 2, 2)
    context: Channels = 128
    fused: Channels = 256
    squeezed: Channels = 64
    head: Channels = 256


class Basic(nn.Module):
    """Two 3 x 3 convolutions with norms beside a shortcut, which is a convolution where the shape changes."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.relu(Norm(name="bn1")(Dilated(self.width, 3, self.stride, name="conv1")(x)))
        y = Norm(name="bn2")(Dilated(self.width, 3, name="conv2")(y))
        same = self.stride == 1 and x.shape[-1] == self.width
        return nn.relu((x if same else Shortcut(self.width, self.stride, name="downsample")(x)) + y)


class Stage(nn.Module):
    """Blocks of one width, the first with the stride."""

    width: int
    units: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for k in range(self.units):
            x = Basic(self.width, self.stride if k == 0 else 1, name=str(k))(x)
        return x


class Resnet(nn.Module):
    """Images to the features of the last three stages: at an eighth, a sixteenth and a thirty-second of the size."""

    config: FaceParserConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        c, found = self.config, []
        x = nn.relu(Norm(name="bn1")(Dilated(c.stem, 7, 2, name="conv1")(x)))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for k, (width, units) in enumerate(zip(c.widths, c.units, strict=True)):
            x = Stage(width, units, 2 if k else 1, name=f"layer{k + 1}")(x)
            found.append(x)
        return found[1:]


class ConvNorm(nn.Module):
    """Convolution, norm and ReLU."""

    width: int
    kernel: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.relu(Norm(name="bn")(Dilated(self.width, self.kernel, name="conv")(x)))


class Gated(nn.Module):
    """A convolution whose channels are gated by their means."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = ConvNorm(self.width, name="conv")(x)
        gate = Norm(name="bn_atten")(Dilated(self.width, name="conv_atten")(_mean(x)))
        return x * nn.sigmoid(gate)


class Context(nn.Module):
    """Images to features at an eighth of the size: those of the second stage, and those from the way up."""

    config: FaceParserConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        width = self.config.context
        second, third, fourth = Resnet(self.config, name="resnet")(x)
        up = Gated(width, name="arm32")(fourth) + ConvNorm(width, 1, name="conv_avg")(_mean(fourth))
        up = ConvNorm(width, name="conv_head32")(_nearest(up, third))
        up = Gated(width, name="arm16")(third) + up
        return second, ConvNorm(width, name="conv_head16")(_nearest(up, second))


class Fusion(nn.Module):
    """Both features in one, some of whose channels count twice."""

    config: FaceParserConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        x = ConvNorm(c.fused, 1, name="convblk")(x)
        gate = Dilated(c.fused, name="conv2")(nn.relu(Dilated(c.squeezed, name="conv1")(_mean(x))))
        return x * nn.sigmoid(gate) + x


class Head(nn.Module):
    """Features to the classes' logits."""

    config: FaceParserConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Dilated(self.config.classes, name="conv_out")(ConvNorm(self.config.head, name="conv")(x))


class FaceParser(nn.Module):
    """RGB images [B, H, W, 3] in [-1, 1] to logits [B, H, W, classes]."""

    config: FaceParserConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size = x.shape[1:3]
        mean, std = (jnp.asarray(a, x.dtype)[None, None, None, :] for a in (MEAN, STD))
        second, up = Context(self.config, name="cp")((x / 2 + 0.5 - mean) / std)
        fused = Fusion(self.config, name="ffm")(jnp.concatenate([second, up], -1))
        return upsampled(Head(self.config, name="conv_out")(fused), *size)


def _mean(x: jax.Array) -> jax.Array:
    return x.mean((1, 2), keepdims=True)


def _nearest(x: jax.Array, like: jax.Array) -> jax.Array:
    """x at another size, each pixel the one of ⌊i · H / h⌋, as torch's nearest."""
    for axis in (1, 2):
        source, size = x.shape[axis], like.shape[axis]
        x = jnp.take(x, jnp.arange(size) * source // size, axis=axis)
    return x


@cache
def param_shapes(config: FaceParserConfig) -> dict[str, Any]:
    """Params tree of the network as ShapeDtypeStructs."""
    return initial_shapes(FaceParser(config), (1, 64, 64, 3))
