"""Base-code encoder E of F/Z+ and BDInvert: a small convolutional network from an image of 8s x 8s to a feature map of
s x s.

Three stages of three convolutions, batch normalisation and leaky ReLU, each followed by 2x2 average pooling; one more
such convolution and a plain one (BDInvert's encoder, used as E in arXiv 2307.08995 §3.2).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.bounds import Channels, Side
from lsap_jax.networks.parameters import Layout, flat, from_canonical

# Convolutions of each stage, the last with normalisation, and the plain one: their places in BDInvert's nn.Sequential.
STAGES = ((0, 3, 6), (10, 13, 16), (20, 23, 26))
LAST, OUTPUT = 30, 33


@dataclass(frozen=True, kw_only=True)
class BasecodeConfig:
    """Shape of an encoder; the defaults are the paper's, whose s is 16 and whose out_channels are 512.

    `base_resolution` s: input [B, 8s, 8s, in_channels], output [B, s, s, out_channels].
    """

    base_resolution: Side
    out_channels: Channels
    widths: tuple[Channels, Channels, Channels] = (128, 256, 512)
    in_channels: Channels = 3

    @property
    def input_resolution(self) -> int:
        return 8 * self.base_resolution


class ConvNormAct(nn.Module):
    """3x3 convolution, batch normalisation, leaky ReLU 0.2."""

    features: int

    def setup(self) -> None:
        # Kaiming's variance for a leaky ReLU of 0.2, by fan-out, as BDInvert starts.
        init = nn.initializers.variance_scaling(2 / 1.04, "fan_out", "normal")
        self.conv = nn.Conv(self.features, (3, 3), padding=1, kernel_init=init, precision=FULL)
        self.norm = nn.BatchNorm(momentum=0.9, epsilon=1e-5)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.leaky_relu(self.norm(self.conv(x), use_running_average=not train), 0.2)


class BasecodeNetwork(nn.Module):
    """Image in [-1, 1] to the base code f; `train` normalises by the batch and updates the running statistics."""

    config: BasecodeConfig

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        cfg = self.config
        for width, places in zip(cfg.widths, STAGES, strict=True):
            for i in places:
                x = ConvNormAct(width, name=f"model{i}")(x, train)
            x = nn.avg_pool(x, (2, 2), (2, 2))
        x = ConvNormAct(cfg.widths[-1], name=f"model{LAST}")(x, train)
        return nn.Conv(cfg.out_channels, (3, 3), padding=1, precision=FULL, name=f"model{OUTPUT}")(x)


@partial(jax.jit, static_argnums=0)
def initial_variables(config: BasecodeConfig, rng: jax.Array) -> dict[str, Any]:
    """{"params": ..., "batch_stats": ...} before training."""
    x = jnp.zeros((1, 8, 8, config.in_channels))  # fully convolutional: any size makes the same variables
    return dict(BasecodeNetwork(config).init(rng, x))


def variable_shapes(config: BasecodeConfig) -> dict[str, Any]:
    """Variables tree of an encoder as ShapeDtypeStructs."""
    return jax.eval_shape(lambda: initial_variables(config, jax.random.key(0)))


_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def canonical_name(path: tuple[str, ...]) -> str:
    """Path of a variable to its name "model.{place}.{tensor}" in BDInvert's state dict."""
    place = int(path[1].removeprefix("model"))
    if "norm" in path:
        return f"model.{place + 1}.{_NORM[path[-1]]}"
    return f"model.{place}.{'weight' if path[-1] == 'kernel' else 'bias'}"


LAYOUT = Layout(canonical_name, from_canonical)


def canonical_arrays(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Variables as arrays of `LAYOUT` (convolutions OIHW): the inverse of `merge`."""
    arrays = flat(variables, LAYOUT)
    return {name: a.transpose(3, 2, 0, 1) if a.ndim == 4 else a for name, a in arrays.items()}
