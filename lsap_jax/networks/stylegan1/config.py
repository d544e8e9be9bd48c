"""Configuration of a StyleGAN1 generator, and its table of layers."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

from lsap_jax.networks.bounds import Channels, Count, Gain, Layers, Side, Widths, between
from lsap_jax.networks.layer_table import Layer, LayerTable, check_blocks


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(LayerTable):
    """Shape of a StyleGAN1 generator; everything that its weights do not determine.

    `channels[i]` is the number of feature channels at resolution 4·2^i.

    Attributes:
        repeat_w: whether the mapping makes one w for all rows; else it makes each row by itself (IDInvert's models).
        tanh: whether the image goes through tanh (IDInvert's models).
    """

    family: Literal["stylegan1"] = "stylegan1"
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
    repeat_w: bool = True
    tanh: bool = False
    use_noise: bool = True

    def __post_init__(self) -> None:
        check_blocks(self.img_resolution, self.channels)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Two per block, lowest resolution first; the first one makes its features of the learned constant."""
        return _layers(self)


@lru_cache(maxsize=64)
def _layers(config: GeneratorConfig) -> tuple[Layer, ...]:
    return tuple(
        Layer(
            name=f"b{resolution}.conv{half}",
            row=2 * i + half,
            width=2 * width,  # a scale and a shift for each channel
            channels=width,
            resolution=resolution,
            kind="conv",
            affine=(f"b{resolution}", f"conv{half}", "affine"),
            styles_features=True,
        )
        for i, (resolution, width) in enumerate(zip(config.resolutions, config.channels, strict=True))
        for half in (0, 1)
    )
