"""The latent discriminator of e4e: codes w to logits, real ones from the mapping network, false ones from the encoder.

Params carry the names of the public files, `mlp.0.weight` to `mlp.6.bias`.

Reference: Tov et al., Designing an Encoder for StyleGAN Image Manipulation (arXiv 2102.02766), section 4.2.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.bounds import Channels
from lsap_jax.networks.layers import channelwise
from lsap_jax.networks.parameters import initial_shapes

HIDDEN = 3  # layers before the last one
SLOPE = 0.2


@dataclass(frozen=True, kw_only=True)
class LatentDiscriminatorConfig:
    """Shape of a latent discriminator, whose layers are as wide as w."""

    w_dim: Channels


class Linear(nn.Module):
    """Linear layer on [..., C]; params `weight` [C, width] and `bias`."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weight = self.param("weight", nn.initializers.he_normal(), (x.shape[-1], self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        return jnp.matmul(x, weight, precision=FULL) + channelwise(bias, x.ndim)


class Layers(nn.Module):
    """Linear layers as wide as w with leaky ReLUs between them; every other index is an activation."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for k in range(HIDDEN):
            x = nn.leaky_relu(Linear(x.shape[-1], name=str(2 * k))(x), SLOPE)
        return Linear(1, name=str(2 * HIDDEN))(x)


class LatentDiscriminator(nn.Module):
    """w [..., w_dim] to logits [...]."""

    @nn.compact
    def __call__(self, w: jax.Array) -> jax.Array:
        return Layers(name="mlp")(w)[..., 0]


@cache
def param_shapes(w_dim: int) -> dict[str, Any]:
    """Params tree of the network as ShapeDtypeStructs."""
    return initial_shapes(LatentDiscriminator(), (1, w_dim))
