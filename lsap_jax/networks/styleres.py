"""The networks of StyleRes: what an image has beyond its codes, as an addition to features of the generator.

    r = extraction(alignment([c, F]))     c: features of the encoder; F: of the generator for the image's own codes
    dF, g = gates(x, r)                   x: of the generator for the codes being rendered; it goes on with x + g · dF

Params carry the names of the authors' code without the block's: `modify_feature_alignment.conv2.0.res_layer.2.weight`
becomes `params["alignment"]["conv2"]["0"]["res_layer"]["2"]["weight"]`, in HWIO. The third pair of units in their
alignment's decoder, `dconv3`, is never called, and is not here.

Reference: Pehlivan, Dalva, Dundar, StyleRes: Transforming the Residuals for Real Image Editing with StyleGAN (CVPR
2023, arXiv 2212.14359), section 3.
"""

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.bounds import Channels, Count, Side, between
from lsap_jax.networks.inception import Conv, Kernel
from lsap_jax.networks.parameters import initial_shapes
from lsap_jax.networks.psp import BiasedConv, upsampled

SLOPE = 0.2  # of the units' leaky ReLUs


@dataclass(frozen=True, kw_only=True)
class StyleResConfig:
    """Shape of the networks.

    Attributes:
        resolution: pixels a side of the features that are added to, those of the first convolution of the block of that
            size; the encoder's features have as many.
        channels: of the generator's features.
        encoder_channels: of the encoder's features.
        tap: index of the encoder's unit that makes them.
        width: channels within, an even number; 0 is `channels`, as in the public files.
    """

    resolution: Side = 64
    channels: Channels = 512
    encoder_channels: Channels = 128
    tap: Annotated[int, between(0, 63)] = 6
    width: Count = 0

    def __post_init__(self) -> None:
        if self.inner % 2:
            raise ValueError(f"width {self.inner} is odd; half of it is for the features, half for the residuals")

    @property
    def inner(self) -> int:
        """Channels within."""
        return self.width or self.channels


class ResLayers(nn.Module):
    """Residual unit: two 3x3 convolutions with a leaky ReLU between, and nothing after the sum. The shortcut is a
    convolution where the shape changes.
    """

    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = Body(self.width, self.stride, name="res_layer")(x)
        if x.shape[-1] != self.width or self.stride > 1:
            x = Shortcut(self.width, self.stride, name="shortcut_layer")(x)
        return x + y


class Body(nn.Module):
    """The convolutions of a residual unit."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.leaky_relu(BiasedConv(self.width, 3, name="0")(x), SLOPE)
        return BiasedConv(self.width, 3, self.stride, name="2")(x)


class Shortcut(nn.Module):
    """Convolution of 1 x 1 without bias."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Kernel(Conv("0", self.width, stride=self.stride), name="0")(x)


class Units(nn.Module):
    """Residual units in a row: (width, stride) of each."""

    shapes: tuple[tuple[int, int], ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for k, (width, stride) in enumerate(self.shapes):
            x = ResLayers(width, stride, name=str(k))(x)
        return x


class Alignment(nn.Module):
    """[c, F] concatenated, [B, s, s, .], to [B, s, s, out]: two steps down and up again, with sums across."""

    width: int
    out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n = self.width
        same, down = (n, 1), (n, 2)
        x = BiasedConv(n, 1, name="first_layer")(x)
        fine = Units((same,), name="conv1")(x)
        middle = Units((down, same), name="conv2")(fine)
        x = Units((down, same), name="conv3")(middle)
        for name, beside in (("dconv1", middle), ("dconv2", fine)):
            x = Units((same, same), name=name)(upsampled(x, *beside.shape[1:3]) + beside)
        return BiasedConv(self.out, 1, name="out_layer")(x)


class Extraction(nn.Module):
    """Aligned features to the residuals, [B, s, s, width]."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = BiasedConv(self.width, 1, name="first_layer")(x)
        return Units(((self.width, 1),) * 3, name="convs")(x)


class Gates(nn.Module):
    """(x [B, s, s, channels], residuals [B, s, s, width]) to (dF like x, g [B, s, s, 1] in (0, 1))."""

    width: int
    channels: int

    @nn.compact
    def __call__(self, x: jax.Array, residuals: jax.Array) -> tuple[jax.Array, jax.Array]:
        n = self.width
        halves = [BiasedConv(n // 2, 3, name=name)(a) for name, a in (("down1", x), ("down2", residuals))]
        h = jnp.concatenate(halves, axis=-1)
        added = Units(((n, 1), (n, 1), (self.channels, 1)), name="convs")(h)
        gate = Units(((n, 1), (n, 1), (1, 1)), name="convs2")(h)
        return added, nn.sigmoid(gate)


class Residual(nn.Module):
    """(c [B, s, s, encoder_channels], F [B, s, s, channels]) to the residuals r [B, s, s, width]."""

    config: StyleResConfig

    @nn.compact
    def __call__(self, c: jax.Array, features: jax.Array) -> jax.Array:
        n = self.config.inner
        aligned = Alignment(n, n, name="alignment")(jnp.concatenate([c, features], axis=-1))
        return Extraction(n, name="extraction")(aligned)


@cache
def param_shapes(config: StyleResConfig) -> dict[str, Any]:
    """Params of `Residual`, and of `Gates` under "gates", as ShapeDtypeStructs."""
    side = config.resolution
    c, x, r = ((1, side, side, width) for width in (config.encoder_channels, config.channels, config.inner))
    gates = initial_shapes(Gates(config.inner, config.channels), x, r)
    return {**initial_shapes(Residual(config), c, x), "gates": gates}
