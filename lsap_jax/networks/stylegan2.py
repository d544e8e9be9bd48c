"""StyleGAN2 mapping network, synthesis network and their configuration (Karras et al., CVPR 2020; NVIDIA's
checkpoints decide details).

Modules are stateless: `params` is a plain nested dict whose names are those of NVIDIA's state dicts
(`synthesis/b8/conv0/affine/weight`). The buffers `w_avg` and `noise_const` live in the same tree; whoever trains leaves
them out (`training`).
"""

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
    normalize_2nd_moment,
)
from lsap_jax.networks.resample import upsample2d

NoiseMode = Literal["const", "random", "none"]
SQRT_HALF = float(np.sqrt(0.5))


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Shape of a StyleGAN2 generator; everything that its weights do not say by themselves.

    `channels[i]` is the number of feature channels at resolution 4·2^i. `resample_filter` holds normalised taps: 1-D
    for a separable filter, else nested tuples.
    """

    img_resolution: int
    channels: tuple[int, ...]
    z_dim: int = 512
    c_dim: int = 0
    w_dim: int = 512
    img_channels: int = 3
    mapping_layers: int = 8
    layer_features: int = 512
    embed_features: int = 0
    mapping_lr_multiplier: float = 0.01
    w_avg_beta: float = 0.995
    architecture: Literal["skip", "resnet", "orig"] = "skip"
    resample_filter: tuple = (0.125, 0.375, 0.375, 0.125)
    conv_clamp: float | None = None
    use_noise: bool = True
    activation: str = "lrelu"

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Block resolutions, 4 to `img_resolution`."""
        return tuple(4 << i for i in range(len(self.channels)))

    @property
    def num_ws(self) -> int:
        """Style vectors per image: one per convolution and one for the last torgb."""
        return 2 * len(self.channels)

    @property
    def filter(self) -> np.ndarray:
        return np.asarray(self.resample_filter, np.float64)

    @property
    def noise_layers(self) -> dict[str, int]:
        """Layer name -> side of its noise map, lowest resolution first; empty where noise is not used."""
        if not self.use_noise:
            return {}
        return {name: int(name[1:].split(".")[0]) for name in self.style_layers() if not name.endswith("torgb")}

    def has_torgb(self, resolution: int) -> bool:
        return self.architecture == "skip" or resolution == self.img_resolution

    def style_layers(self) -> dict[str, tuple[int, int]]:
        """Layer name -> (index into ws, style channels), in StyleSpace order: the convs and torgb of each block,
        lowest resolution first.

        A block's torgb shares its index with the first conv of the next block.
        """
        layers: dict[str, tuple[int, int]] = {}
        index = 0
        for i, resolution in enumerate(self.resolutions):
            width, below = self.channels[i], self.channels[max(i - 1, 0)]
            if i:
                layers[f"b{resolution}.conv0"] = (index, below)
                index += 1
            layers[f"b{resolution}.conv1"] = (index, width)
            index += 1
            if self.has_torgb(resolution):
                layers[f"b{resolution}.torgb"] = (index, width)
        return layers


class Mapping(nn.Module):
    """z (and label c) to w."""

    config: GeneratorConfig

    @nn.compact
    def __call__(self, z: jax.Array, c: jax.Array | None = None, *, normalize: bool = True) -> jax.Array:
        """[B, z_dim] (and [B, c_dim]) to [B, w_dim]. `normalize=False` trusts z to lie on the sphere already."""
        cfg = self.config
        self.param("w_avg", nn.initializers.zeros, (cfg.w_dim,))
        x = normalize_2nd_moment(z) if normalize else z
        if cfg.c_dim:
            if c is None:
                raise ValueError(f"this generator is conditional: pass labels c of shape [B, {cfg.c_dim}]")
            label = FullyConnected(cfg.embed_features, name="embed")(c)
            x = jnp.concatenate([x, normalize_2nd_moment(label)], axis=-1)
        for i in range(cfg.mapping_layers):
            width = cfg.w_dim if i == cfg.mapping_layers - 1 else cfg.layer_features
            x = FullyConnected(
                width, activation=cfg.activation, lr_multiplier=cfg.mapping_lr_multiplier, name=f"fc{i}"
            )(x)
        return x


@dataclass
class SynthesisInputs:
    """What the layers of one synthesis pass read besides their features, and where they leave what they computed."""

    ws: jax.Array | None
    styles: dict[str, jax.Array] | None
    noise_mode: NoiseMode
    noise: dict[str, jax.Array] | None
    rng: jax.Array | None
    half_blocks: int
    features: dict[str, jax.Array] = field(default_factory=dict)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, activation: conv0 (upsampling) and conv1 of a block."""

    config: GeneratorConfig
    layer: str
    features: int
    resolution: int
    up: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, inputs: SynthesisInputs, gain: float = 1.0) -> jax.Array:
        cfg = self.config
        index, width = cfg.style_layers()[self.layer]
        styles = layer_styles(inputs, self.layer, index, width)
        weight = conv_weight(self, x, self.features, 3, up=self.up)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
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
        inputs.features[self.layer] = x
        return x

    def noise(self, inputs: SynthesisInputs) -> jax.Array | None:
        """[1 | B, R, R, 1] noise of this layer, scaled by its strength."""
        if not self.config.use_noise:
            return None
        r = self.resolution
        const = self.param("noise_const", nn.initializers.normal(1.0), (r, r))
        strength = self.param("noise_strength", nn.initializers.zeros, ())
        if inputs.noise_mode == "none":
            return None
        if inputs.noise_mode == "random":
            if inputs.rng is None:
                raise ValueError("noise_mode='random' needs rng, a key per image")
            index = list(self.config.style_layers()).index(self.layer)
            return random_noise(inputs.rng, index, r) * strength
        if inputs.noise is not None and self.layer in inputs.noise:
            return inputs.noise[self.layer][..., None] * strength
        return const[None, :, :, None] * strength


def random_noise(rng: jax.Array, index: int, resolution: int) -> jax.Array:
    """[B, R, R, 1] standard normal noise for layer `index` from a key per image [B]."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, index), (resolution, resolution, 1)))(rng)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to the image, without demodulation or noise; clamped before it is added to the skip
    image.
    """

    config: GeneratorConfig
    layer: str

    @nn.compact
    def __call__(self, x: jax.Array, inputs: SynthesisInputs) -> jax.Array:
        cfg = self.config
        index, width = cfg.style_layers()[self.layer]
        styles = layer_styles(inputs, self.layer, index, width) * float(1 / np.sqrt(width))
        weight = conv_weight(self, x, cfg.img_channels, 1)
        bias = self.param("bias", nn.initializers.zeros, (cfg.img_channels,))
        x = modulated_conv2d(x, weight, styles, demodulate=False)
        x = bias_act(x, bias, clamp=cfg.conv_clamp).astype(styles.dtype)  # images are never added up in bfloat16
        inputs.features[self.layer] = x
        return x


def layer_styles(inputs: SynthesisInputs, layer: str, index: int, width: int) -> jax.Array:
    """[B, Cin] styles of a layer: the affine of its w, or those given (StyleSpace). To be called inside the layer's
    module.
    """
    affine = FullyConnected(width, bias_init=1.0, name="affine")
    if inputs.styles is None:
        assert inputs.ws is not None
        styles = affine(inputs.ws[:, index])
    else:
        styles = inputs.styles[layer]
    inputs.features[f"{layer}.styles"] = styles
    return styles


class SynthesisBlock(nn.Module):
    """One resolution: [conv0 (up)], conv1, [torgb], in the skip, resnet or orig arrangement."""

    config: GeneratorConfig
    index: int

    @nn.compact
    def __call__(
        self, x: jax.Array | None, img: jax.Array | None, inputs: SynthesisInputs, f: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        cfg = self.config
        resolution, width = cfg.resolutions[self.index], cfg.channels[self.index]
        name = f"b{resolution}"
        layer: dict[str, Any] = dict(config=cfg, features=width, resolution=resolution)
        conv1 = SynthesisLayer(layer=f"{name}.conv1", name="conv1", **layer)
        if self.index == 0:
            const = self.param("const", nn.initializers.normal(1.0), (4, 4, width))
            if f is None:
                batch = _batch_size(inputs)
                x = conv1(jnp.broadcast_to(const[None], (batch, *const.shape)), inputs)
            else:
                x = f
        else:
            conv0 = SynthesisLayer(layer=f"{name}.conv0", name="conv0", up=2, **layer)
            resnet = cfg.architecture == "resnet"
            if f is not None:
                x = conv1(f, inputs)
            else:
                assert x is not None
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
            rgb = ToRGB(config=cfg, layer=f"{name}.torgb", name="torgb")(x, inputs)
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
        noise_mode: NoiseMode = "const",
        noise: dict[str, jax.Array] | None = None,
        rng: jax.Array | None = None,
        half_blocks: int = 0,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Image [B, R, R, img_channels], unclipped, and every intermediate feature by name.

        Args:
            ws: [B, num_ws, w_dim], or None where styles are given.
            styles: layer name -> [B, Cin] (StyleSpace).
            f: [B, r, r, C(r)], replaces the output of the first conv of block r after noise, bias and activation.
                Lower layers are not computed and the RGB of lower resolutions is dropped (BDInvert's base code). Skip
                architecture only.
            noise: layer name -> [B | 1, r, r] instead of the constant noise of those layers.
            half_blocks: so many blocks, from the highest resolution down, have their features in bfloat16; styles,
                demodulation and images stay as they are. The block at which f enters is none of them.
        """
        cfg = self.config
        first = 0 if f is None else base_block(cfg, f.shape)
        inputs = SynthesisInputs(
            ws=ws, styles=styles, noise_mode=noise_mode, noise=noise, rng=rng, half_blocks=half_blocks
        )
        x = img = None
        for i in range(first, len(cfg.channels)):
            block = SynthesisBlock(config=cfg, index=i, name=f"b{cfg.resolutions[i]}")
            x, img = block(x, img, inputs, f=f if i == first else None)
        assert img is not None
        return img, inputs.features


def base_block(config: GeneratorConfig, shape: tuple[int, ...]) -> int:
    """Index of the block at which a base code of this shape [B, r, r, C] enters; ValueError where it fits none."""
    if config.architecture != "skip":
        raise ValueError(f"a base code f needs a generator of architecture 'skip'; this one is '{config.architecture}'")
    wanted = {r: c for r, c in zip(config.resolutions, config.channels, strict=True)}
    if len(shape) != 4 or shape[1] != shape[2] or wanted.get(shape[1]) != shape[3]:
        shapes = [(r, r, c) for r, c in wanted.items()]
        raise ValueError(f"a base code f of shape {tuple(shape)} fits no block; (r, r, channels) can be {shapes}")
    return config.resolutions.index(shape[1])


@partial(jax.jit, static_argnums=0)
def initial_params(config: GeneratorConfig, rng: jax.Array) -> dict[str, Any]:
    """Random params {"mapping": ..., "synthesis": ...} of a generator, as before training."""
    mapping_rng, synthesis_rng = jax.random.split(rng)
    z = jnp.zeros((1, config.z_dim))
    c = jnp.zeros((1, config.c_dim)) if config.c_dim else None
    ws = jnp.zeros((1, config.num_ws, config.w_dim))
    return {
        "mapping": Mapping(config).init(mapping_rng, z, c)["params"],
        "synthesis": Synthesis(config).init(synthesis_rng, ws)["params"],
    }
