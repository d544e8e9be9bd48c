"""StyleGAN2's synthesis network: ws, or styles, to images."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from lsap_jax.networks.layer_table import Layer
from lsap_jax.networks.layers import ACTIVATIONS, FEATURES, Conv2d, bias_act, conv_weight, modulated_conv2d
from lsap_jax.networks.resample import upsample2d
from lsap_jax.networks.stylegan2.config import GeneratorConfig
from lsap_jax.networks.synthesis import SynthesisInputs, first_resolution, layer_noise, layer_styles, synthesis_inputs

SQRT_HALF = float(np.sqrt(0.5))


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, activation: conv0 (upsampling) and conv1 of a block."""

    config: GeneratorConfig
    layer: Layer
    up: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, inputs: SynthesisInputs, gain: float = 1.0) -> jax.Array:
        cfg, features = self.config, self.layer.channels
        styles = layer_styles(inputs, self.layer, bias_init=1.0)
        weight = conv_weight(self, x, features, 3, up=self.up, demodulated=True)
        bias = self.param("bias", nn.initializers.zeros, (features,))
        x = modulated_conv2d(
            x,
            weight,
            styles,
            noise=layer_noise(self, cfg, self.layer, inputs, strengths=()),
            up=self.up,
            padding=1,
            resample_filter=cfg.filter if self.up > 1 else None,
            flip_weight=self.up == 1,
        )
        clamp = None if cfg.conv_clamp is None else cfg.conv_clamp * gain
        x = bias_act(x, bias, cfg.activation, gain=ACTIVATIONS[cfg.activation][2] * gain, clamp=clamp)
        return inputs.output(self.layer.name, x)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to the image, without demodulation or noise; clamped before it is added to the skip
    image.
    """

    config: GeneratorConfig
    layer: Layer

    @nn.compact
    def __call__(self, x: jax.Array, inputs: SynthesisInputs) -> jax.Array:
        cfg = self.config
        styles = layer_styles(inputs, self.layer, bias_init=1.0) * float(1 / np.sqrt(self.layer.width))
        weight = conv_weight(self, x, cfg.img_channels, 1)
        bias = self.param("bias", nn.initializers.zeros, (cfg.img_channels,))
        x = modulated_conv2d(x, weight, styles, demodulate=False)
        x = bias_act(x, bias, clamp=cfg.conv_clamp).astype(styles.dtype)  # images are never added up in bfloat16
        return inputs.output(self.layer.name, x)


class SynthesisBlock(nn.Module):
    """One resolution: [conv0 (up)], conv1, [torgb], in the skip, resnet or orig arrangement."""

    config: GeneratorConfig
    index: int

    @nn.compact
    def __call__(
        self, x: jax.Array | None, img: jax.Array | None, inputs: SynthesisInputs, *, starts: bool = False
    ) -> tuple[jax.Array, jax.Array | None]:
        """Features and image of the block below to those of this one; if it `starts`, a transform replaces the output
        of its first conv, and the computation begins there.
        """
        cfg = self.config
        resolution, width = cfg.resolutions[self.index], cfg.channels[self.index]
        name = f"b{resolution}"
        conv1 = SynthesisLayer(config=cfg, layer=cfg.layer[f"{name}.conv1"], name="conv1")
        if self.index == 0:
            const = self.param("const", nn.initializers.normal(1.0), (4, 4, width))
            if starts:
                x = inputs.output(f"{name}.conv1", None)
            else:
                x = conv1(jnp.broadcast_to(const[None], (inputs.batch_size, *const.shape)), inputs)
        elif starts:
            x = conv1(inputs.output(f"{name}.conv0", None), inputs)
        else:
            assert x is not None
            conv0 = SynthesisLayer(config=cfg, layer=cfg.layer[f"{name}.conv0"], name="conv0", up=2)
            resnet = cfg.architecture == "resnet"
            if self.index >= len(cfg.channels) - inputs.half_blocks:
                x = x.astype(jnp.bfloat16)
            skip = None
            if resnet:
                skip = Conv2d(width, 1, use_bias=False, up=2, resample_filter=cfg.resample_filter, name="skip")(
                    x, gain=SQRT_HALF
                )
            x = conv1(conv0(x, inputs), inputs, gain=SQRT_HALF if resnet else 1.0)
            x = x if skip is None else skip + x
        x = checkpoint_name(x, FEATURES)
        if img is not None:
            img = upsample2d(img, cfg.filter)
        if cfg.has_torgb(resolution):
            rgb = ToRGB(config=cfg, layer=cfg.layer[f"{name}.torgb"], name="torgb")(x, inputs)
            img = rgb if img is None else img + rgb
            inputs.features[f"{name}.img"] = img
        return inputs.passed_on(name, x), img


class Synthesis(nn.Module):
    """ws, or styles, to images."""

    config: GeneratorConfig

    @nn.compact
    def __call__(self, ws: jax.Array | None, **options: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Image [B, R, R, img_channels], unclipped, and every intermediate feature by name.

        Args:
            options: as of `synthesis_inputs`; where the synthesis starts, the RGB of lower resolutions is dropped.
        """
        cfg = self.config
        inputs = synthesis_inputs(cfg, ws, **options)
        first = first_resolution(cfg, inputs.start)
        x = img = None
        for i, resolution in enumerate(cfg.resolutions):
            if resolution >= first:
                block = SynthesisBlock(config=cfg, index=i, name=f"b{resolution}")
                x, img = block(x, img, inputs, starts=resolution == first)
        assert img is not None
        return img, inputs.features
