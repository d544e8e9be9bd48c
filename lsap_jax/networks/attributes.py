"""Classifier of image labels: a small convolutional network with one linear head per label.

A 3x3 convolution and ReLU at the size of the image, and one of stride 2 per further width; every head reads the whole
last activation, since faces are aligned and positions matter. Images are not normalised, since labels include colours.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.bounds import Channels, Side, Text, Widths, length


@dataclass(frozen=True, kw_only=True)
class AttributesConfig:
    """Shape of a classifier.

    Attributes:
        labels: (name, values) of each label; an image has one value of each.
        resolution: pixels a side of its images.
        channels: of its images, 1 or 3.
        widths: channels of its convolutions, from the size of the image downward.
    """

    labels: Annotated[tuple[tuple[Text, tuple[Text, ...]], ...], length(1, 256)]
    resolution: Side = 64
    channels: Channels = 3
    widths: Widths = (16, 32, 64, 96, 128)


class AttributesNetwork(nn.Module):
    """Images [B, R, R, C] in [-1, 1] to logits {label: [B, number of values]}."""

    config: AttributesConfig

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        x = images
        for i, width in enumerate(self.config.widths):
            stride = 2 if i else 1
            x = nn.Conv(
                width, (3, 3), (stride, stride), padding=1, precision=FULL,
                kernel_init=nn.initializers.he_normal(), name=f"conv{i}",
            )(x)  # fmt: skip
            x = nn.relu(x)
        x = x.reshape(x.shape[0], -1)
        return {
            name: nn.Dense(len(values), precision=FULL, name=f"head_{name}")(x) for name, values in self.config.labels
        }


@partial(jax.jit, static_argnums=0)
def initial_params(config: AttributesConfig, rng: jax.Array) -> dict[str, Any]:
    """Params before training."""
    images = jnp.zeros((1, config.resolution, config.resolution, config.channels))
    return dict(AttributesNetwork(config).init(rng, images)["params"])


def param_shapes(config: AttributesConfig) -> dict[str, Any]:
    """Params tree of a classifier as ShapeDtypeStructs."""
    return jax.eval_shape(lambda: initial_params(config, jax.random.key(0)))
