"""IDInvert's domain-guided encoder as its authors released it: images to ws, with batch norm after every layer.

A convolution, residual blocks that each begin by halving the image, and at 4 px one dense layer to all rows of w+,
whose output is normalised, too: the mean of w is in its shift. Its shape is described as that of `latent_encoder`, the
encoder for generators of any statistics of w. Params are named as `convert_weights.idinvert` names them.

Reference: Zhu et al., In-Domain GAN Inversion for Real Image Editing (ECCV 2020, arXiv 2004.00049).
"""

from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.inception import Conv, Kernel
from lsap_jax.networks.irse import Norm
from lsap_jax.networks.latent_encoder import LatentEncoderConfig
from lsap_jax.networks.parameters import initial_shapes
from lsap_jax.networks.psp import BiasedConv

SLOPE = 0.2  # of the leaky ReLUs


class Block(nn.Module):
    """Two convolutions beside the identity, or beside a 1x1 convolution where the width changes."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        shortcut = x if width == self.features else _active(Norm(name="bn")(_conv("conv", self.features, 1)(x)))
        y = _active(Norm(name="bn1")(BiasedConv(min(width, self.features), 3, name="conv1")(x)))
        return shortcut + _active(Norm(name="bn2")(BiasedConv(self.features, 3, name="conv2")(y)))


class First(nn.Module):
    """The convolution of the image."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return _active(Norm(name="bn")(_conv("conv", self.features, 3)(x)))


class Dense(nn.Module):
    """All features of an image to numbers, scaled by 1/√inputs, and normalised."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)  # torch flattens channel by channel
        return Norm(name="bn")(Weight(self.features, name="fc")(x / np.float32(np.sqrt(x.shape[-1]))))


class Weight(nn.Module):
    """A matrix [in, out]."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weight = self.param("weight", nn.initializers.normal(1.0), (x.shape[-1], self.features))
        return jnp.matmul(x, weight, precision=FULL)


class IdinvertNetwork(nn.Module):
    """Images [B, r, r, in_channels] in [-1, 1], r = `config.input_resolution`, to ws [B, num_ws, w_dim]."""

    config: LatentEncoderConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        x = First(c.widths[0], name="block0")(x)
        for k, width in enumerate(c.widths[1:], 1):
            x = Block(width, name=f"block{k}")(nn.avg_pool(x, (2, 2), (2, 2)))
        ws = Dense(c.num_ws * c.w_dim, name=f"block{len(c.widths)}")(x)
        return ws.reshape(-1, c.num_ws, c.w_dim)


def _conv(name: str, features: int, kernel: int) -> Kernel:
    return Kernel(Conv(name, features, (kernel, kernel)), name=name)


def _active(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, SLOPE)


@cache
def param_shapes(config: LatentEncoderConfig) -> dict[str, Any]:
    """Params tree of the network as ShapeDtypeStructs."""
    side = config.input_resolution
    return initial_shapes(IdinvertNetwork(config), (1, side, side, config.in_channels))
