"""StyleGAN1's synthesis network: ws, or styles, to images.

A layer convolves, adds noise and bias, activates; these are its features, which can be changed and which a base code
replaces. Then they are normalised and styled (AdaIN) with the layer's own style.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from lsap_jax.networks.layer_table import Layer
from lsap_jax.networks.layers import FEATURES, SQRT2, bias_act, conv_weight
from lsap_jax.networks.resample import conv2d_resample, filter2d
from lsap_jax.networks.stylegan1.config import GeneratorConfig
from lsap_jax.networks.synthesis import SynthesisInputs, first_resolution, layer_noise, layer_styles, synthesis_inputs

BLUR = np.asarray([0.25, 0.5, 0.25])


def instance_norm(x: jax.Array, eps: float = 1e-8) -> jax.Array:
    """Features [B, H, W, C] with mean 0 and variance 1 over each channel of each image."""
    x = x - x.mean(axis=(1, 2), keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=(1, 2), keepdims=True) + eps)


def upsample_nearest(x: jax.Array) -> jax.Array:
    """[B, H, W, C] to [B, 2H, 2W, C]."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


class SynthesisLayer(nn.Module):
    """Convolution, noise, bias, activation, then AdaIN."""

    config: GeneratorConfig
    layer: Layer
    up: bool = False

    @nn.compact
    def __call__(self, x: jax.Array | None, inputs: SynthesisInputs, *, convolve: bool = True) -> jax.Array:
        """Styled features of the layer below to those of this one.

        Args:
            x: None where the synthesis starts: a transform makes the features.
            convolve: False of the lowest layer, which takes the learned constant as it is.
        """
        layer = self.layer
        if x is not None:
            x = self.features(x, inputs, convolve)
        x = inputs.output(layer.name, x)
        scale, shift = jnp.split(layer_styles(inputs, layer, bias_init=0.0)[:, None, None], 2, axis=-1)
        styled = instance_norm(x.astype(scale.dtype)) * (scale + 1) + shift
        return styled.astype(x.dtype)

    def features(self, x: jax.Array, inputs: SynthesisInputs, convolve: bool) -> jax.Array:
        channels = self.layer.channels
        if convolve:
            x = upsample_nearest(x) if self.up else x
            gain = SQRT2 / float(np.sqrt(9 * x.shape[-1]))
            x = conv2d_resample(x, conv_weight(self, x, channels, 3, gain=gain), padding=1)
            x = filter2d(x, BLUR) if self.up else x
        noise = layer_noise(self, self.config, self.layer, inputs, strengths=(channels,))
        x = x if noise is None else x + noise.astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        return bias_act(x, bias, "lrelu", gain=1.0)


class SynthesisBlock(nn.Module):
    """One resolution: conv0 (upsampling; of the constant in the lowest block) and conv1."""

    config: GeneratorConfig
    index: int

    @nn.compact
    def __call__(self, x: jax.Array | None, inputs: SynthesisInputs, *, starts: bool) -> jax.Array:
        """Styled features of the block below to those of this one; if it `starts`, a transform makes the features of
        its first layer.
        """
        cfg, i = self.config, self.index
        conv0, conv1 = (
            SynthesisLayer(config=cfg, layer=cfg.layers[2 * i + half], up=i > 0 and not half, name=f"conv{half}")
            for half in (0, 1)
        )
        if i == 0:
            const = self.param("const", nn.initializers.ones, (4, 4, cfg.channels[0]))
            x = jnp.broadcast_to(const[None], (inputs.batch_size, *const.shape))
        elif not starts and i >= len(cfg.channels) - inputs.half_blocks:
            assert x is not None
            x = x.astype(jnp.bfloat16)
        x = conv0(None if starts else x, inputs, convolve=i > 0)
        x = checkpoint_name(conv1(x, inputs), FEATURES)
        return inputs.passed_on(f"b{cfg.resolutions[i]}", x)


class Synthesis(nn.Module):
    """ws, or styles, to images."""

    config: GeneratorConfig

    @nn.compact
    def __call__(self, ws: jax.Array | None, **options: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Image [B, R, R, img_channels], unclipped, and every intermediate feature by name.

        Args:
            options: as of `synthesis_inputs`.
        """
        cfg = self.config
        inputs = synthesis_inputs(cfg, ws, **options)
        first = first_resolution(cfg, inputs.start)
        x = None
        for i, resolution in enumerate(cfg.resolutions):
            if resolution >= first:
                block = SynthesisBlock(config=cfg, index=i, name=f"b{resolution}")
                x = block(x, inputs, starts=resolution == first)
        assert x is not None
        weight = conv_weight(self, x, cfg.img_channels, 1, gain=float(1 / np.sqrt(x.shape[-1])))
        bias = self.param("bias", nn.initializers.zeros, (cfg.img_channels,))
        rgb = conv2d_resample(x, weight).astype(bias.dtype)  # images are never in bfloat16
        img = bias_act(rgb, bias, "tanh" if cfg.tanh else "linear")
        inputs.features[f"b{cfg.img_resolution}.img"] = img
        return img, inputs.features
