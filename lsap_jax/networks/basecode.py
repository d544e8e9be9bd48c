"""Base-code encoder E of F/Z+ and BDInvert: a small convolutional network from an image of 8s x 8s to a feature map of s x s.

Three stages of three convolutions, batch normalisation and leaky ReLU, each followed by 2x2 average pooling; one more such convolution and a linear one
(`stylegan_basecode_encoder` of BDInvert, arXiv 2307.08995 §3.2).
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Depth of the encoder in each resolution stage; the names of the params follow the indices of BDInvert's nn.Sequential.
STAGES = ((0, 3, 6), (10, 13, 16), (20, 23, 26))
LAST, OUTPUT = 30, 33


@dataclass(frozen=True, kw_only=True)
class BasecodeConfig:
    """`base_resolution` s: input [B, 8s, 8s, in_channels], output [B, s, s, out_channels]. Paper: s 16, widths (128, 256, 512), 512 out."""

    base_resolution: int
    out_channels: int
    widths: tuple[int, int, int] = (128, 256, 512)
    in_channels: int = 3

    @property
    def input_resolution(self) -> int:
        return 8 * self.base_resolution


class ConvNormAct(nn.Module):
    """3x3 convolution, batch normalisation, leaky ReLU 0.2."""

    features: int
    index: int

    def setup(self) -> None:
        self.conv = nn.Conv(
            self.features,
            (3, 3),
            padding=1,
            kernel_init=nn.initializers.variance_scaling(2 / 1.04, "fan_out", "normal"),
        )
        self.norm = nn.BatchNorm(momentum=0.9, epsilon=1e-5)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.leaky_relu(self.norm(self.conv(x), use_running_average=not train), 0.2)


class BasecodeNetwork(nn.Module):
    """Image in [-1, 1] to the base code f."""

    config: BasecodeConfig

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        cfg = self.config
        for width, indices in zip(cfg.widths, STAGES, strict=True):
            for i in indices:
                x = ConvNormAct(width, i, name=f"model{i}")(x, train)
            x = nn.avg_pool(x, (2, 2), (2, 2))
        x = ConvNormAct(cfg.widths[-1], LAST, name=f"model{LAST}")(x, train)
        return nn.Conv(cfg.out_channels, (3, 3), padding=1, name=f"model{OUTPUT}")(x)


def initial_variables(config: BasecodeConfig, rng: jax.Array) -> dict[str, Any]:
    """{"params": ..., "batch_stats": ...} before training."""
    r = config.input_resolution
    return dict(BasecodeNetwork(config).init(rng, jnp.zeros((1, r, r, config.in_channels))))
