"""A tiny generator with random weights and tiny images, for tests and documentation."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from lsap_jax.models.generator import BasecodeEncoder, Discriminator, Generator, discriminator_shapes, generator_shapes
from lsap_jax.networks import basecode as encoder
from lsap_jax.networks import discriminator as critic
from lsap_jax.networks import stylegan2


def tiny_generator(
    seed: int = 0,
    img_resolution: int = 16,
    discriminator: bool = True,
    basecode: bool = False,
    img_channels: int = 3,
    architecture: Literal["skip", "resnet", "orig"] = "skip",
) -> Generator:
    """A StyleGAN2 of 8 channels with z = w = 16 and two mapping layers, untrained but with noise and a w_avg that
    matter.

    Args:
        basecode: with an encoder for base resolution `img_resolution` / 8, at least 4.
    """
    rng = np.random.default_rng(seed)
    channels = (8,) * (img_resolution.bit_length() - 2)
    config = stylegan2.GeneratorConfig(
        img_resolution=img_resolution,
        channels=channels,
        z_dim=16,
        w_dim=16,
        layer_features=16,
        mapping_layers=2,
        img_channels=img_channels,
        architecture=architecture,
    )
    params = random_leaves(generator_shapes(config), rng, 1 / config.mapping_lr_multiplier)
    D = E = None
    if discriminator:
        shape = critic.DiscriminatorConfig(img_resolution=img_resolution, channels=channels, img_channels=img_channels)
        D = Discriminator(config=shape, params=random_leaves(discriminator_shapes(shape), rng))
    if basecode:
        size = encoder.BasecodeConfig(
            base_resolution=max(4, img_resolution // 8), out_channels=8, widths=(4, 4, 8), in_channels=img_channels
        )
        E = BasecodeEncoder(config=size, variables=random_leaves(encoder.variable_shapes(size), rng))
    return Generator(config=config, params=params, discriminator=D, basecode=E)


def random_leaves(shapes: Mapping[str, Any], rng: np.random.Generator, mapping_weight: float = 1.0) -> dict[str, Any]:
    """Leaves distributed as the networks' own initial ones, except that `noise_strength` and `w_avg` are 0.1.

    Drawn by numpy: jax would compile each draw, for longer than most of what is done with a tiny network.

    Args:
        mapping_weight: standard deviation of the weights of the mapping network.
    """
    filled = {}
    for path, leaf in flatten_dict(dict(shapes)).items():
        drawn = rng.standard_normal(leaf.shape, np.float32)
        match path:
            case ("mapping", _, "weight"):
                value = drawn * mapping_weight
            case (*_, "weight" | "const" | "noise_const"):
                value = drawn
            case (*_, "kernel"):
                value = drawn / math.sqrt(math.prod(leaf.shape[:-1]))
            case (*_, "affine", "bias") | (*_, "scale" | "var"):
                value = np.ones_like(drawn)
            case (*_, "noise_strength" | "w_avg"):
                value = np.full_like(drawn, 0.1)
            case _:
                value = np.zeros_like(drawn)
        filled[path] = jnp.asarray(value)
    return unflatten_dict(filled)


def tiny_images(count: int, resolution: int = 16, seed: int = 0, channels: int = 3) -> np.ndarray:
    """uint8 [count, resolution, resolution, channels]: smooth random pictures, all different."""
    coarse = np.random.default_rng(seed).random((count, 4, 4, channels))
    scale = -(-resolution // 4)
    smooth = np.repeat(np.repeat(coarse, scale, 1), scale, 2)[:, :resolution, :resolution]
    return (smooth * 255).astype(np.uint8)
