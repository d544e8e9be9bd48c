"""SAM's invertibility network: for every pixel of an image, how badly each latent would reconstruct it.

DeepLabv3+ on a dilated ResNet, and a head of two layers for each latent: the codes, "W+", and the offsets of the
features of blocks, "F4" for that of 16 px, "F6" of 32 px, …. Params carry the names of the public file, the heads under
`heads`: `backbone.layer4.0.conv2.weight` is `params["backbone"]["layer4"]["0"]["conv2"]["weight"]`, in HWIO; the first
layer of a head, transposed there, is a plain convolution here.

References: Parmar et al., Spatially-Adaptive Multilayer Selection for GAN Inversion and Editing (arXiv 2206.08357),
section 3.1; Chen et al., Encoder-Decoder with Atrous Separable Convolution (DeepLabv3+, arXiv 1802.02611).
"""

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.arithmetic import precision
from lsap_jax.networks.bounds import Channels, Side, between, length
from lsap_jax.networks.irse import Norm
from lsap_jax.networks.parameters import initial_shapes
from lsap_jax.networks.psp import upsampled

EXPANSION = 4  # of a bottleneck
Rate = Annotated[int, between(1, 256)]
# A row of bottlenecks: their width, their number, the stride of the first one, and the dilation of each or of all.
Stage = tuple[Channels, Annotated[int, between(1, 64)], Annotated[int, between(1, 2)], tuple[Rate, ...]]


@dataclass(frozen=True, kw_only=True)
class InvertibilityConfig:
    """Shape of the network; by default that of the public ones.

    Attributes:
        in_channels: of the images.
        resolutions: of the blocks whose features are offset, ascending: one head each, besides that of the codes.
        input_resolution: px a side of images as the network is trained with them; it takes any.
        kernel: of the first layer, which halves the sides.
        pooled: whether a pooling layer halves them again.
        stem, stages: widths of the ResNet.
        rates: dilations of the pyramid behind it, whose branches have `pyramid` channels.
        low: channels that the decoder takes from the first stage.
        decoder, features: widths of the decoder and of its last layer, which the heads read.
        head: width of a head's first layer.
    """

    in_channels: Annotated[int, between(1, 4)] = 3
    resolutions: Annotated[tuple[Side, ...], length(1, 12)] = (16, 32, 64, 128)
    input_resolution: Side = 256
    kernel: Annotated[int, between(1, 15)] = 7
    pooled: bool = True
    stem: Channels = 64
    stages: Annotated[tuple[Stage, ...], length(1, 8)] = (
        (64, 3, 1, (1,)), (128, 4, 2, (1,)), (256, 23, 2, (1,)), (512, 3, 1, (2, 4, 8)),
    )  # fmt: skip
    rates: Annotated[tuple[Rate, ...], length(1, 8)] = (1, 6, 12, 18)
    pyramid: Channels = 256
    low: Channels = 48
    decoder: Channels = 256
    features: Channels = 8
    head: Channels = 4

    def __post_init__(self) -> None:
        if wrong := [stage for stage in self.stages if len(stage[3]) not in (1, stage[1])]:
            raise ValueError(f"a stage of {wrong[0][1]} units has {len(wrong[0][3])} dilations; give 1, or one each")
        if list(self.resolutions) != sorted(set(self.resolutions)):
            raise ValueError(f"resolutions are {self.resolutions}, they ascend")

    @property
    def latents(self) -> tuple[str, ...]:
        """Names of the heads, the most editable latent first."""
        return ("W+", *(latent_name(r) for r in self.resolutions))


def latent_name(resolution: int) -> str:
    """ "F4" of 16 px, as the authors number the layers: two for each block."""
    return f"F{2 * (resolution.bit_length() - 3)}"


class Dilated(nn.Module):
    """Convolution that keeps the size where its stride is 1; params `weight` (HWIO) and, if it has one, `bias`."""

    width: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    biased: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        k, stride, dilation = self.kernel, (self.stride,) * 2, (self.dilation,) * 2
        weight = self.param("weight", nn.initializers.he_normal(), (k, k, x.shape[-1], self.width))
        y = jax.lax.conv_general_dilated(
            x, weight, stride, [((k - 1) // 2 * self.dilation,) * 2] * 2, rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=precision(),
        )  # fmt: skip
        if self.biased:
            y = y + self.param("bias", nn.initializers.zeros, (self.width,))[None, None, None, :]
        return y


class Bottleneck(nn.Module):
    """1 x 1, dilated 3 x 3, 1 x 1, each with a norm; the shortcut is a convolution in the first one of a stage."""

    width: int
    stride: int
    dilation: int
    first: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.relu(Norm(name="bn1")(Dilated(self.width, name="conv1")(x)))
        y = nn.relu(Norm(name="bn2")(Dilated(self.width, 3, self.stride, self.dilation, name="conv2")(y)))
        y = Norm(name="bn3")(Dilated(EXPANSION * self.width, name="conv3")(y))
        return nn.relu((Shortcut(EXPANSION * self.width, self.stride, name="downsample")(x) if self.first else x) + y)


class Shortcut(nn.Module):
    """1 x 1 convolution with the stride, and norm."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Norm(name="1")(Dilated(self.width, stride=self.stride, name="0")(x))


class Units(nn.Module):
    """The bottlenecks of a stage."""

    stage: tuple[int, int, int, tuple[int, ...]]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width, count, stride, dilations = self.stage
        for k in range(count):
            dilation = dilations[k % len(dilations)]
            x = Bottleneck(width, stride if k == 0 else 1, dilation, k == 0, name=str(k))(x)
        return x


class Backbone(nn.Module):
    """Images to the features of the first stage and of the last one."""

    config: InvertibilityConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        c = self.config
        x = nn.relu(Norm(name="bn1")(Dilated(c.stem, c.kernel, 2, name="conv1")(x)))
        if c.pooled:
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        found = []
        for k, stage in enumerate(c.stages):
            x = Units(stage, name=f"layer{k + 1}")(x)
            found.append(x)
        return found[0], x


class Branch(nn.Module):
    """A dilated convolution of the pyramid, 1 x 1 without dilation, and a norm."""

    width: int
    dilation: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = 1 if self.dilation == 1 else 3
        return nn.relu(Norm(name="bn")(Dilated(self.width, kernel, dilation=self.dilation, name="atrous_conv")(x)))


class Mean(nn.Module):
    """The mean of all features, through a convolution and a norm."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.relu(Norm(name="2")(Dilated(self.width, name="1")(x.mean((1, 2), keepdims=True))))


class Pyramid(nn.Module):
    """Dilated convolutions side by side, and the mean, in one layer."""

    config: InvertibilityConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        found = [Branch(c.pyramid, rate, name=f"aspp{k + 1}")(x) for k, rate in enumerate(c.rates)]
        mean = Mean(c.pyramid, name="global_avg_pool")(x)
        found.append(jnp.broadcast_to(mean, found[0].shape))
        x = nn.relu(Norm(name="bn1")(Dilated(c.pyramid, name="conv1")(jnp.concatenate(found, -1))))
        return _dropped(x, 0.5, self)


class Last(nn.Module):
    """The decoder's last three convolutions."""

    config: InvertibilityConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for index, rate in ((0, 0.5), (4, 0.1)):
            x = nn.relu(Norm(name=f"{index + 1}")(Dilated(self.config.decoder, 3, name=f"{index}")(x)))
            x = _dropped(x, rate, self)
        return Dilated(self.config.features, biased=True, name="8")(x)


class Decoder(nn.Module):
    """Features of the pyramid, enlarged, beside those of the first stage."""

    config: InvertibilityConfig

    @nn.compact
    def __call__(self, x: jax.Array, low: jax.Array) -> jax.Array:
        low = nn.relu(Norm(name="bn1")(Dilated(self.config.low, name="conv1")(low)))
        x = jnp.concatenate([upsampled(x, *low.shape[1:3]), low], -1)
        return Last(self.config, name="last_conv")(x)


class Head(nn.Module):
    """A latent's map from the decoder's features, 0 or more everywhere."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Norm(name="1")(Dilated(self.width, 3, biased=True, name="0")(x))
        return nn.relu(Dilated(1, biased=True, name="3")(nn.leaky_relu(x, 0.2)))


class Wrapped(nn.Module):
    """A head under the name that it has in the public file."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Head(self.width, name="m")(x)


class Heads(nn.Module):
    """Maps of all latents, side by side."""

    config: InvertibilityConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.concatenate([Wrapped(self.config.head, name=name)(x) for name in self.config.latents], -1)


class Invertibility(nn.Module):
    """Images [B, H, W, C] in [-1, 1] to maps [B, H, W, latents] of the predicted perceptual distance.

    The layers that trainings drop at random are dropped where `apply` is given an rng "dropout".
    """

    config: InvertibilityConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c, size = self.config, x.shape[1:3]
        low, features = Backbone(c, name="backbone")(x)
        features = Decoder(c, name="decoder")(Pyramid(c, name="aspp")(features), low)
        return Heads(c, name="heads")(upsampled(features, *size))


def _dropped(x: jax.Array, rate: float, module: nn.Module) -> jax.Array:
    """x with whole numbers dropped, where there is an rng for it."""
    if not module.has_rng("dropout"):
        return x
    kept = jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0)


@cache
def param_shapes(config: InvertibilityConfig) -> dict[str, Any]:
    """Params tree of the network as ShapeDtypeStructs."""
    side = config.input_resolution
    return initial_shapes(Invertibility(config), (1, side, side, config.in_channels))
