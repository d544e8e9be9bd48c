"""Latent encoder: an image to ws, in the architecture of IDInvert's domain-guided encoder (Zhu et al., ECCV 2020).

A convolution, residual blocks that each begin by halving the image, and at 4 px one dense layer to all rows of w+.
IDInvert normalises the dense layer's output by batch, for a generator whose w has unit variance; here it is not
normalised, and its bias starts at the mean w.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.bounds import Channels, Widths, between
from lsap_jax.networks.convolution import conv2d
from lsap_jax.networks.layers import FullyConnected

FINAL_RESOLUTION = 4


@dataclass(frozen=True, kw_only=True)
class LatentEncoderConfig:
    """Shape of an encoder; IDInvert's at 256 px has widths 64, 128, 256, 512, 1024, 1024, 1024.

    `widths`: channels of the first convolution and of every residual block; n blocks take images of 4·2^n px.
    """

    num_ws: Annotated[int, between(1, 64)]
    w_dim: Channels
    widths: Widths
    in_channels: Channels = 3

    @property
    def input_resolution(self) -> int:
        return FINAL_RESOLUTION * 2 ** (len(self.widths) - 1)


class ConvNormAct(nn.Module):
    """Convolution without bias, batch normalisation that learns only a shift, leaky ReLU 0.2."""

    features: int
    kernel_size: int = 3

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        k = self.kernel_size
        init = nn.initializers.variance_scaling(2 / 1.04, "fan_in", "normal")  # Kaiming's for a leaky ReLU of 0.2
        x = conv2d(x, self.param("kernel", init, (k, k, x.shape[-1], self.features)), 1, k // 2)
        norm = nn.BatchNorm(momentum=0.9, epsilon=1e-5, use_scale=False, name="norm")
        return nn.leaky_relu(norm(x, use_running_average=not train), 0.2)


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity, or beside a 1x1 convolution where the width changes."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        width = x.shape[-1]
        shortcut = x if width == self.features else ConvNormAct(self.features, 1, name="shortcut")(x, train)
        y = ConvNormAct(min(width, self.features), name="conv0")(x, train)
        return shortcut + ConvNormAct(self.features, name="conv1")(y, train)


class LatentEncoderNetwork(nn.Module):
    """Image in [-1, 1] to ws; `train` normalises by the batch and updates the running statistics."""

    config: LatentEncoderConfig

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [B, r, r, in_channels], r = `input_resolution`, to ws [B, num_ws, w_dim]."""
        cfg = self.config
        x = ConvNormAct(cfg.widths[0], name="first")(x, train)
        for i, width in enumerate(cfg.widths[1:]):
            x = ResidualBlock(width, name=f"block{i}")(nn.avg_pool(x, (2, 2), (2, 2)), train)
        ws = FullyConnected(cfg.num_ws * cfg.w_dim, name="last")(x.reshape(x.shape[0], -1))
        return ws.reshape(-1, cfg.num_ws, cfg.w_dim)


@partial(jax.jit, static_argnums=0)
def initial_variables(config: LatentEncoderConfig, rng: jax.Array, w_avg: jax.Array) -> dict[str, Any]:
    """{"params": ..., "batch_stats": ...} before training: every row begins around the mean w."""
    r = config.input_resolution
    variables = dict(LatentEncoderNetwork(config).init(rng, jnp.zeros((1, r, r, config.in_channels))))
    params = variables["params"]
    last = {**params["last"], "bias": jnp.tile(w_avg, config.num_ws)}
    return {**variables, "params": {**params, "last": last}}


def variable_shapes(config: LatentEncoderConfig) -> dict[str, Any]:
    """Variables tree of an encoder as ShapeDtypeStructs."""
    return jax.eval_shape(lambda: initial_variables(config, jax.random.key(0), jnp.zeros(config.w_dim)))
