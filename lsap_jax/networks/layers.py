"""Layers of StyleGAN2 (Karras et al., CVPR 2020): bias_act, equalised dense layers, modulated convolution.

Images and features are [B, H, W, C], convolution weights [kh, kw, Cin, Cout], dense weights [in, out]. Weights are
stored unscaled; the equalised learning rate multiplies them at run time, as in the checkpoints.
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.networks import frozen
from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.convolution import Kernel
from lsap_jax.networks.frozen import Dense
from lsap_jax.networks.resample import conv2d_resample

SQRT2 = float(np.sqrt(2))
FEATURES = "features"  # name of the arrays that rematerialisation keeps: the output of every block

Activation = Literal["linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"]
# name -> (function of (x, alpha), default alpha, default gain), the table of `bias_act`
ACTIVATIONS: dict[str, tuple[Callable, float, float]] = {
    "linear": (lambda x, a: x, 0.0, 1.0),
    "relu": (lambda x, a: jax.nn.relu(x), 0.0, SQRT2),
    "lrelu": (lambda x, a: jnp.where(x >= 0, x, x * a), 0.2, SQRT2),
    "tanh": (lambda x, a: jnp.tanh(x), 0.0, 1.0),
    "sigmoid": (lambda x, a: jax.nn.sigmoid(x), 0.0, 1.0),
    "elu": (lambda x, a: jax.nn.elu(x), 0.0, 1.0),
    "selu": (lambda x, a: jax.nn.selu(x), 0.0, 1.0),
    "softplus": (lambda x, a: jax.nn.softplus(x), 0.0, 1.0),
    "swish": (lambda x, a: jax.nn.sigmoid(x) * x, 0.0, SQRT2),
}


def channelwise(v: jax.Array, ndim: int) -> jax.Array:
    """[C] as [1, ..., 1, C], so that nothing is promoted silently."""
    return v.reshape((1,) * (ndim - 1) + (-1,))


def scale_channels(x: jax.Array, s: jax.Array) -> jax.Array:
    """Features x [B, H, W, C] times s [B, C], in the precision of x; the gradient to s is summed in that of s."""
    return (x * s[:, None, None, :]).astype(x.dtype)


def bias_act(
    x: jax.Array,
    b: jax.Array | None = None,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> jax.Array:
    """Add bias, activate, scale by gain, clamp to ±clamp: in this order, so the clamp bounds the scaled value.

    Args:
        x: [..., C].
        b: [C] or None.
        act: a key of `ACTIVATIONS`; alpha and gain default to that activation's.
    """
    function, default_alpha, default_gain = ACTIVATIONS[act]
    alpha = default_alpha if alpha is None else alpha
    gain = default_gain if gain is None else gain
    if b is not None:
        x = x + channelwise(b, x.ndim).astype(x.dtype)
    x = function(x, alpha)
    if gain != 1:
        x = x * gain
    return x if clamp is None else jnp.clip(x, -clamp, clamp)


def normalize_2nd_moment(x: jax.Array, eps: float = 1e-8) -> jax.Array:
    """x / sqrt(mean(x²) + eps) over the last axis: onto the sphere of radius √dim (StyleGAN's pixel norm)."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + eps)


class FullyConnected(nn.Module):
    """Equalised dense layer: gain · act(x · W · weight_gain · lr/√in + b · lr); gain defaults to the activation's."""

    features: int
    activation: str = "linear"
    lr_multiplier: float = 1.0
    bias_init: float = 0.0
    weight_gain: float = 1.0
    gain: float | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = x.shape[-1]
        init = nn.initializers.normal(1.0 / self.lr_multiplier)
        gain = self.weight_gain * self.lr_multiplier / np.sqrt(fan_in)
        weight = frozen.weight(self, init, (fan_in, self.features), lambda w: w * gain, Dense)
        bias = self.param("bias", nn.initializers.constant(self.bias_init), (self.features,))
        weight = weight.weight if isinstance(weight, Dense) else weight
        x = jnp.matmul(x, weight.astype(x.dtype), precision=FULL)
        return bias_act(x, bias * self.lr_multiplier, self.activation, gain=self.gain)


def conv_weight(
    module: nn.Module,
    features: jax.Array,
    width: int,
    k: int,
    *,
    gain: float = 1.0,
    up: int = 1,
    down: int = 1,
    demodulated: bool = False,
) -> jax.Array | Kernel:
    """Weight [k, k, C, width] of a convolution over features [B, H, W, C]: a param times gain, or frozen for
    `conv2d_resample` with flip_weight = (up == 1) and the features' precision, and for demodulation if that follows.
    """
    shape, side, dtype = (k, k, features.shape[-1], width), features.shape[1], features.dtype

    def make(w: jax.Array) -> Kernel:
        turned, strided = w[::-1, ::-1] if up > 1 else w, up > 1 or down > 1
        return Kernel.of(turned, side, strided, demodulated).astype(dtype)

    init = nn.initializers.normal(1.0)
    return frozen.weight(module, init, shape, lambda w: w if gain == 1 else w * gain, make)


def modulated_conv2d(
    x: jax.Array,
    weight: jax.Array | Kernel,
    styles: jax.Array,
    *,
    noise: jax.Array | None = None,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    resample_filter: np.ndarray | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
) -> jax.Array:
    """Modulated convolution with one shared weight: scale the inputs, convolve, scale the outputs.

    conv(x, w · s) with demodulation equals conv(x · s, w) · rsqrt(Σ (w · s)² + 1e-8), and Σ (w · s)² = s² · Σ_kk w²:
    no weights per sample, no grouped convolution (StyleGAN2, §2.2).

    Args:
        x: [B, H, W, Cin].
        weight: [kh, kw, Cin, Cout], without the equalised scale (demodulation cancels it).
        styles: [B, Cin].
        noise: [B | 1, H', W', 1] added to the result, or None.
    """
    x = scale_channels(x, styles)
    x = conv2d_resample(x, weight, resample_filter, up=up, down=down, padding=padding, flip_weight=flip_weight)
    if demodulate:
        powers = weight.energy if isinstance(weight, Kernel) else jnp.sum(jnp.square(weight), axis=(0, 1))
        assert powers is not None, "the kernel was not made for demodulation"
        energy = jnp.matmul(jnp.square(styles), powers, precision=FULL)
        x = scale_channels(x, jax.lax.rsqrt(energy + 1e-8))
    return x if noise is None else x + noise.astype(x.dtype)


class Conv2d(nn.Module):
    """Equalised convolution of the discriminator and of residual skips: weight · 1/√(Cin·k²), optional resampling,
    bias_act.
    """

    features: int
    kernel_size: int
    use_bias: bool = True
    activation: str = "linear"
    up: int = 1
    down: int = 1
    resample_filter: tuple = (0.125, 0.375, 0.375, 0.125)
    conv_clamp: float | None = None

    @nn.compact
    def __call__(self, x: jax.Array, gain: float = 1.0) -> jax.Array:
        k, fan_in = self.kernel_size, x.shape[-1]
        equalised = float(1 / np.sqrt(fan_in * k * k))
        weight = conv_weight(self, x, self.features, k, gain=equalised, up=self.up, down=self.down)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else None
        f = np.asarray(self.resample_filter) if self.up > 1 or self.down > 1 else None
        x = conv2d_resample(x, weight, f, up=self.up, down=self.down, padding=k // 2, flip_weight=self.up == 1)
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        return bias_act(x, bias, self.activation, gain=ACTIVATIONS[self.activation][2] * gain, clamp=clamp)
