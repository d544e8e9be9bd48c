"""HFGI's two networks, which bring into an image what its codes lost.

The consultation encoder makes a scale and a shift of a layer's features from a map of lost details; the aligner
("adaptive distortion alignment") first moves these details to where the image being made has its own, so that an edit
takes them along. Params carry the names of the public file: `residue.conv_layer2.0.res_layer.1.weight` is
`params["residue"]["conv_layer2"]["0"]["res_layer"]["1"]["weight"]`, in HWIO, and `grid_align` is the aligner.

References: Wang et al., High-Fidelity GAN Inversion for Image Attribute Editing (arXiv 2109.06590), sections 3.2, 3.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.bounds import Channels, Side, between, length
from lsap_jax.networks.irse import Body, InputLayer, Unit
from lsap_jax.networks.layers import Conv2d
from lsap_jax.networks.parameters import initial_shapes
from lsap_jax.networks.pixel_maps import bilinear

# A row of residual units: their width, the stride of the first one, and their number.
Stage = tuple[Channels, Annotated[int, between(1, 2)], Annotated[int, between(1, 16)]]
Stages = Annotated[tuple[Stage, ...], length(1, 8)]
Rise = Annotated[tuple[Channels, ...], length(1, 16)]


@dataclass(frozen=True, kw_only=True)
class HfgiConfig:
    """Shape of both networks; by default that of the public ones, for StyleGAN2 from 256 px on.

    Attributes:
        resolution: of the block whose first convolution is scaled and shifted.
        channels: number of its features.
        in_channels: of the images.
        input_resolution: px a side of the maps of details, and of the images that guide their alignment.
        stem, stages: widths of the consultation encoder, whose heads have a layer of `head_width` channels.
        aligner_stem, aligner_stages: those of the aligner on its way down; `rises` are the widths of its units on the
            way up, where the features of each stage before are put beside.
        filter: by which targets are resized. The originals' is "bilinear"; files that do not say it have "lanczos".
    """

    resolution: Side = 64
    channels: Channels = 512
    in_channels: Annotated[int, between(1, 4)] = 3
    input_resolution: Side = 256
    stem: Channels = 32
    stages: Stages = ((48, 2, 3), (64, 2, 3))
    head_width: Channels = 512
    aligner_stem: Channels = 16
    aligner_stages: Stages = ((32, 2, 3), (48, 2, 3), (64, 2, 3))
    rises: Annotated[tuple[Rise, ...], length(1, 8)] = ((64, 32, 32), (32, 16, 16), (16, 3, 3))
    filter: Literal["lanczos", "bilinear"] = "lanczos"

    def __post_init__(self) -> None:
        if len(self.rises) != len(self.aligner_stages):
            raise ValueError(f"the aligner goes down {len(self.aligner_stages)} times and up {len(self.rises)} times")
        if self.rises[-1][-1] != self.in_channels:
            raise ValueError(f"the aligner makes {self.rises[-1][-1]} channels of images with {self.in_channels}")


def _body(widths: Sequence[int], stride: int, name: str) -> Body:
    """Residual units of these widths, the first one with the stride."""
    return Body(tuple(Unit(width, 1 if k else stride) for k, width in enumerate(widths)), excited=False, name=name)


def _stage(stage: tuple[int, int, int], name: str) -> Body:
    width, stride, count = stage
    return _body((width,) * count, stride, name)


class Condition(nn.Module):
    """Head of the consultation encoder: two equalised convolutions."""

    head_width: int
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return Conv2d(self.width, 3, name="2")(Conv2d(self.head_width, 3, activation="lrelu", name="0")(x))


class Consultation(nn.Module):
    """Details [B, r, r, in_channels] to a scale and a shift of features, [B, s, s, channels] each."""

    config: HfgiConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        c = self.config
        x = InputLayer(c.stem, name="conv_layer1")(x)
        for k, stage in enumerate(c.stages):
            x = _stage(stage, f"conv_layer{k + 2}")(x)[-1]
        scale, shift = (
            bilinear(Condition(c.head_width, c.channels, name=name)(x), (c.resolution, c.resolution))
            for name in ("condition_scale3", "condition_shift3")
        )
        return scale, shift


class Aligner(nn.Module):
    """Details beside the image that they are aligned with, [B, r, r, 2 · in_channels], to details."""

    config: HfgiConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        found = [InputLayer(c.aligner_stem, name="conv_layer1")(x)]
        for k, stage in enumerate(c.aligner_stages):
            found.append(_stage(stage, f"conv_layer{k + 2}")(found[-1])[-1])
        x = found.pop()
        for k, widths in enumerate(c.rises):
            beside = found.pop()
            x = jnp.concatenate([bilinear(x, beside.shape[1:3]), beside], axis=-1)  # type: ignore[arg-type]
            x = _body(widths, 1, f"dconv_layer{k + 1}")(x)[-1]
        return x


@cache
def param_shapes(config: HfgiConfig) -> dict[str, Any]:
    """Params tree of both networks as ShapeDtypeStructs."""
    side, channels = config.input_resolution, config.in_channels
    residue = initial_shapes(Consultation(config), (1, side, side, channels))
    return {"residue": residue, "grid_align": initial_shapes(Aligner(config), (1, side, side, 2 * channels))}
