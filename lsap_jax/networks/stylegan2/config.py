"""Configuration of a StyleGAN2 generator, and its table of layers."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np

from lsap_jax.networks.bounds import Channels, Clamp, Count, Filter, Gain, Layers, Side, Widths, between
from lsap_jax.networks.layer_table import Layer, LayerTable, check_blocks
from lsap_jax.networks.layers import Activation


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(LayerTable):
    """Shape of a StyleGAN2 generator; everything that its weights do not determine.

    `channels[i]` is the number of feature channels at resolution 4·2^i. `resample_filter` holds normalised taps: 1-D
    for a separable filter, else nested tuples.
    """

    img_resolution: Side
    channels: Widths
    z_dim: Channels = 512
    c_dim: Count = 0
    w_dim: Channels = 512
    img_channels: Channels = 3
    mapping_layers: Layers = 8
    layer_features: Channels = 512
    embed_features: Count = 0
    mapping_lr_multiplier: Gain = 0.01
    w_avg_beta: Annotated[float, between(0, 1)] = 0.995
    architecture: Literal["skip", "resnet", "orig"] = "skip"
    resample_filter: Filter = (0.125, 0.375, 0.375, 0.125)
    conv_clamp: Clamp | None = None
    use_noise: bool = True
    activation: Activation = "lrelu"

    def __post_init__(self) -> None:
        check_blocks(self.img_resolution, self.channels)

    @property
    def filter(self) -> np.ndarray:
        return np.asarray(self.resample_filter, np.float64)

    def has_torgb(self, resolution: int) -> bool:
        return self.architecture == "skip" or resolution == self.img_resolution

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the order of StyleSpace: the convs and torgb of each block, lowest resolution first.

        A block's torgb shares its row with the first conv of the next block.
        """
        return _layers(self)

    @property
    def takes_base_code(self) -> bool:
        return self.architecture == "skip"


@lru_cache(maxsize=64)
def _layers(config: GeneratorConfig) -> tuple[Layer, ...]:
    found: list[Layer] = []
    row = 0
    for i, (resolution, width) in enumerate(zip(config.resolutions, config.channels, strict=True)):
        block = f"b{resolution}"
        widths = {"conv1": width} if i == 0 else {"conv0": config.channels[i - 1], "conv1": width}
        for part, styles in widths.items():
            found.append(_layer(block, part, "conv", row, styles, width, resolution))
            row += 1
        if config.has_torgb(resolution):
            found.append(_layer(block, "torgb", "torgb", row, width, config.img_channels, resolution))
    return tuple(found)


def _layer(
    block: str, part: str, kind: Literal["conv", "torgb"], row: int, width: int, channels: int, resolution: int
) -> Layer:
    return Layer(
        name=f"{block}.{part}",
        row=row,
        width=width,
        channels=channels,
        resolution=resolution,
        kind=kind,
        affine=(block, part, "affine"),
    )
