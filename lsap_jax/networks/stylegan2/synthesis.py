"""StyleGAN2's synthesis network: ws, or styles, to images.

A layer's features can be changed before the next layer reads them: `Synthesis` takes functions of them by the layer's
name. A base code f is such a function: it ignores the features, so that no lower layer is computed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from lsap_jax.networks.layers import (
    ACTIVATIONS,
    FEATURES,
    Conv2d,
    FullyConnected,
    bias_act,
    conv_weight,
    modulated_conv2d,
)
from lsap_jax.networks.resample import upsample2d
from lsap_jax.networks.stylegan2 import mapping
from lsap_jax.networks.stylegan2.config import GeneratorConfig, Layer

NoiseMode = Literal["const", "random", "none"]
Transform = Callable[[Any], jax.Array]  # features [B, r, r, C], or None where the synthesis starts, to features
SQRT_HALF = float(np.sqrt(0.5))


@dataclass
class SynthesisInputs:
    """The inputs of the layers in one synthesis pass besides their features, and the `features` that they record."""

    ws: jax.Array | None
    styles: dict[str, jax.Array] | None
    noise_mode: NoiseMode
    noise: dict[str, jax.Array] | None
    rng: jax.Array | None
    half_blocks: int
    transforms: Mapping[str, Transform]
    features: dict[str, jax.Array] = field(default_factory=dict)

    def output(self, layer: str, x: jax.Array | None) -> jax.Array:
        """The features of a layer as the next one reads them; x is None where the synthesis starts."""
        changed = self.transforms[layer](x) if layer in self.transforms else x
        assert changed is not None
        self.features[layer] = changed
        return changed


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, activation: conv0 (upsampling) and conv1 of a block."""

    config: GeneratorConfig
    layer: Layer
    up: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, inputs: SynthesisInputs, gain: float = 1.0) -> jax.Array:
        cfg, features = self.config, self.layer.channels
        styles = layer_styles(inputs, self.layer)
        weight = conv_weight(self, x, features, 3, up=self.up)
        bias = self.param("bias", nn.initializers.zeros, (features,))
        x = modulated_conv2d(
            x,
            weight,
            styles,
            noise=self.noise(inputs),
            up=self.up,
            padding=1,
            resample_filter=cfg.filter if self.up > 1 else None,
            flip_weight=self.up == 1,
        )
        clamp = None if cfg.conv_clamp is None else cfg.conv_clamp * gain
        x = bias_act(x, bias, cfg.activation, gain=ACTIVATIONS[cfg.activation][2] * gain, clamp=clamp)
        return inputs.output(self.layer.name, x)

    def noise(self, inputs: SynthesisInputs) -> jax.Array | None:
        """[1 | B, R, R, 1] noise of this layer, scaled by its strength."""
        if not self.config.use_noise:
            return None
        r = self.layer.resolution
        const = self.param("noise_const", nn.initializers.normal(1.0), (r, r))
        strength = self.param("noise_strength", nn.initializers.zeros, ())
        if inputs.noise_mode == "none":
            return None
        if inputs.noise_mode == "random":
            if inputs.rng is None:
                raise ValueError("noise_mode='random' needs rng, a key per image")
            return random_noise(inputs.rng, self.config.layers.index(self.layer), r) * strength
        if inputs.noise is not None and self.layer.name in inputs.noise:
            return inputs.noise[self.layer.name][..., None] * strength
        return const[None, :, :, None] * strength


def random_noise(rng: jax.Array, index: int, resolution: int) -> jax.Array:
    """[B, R, R, 1] standard normal noise for layer `index` from a key per image [B]."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, index), (resolution, resolution, 1)))(rng)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to the image, without demodulation or noise; clamped before it is added to the skip
    image.
    """

    config: GeneratorConfig
    layer: Layer

    @nn.compact
    def __call__(self, x: jax.Array, inputs: SynthesisInputs) -> jax.Array:
        cfg = self.config
        styles = layer_styles(inputs, self.layer) * float(1 / np.sqrt(self.layer.width))
        weight = conv_weight(self, x, cfg.img_channels, 1)
        bias = self.param("bias", nn.initializers.zeros, (cfg.img_channels,))
        x = modulated_conv2d(x, weight, styles, demodulate=False)
        x = bias_act(x, bias, clamp=cfg.conv_clamp).astype(styles.dtype)  # images are never added up in bfloat16
        return inputs.output(self.layer.name, x)


def layer_styles(inputs: SynthesisInputs, layer: Layer) -> jax.Array:
    """[B, Cin] styles of a layer: the affine of its w, or the given ones (StyleSpace). Call it inside the layer's
    module.
    """
    affine = FullyConnected(layer.width, bias_init=1.0, name=layer.affine[-1])
    if inputs.styles is None:
        assert inputs.ws is not None
        styles = affine(inputs.ws[:, layer.row])
    else:
        styles = inputs.styles[layer.name]
    inputs.features[f"{layer.name}.styles"] = styles
    return styles


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
                x = conv1(jnp.broadcast_to(const[None], (_batch_size(inputs), *const.shape)), inputs)
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
        inputs.features[name] = x
        if img is not None:
            img = upsample2d(img, cfg.filter)
        if cfg.has_torgb(resolution):
            rgb = ToRGB(config=cfg, layer=cfg.layer[f"{name}.torgb"], name="torgb")(x, inputs)
            img = rgb if img is None else img + rgb
            inputs.features[f"{name}.img"] = img
        return x, img


def _batch_size(inputs: SynthesisInputs) -> int:
    return inputs.ws.shape[0] if inputs.ws is not None else next(iter((inputs.styles or {}).values())).shape[0]


class Synthesis(nn.Module):
    """ws, or styles, to images."""

    config: GeneratorConfig

    @nn.compact
    def __call__(
        self,
        ws: jax.Array | None,
        *,
        styles: dict[str, jax.Array] | None = None,
        f: jax.Array | None = None,
        transforms: Mapping[str, Transform] | None = None,
        start: str | None = None,
        noise_mode: NoiseMode = "const",
        noise: dict[str, jax.Array] | None = None,
        rng: jax.Array | None = None,
        half_blocks: int = 0,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Image [B, R, R, img_channels], unclipped, and every intermediate feature by name.

        Args:
            ws: [B, num_ws, w_dim], or None where styles are given.
            styles: layer name -> [B, Cin] (StyleSpace).
            f: [B, r, r, C(r)], replaces the output of the first conv of block r after noise, bias and activation
                (BDInvert's base code): a transform that ignores the features and returns f, and the start.
            transforms: layer name -> function of its output, after noise, bias, activation and f.
            start: a layer of `config.entries`: its transform is called with None, lower layers are not computed,
                and the RGB of lower resolutions is dropped. Skip architecture only.
            noise: layer name -> [B | 1, r, r] instead of the constant noise of those layers.
            half_blocks: number of blocks, from the highest resolution down, whose features are in bfloat16; styles,
                demodulation and images stay as they are. The block of the start is never one of them.
        """
        cfg = self.config
        transforms = dict(transforms or {})
        if f is not None:
            start = entry(cfg, f.shape).name
            transforms[start] = _constant(f, transforms.get(start))
        first = 0 if start is None else resolution_of(cfg, start)
        inputs = SynthesisInputs(
            ws=ws,
            styles=styles,
            noise_mode=noise_mode,
            noise=noise,
            rng=rng,
            half_blocks=half_blocks,
            transforms=transforms,
        )
        x = img = None
        for i, resolution in enumerate(cfg.resolutions):
            if resolution >= first:
                block = SynthesisBlock(config=cfg, index=i, name=f"b{resolution}")
                x, img = block(x, img, inputs, starts=resolution == first)
        assert img is not None
        return img, inputs.features


def _constant(f: jax.Array, then: Transform | None) -> Transform:
    """The transform that ignores the features and returns f, followed by `then`."""
    return lambda _: f if then is None else then(f)


def entry(config: GeneratorConfig, shape: tuple[int, ...]) -> Layer:
    """Layer whose output a base code of this shape [B, r, r, C] replaces; ValueError where it fits none."""
    if not config.entries:
        raise ValueError(f"a base code f needs a generator of architecture 'skip'; this one is '{config.architecture}'")
    wanted = {r: layer.channels for r, layer in config.entries.items()}
    if len(shape) != 4 or shape[1] != shape[2] or wanted.get(shape[1]) != shape[3]:
        shapes = [(r, r, c) for r, c in wanted.items()]
        raise ValueError(f"a base code f of shape {tuple(shape)} fits no block; (r, r, channels) can be {shapes}")
    return config.entries[shape[1]]


def resolution_of(config: GeneratorConfig, start: str) -> int:
    """Resolution of the block whose first conv is `start`; ValueError where the synthesis cannot start there."""
    found = {layer.name: resolution for resolution, layer in config.entries.items()}
    if start not in found:
        raise ValueError(f"the synthesis cannot start at {start}, only at one of {list(found)}")
    return found[start]


@partial(jax.jit, static_argnums=0)
def initial_params(config: GeneratorConfig, rng: jax.Array) -> dict[str, Any]:
    """Random params {"mapping": ..., "synthesis": ...} of a generator, as before training."""
    mapping_rng, synthesis_rng = jax.random.split(rng)
    z = jnp.zeros((1, config.z_dim))
    c = jnp.zeros((1, config.c_dim)) if config.c_dim else None
    ws = jnp.zeros((1, config.num_ws, config.w_dim))
    return {
        "mapping": mapping.Mapping(config).init(mapping_rng, z, c)["params"],
        "synthesis": Synthesis(config).init(synthesis_rng, ws)["params"],
    }
