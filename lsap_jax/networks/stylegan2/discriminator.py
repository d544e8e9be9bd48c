"""StyleGAN2 discriminator (Karras et al., CVPR 2020): skip, resnet and orig, conditional by projection."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from lsap_jax.networks.bounds import Channels, Clamp, Count, Filter, Gain, Side, Widths, between
from lsap_jax.networks.layers import FEATURES, Activation, Conv2d, FullyConnected, normalize_2nd_moment
from lsap_jax.networks.resample import downsample2d
from lsap_jax.networks.stylegan2.config import check_blocks

SQRT_HALF = float(np.sqrt(0.5))


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Shape of a StyleGAN2 discriminator. `channels[i]` belongs to resolution 4·2^i."""

    img_resolution: Side
    channels: Widths
    c_dim: Count = 0
    img_channels: Channels = 3
    architecture: Literal["skip", "resnet", "orig"] = "resnet"
    resample_filter: Filter = (0.125, 0.375, 0.375, 0.125)
    conv_clamp: Clamp | None = None
    cmap_dim: Count = 0
    mapping_layers: Annotated[int, between(0, 64)] = 0
    mapping_lr_multiplier: Gain = 0.01
    mbstd_group_size: Annotated[int, between(1, 2**16)] | None = 4
    mbstd_num_channels: Count = 1
    activation: Activation = "lrelu"

    def __post_init__(self) -> None:
        check_blocks(self.img_resolution, self.channels)

    @property
    def resolutions(self) -> tuple[int, ...]:
        return tuple(4 << i for i in range(len(self.channels)))


def minibatch_stddev(x: jax.Array, group_size: int | None, num_channels: int) -> jax.Array:
    """Append `num_channels` channels with the standard deviation over groups of the batch to [B, H, W, C].

    The group index is the slow axis: samples i, i + B/G, i + 2·B/G, ... form a group. B must be divisible by
    G = min(group_size, B).
    """
    b, h, w, c = x.shape
    g = b if group_size is None else min(group_size, b)
    if b % g:
        raise ValueError(f"a batch of {b} does not split into minibatch-stddev groups of {g}")
    y = x.reshape(g, b // g, h, w, num_channels, c // num_channels)
    y = y - y.mean(axis=0, keepdims=True)
    y = jnp.sqrt(jnp.square(y).mean(axis=0) + 1e-8)  # [B/G, H, W, F, c]
    y = y.mean(axis=(1, 2, 4))  # [B/G, F]
    y = jnp.tile(y, (g, 1))[:, None, None, :]
    return jnp.concatenate([x, jnp.broadcast_to(y, (b, h, w, num_channels)).astype(x.dtype)], axis=-1)


class DiscriminatorBlock(nn.Module):
    """One resolution: [fromrgb], conv0, conv1 (down)."""

    config: DiscriminatorConfig
    index: int

    @nn.compact
    def __call__(self, x: jax.Array | None, img: jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
        cfg = self.config
        width, below = cfg.channels[self.index], cfg.channels[self.index - 1]
        shared: dict[str, Any] = dict(
            activation=cfg.activation, resample_filter=cfg.resample_filter, conv_clamp=cfg.conv_clamp
        )
        if x is None or cfg.architecture == "skip":
            assert img is not None
            rgb = Conv2d(width, 1, name="fromrgb", **shared)(img)
            x = rgb if x is None else x + rgb
            img = downsample2d(img, np.asarray(cfg.resample_filter)) if cfg.architecture == "skip" else None
        conv0, conv1 = Conv2d(width, 3, name="conv0", **shared), Conv2d(below, 3, down=2, name="conv1", **shared)
        if cfg.architecture == "resnet":
            skip = Conv2d(below, 1, use_bias=False, down=2, resample_filter=cfg.resample_filter, name="skip")(
                x, gain=SQRT_HALF
            )
            return skip + conv1(conv0(x), gain=SQRT_HALF), img
        return conv1(conv0(x)), img


class DiscriminatorEpilogue(nn.Module):
    """The 4x4 block: [fromrgb], minibatch stddev, conv, two dense layers, [projection on the label]."""

    config: DiscriminatorConfig

    @nn.compact
    def __call__(self, x: jax.Array, img: jax.Array | None, cmap: jax.Array | None) -> jax.Array:
        cfg = self.config
        width = cfg.channels[0]
        if cfg.architecture == "skip":
            assert img is not None
            x = x + Conv2d(width, 1, activation=cfg.activation, name="fromrgb")(img)
        if cfg.mbstd_num_channels > 0:
            x = minibatch_stddev(x, cfg.mbstd_group_size, cfg.mbstd_num_channels)
        x = Conv2d(width, 3, activation=cfg.activation, conv_clamp=cfg.conv_clamp, name="conv")(x)
        x = FullyConnected(width, activation=cfg.activation, name="fc")(x.reshape(x.shape[0], -1))
        x = FullyConnected(cfg.cmap_dim if cfg.c_dim else 1, name="out")(x)
        if cmap is not None:
            x = jnp.sum(x * cmap, axis=1, keepdims=True) / float(np.sqrt(cfg.cmap_dim))
        return x


class LabelMapping(nn.Module):
    """Label c [B, c_dim] to [B, cmap_dim]: embedding, normalisation, `mapping_layers` dense layers."""

    config: DiscriminatorConfig

    @nn.compact
    def __call__(self, c: jax.Array) -> jax.Array:
        cfg = self.config
        x = normalize_2nd_moment(FullyConnected(cfg.cmap_dim, name="embed")(c))
        for i in range(cfg.mapping_layers):
            x = FullyConnected(
                cfg.cmap_dim, activation=cfg.activation, lr_multiplier=cfg.mapping_lr_multiplier, name=f"fc{i}"
            )(x)
        return x


class DiscriminatorNetwork(nn.Module):
    """Images to logits, and the block outputs before the minibatch-stddev layer on the way."""

    config: DiscriminatorConfig

    @nn.compact
    def __call__(
        self, img: jax.Array, c: jax.Array | None = None, *, logits: bool = True
    ) -> tuple[jax.Array | None, list[jax.Array]]:
        """[B, R, R, img_channels] (and [B, c_dim]) to logits [B, 1] and features, highest resolution first.

        `logits=False` stops before the minibatch-stddev layer, the only one that mixes images and needs whole groups.
        """
        cfg = self.config
        x: jax.Array | None = None
        rgb: jax.Array | None = img
        features = []
        for i in range(len(cfg.channels) - 1, 0, -1):
            x, rgb = DiscriminatorBlock(cfg, i, name=f"b{cfg.resolutions[i]}")(x, rgb)
            x = checkpoint_name(x, FEATURES)
            features.append(x)
        if not logits:
            return None, features
        cmap = None
        if cfg.c_dim:
            if c is None:
                raise ValueError(f"this discriminator is conditional: pass labels c of shape [B, {cfg.c_dim}]")
            cmap = LabelMapping(cfg, name="mapping")(c)
        assert x is not None
        return DiscriminatorEpilogue(cfg, name="b4")(x, rgb, cmap), features


@partial(jax.jit, static_argnums=0)
def initial_params(config: DiscriminatorConfig, rng: jax.Array) -> dict[str, Any]:
    """Random params of a discriminator, as before training."""
    r = config.img_resolution
    c = jnp.zeros((1, config.c_dim)) if config.c_dim else None
    return DiscriminatorNetwork(config).init(rng, jnp.zeros((1, r, r, config.img_channels)), c)["params"]
