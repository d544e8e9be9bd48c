"""A tiny generator with random weights and tiny images, for tests and documentation."""

import jax
import numpy as np

from lsap_jax.generator import BasecodeEncoder, Discriminator, Generator
from lsap_jax.networks import basecode as encoder
from lsap_jax.networks import discriminator as critic
from lsap_jax.networks import stylegan2


def tiny_generator(
    seed: int = 0, img_resolution: int = 16, discriminator: bool = True, basecode: bool = False, img_channels: int = 3
) -> Generator:
    """A StyleGAN2 of 8 channels with z = w = 16 and two mapping layers, untrained but with noise and a w_avg that
    matter.

    Args:
        basecode: with an encoder for base resolution `img_resolution` / 8, at least 4.
    """
    rngs = jax.random.split(jax.random.key(seed), 4)
    channels = (8,) * (img_resolution.bit_length() - 2)
    config = stylegan2.GeneratorConfig(
        img_resolution=img_resolution,
        channels=channels,
        z_dim=16,
        w_dim=16,
        layer_features=16,
        mapping_layers=2,
        img_channels=img_channels,
    )
    params = stylegan2.initial_params(config, rngs[0])
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + 0.1 if path[-1].key in ("noise_strength", "w_avg") else leaf, params
    )
    D = E = None
    if discriminator:
        shape = critic.DiscriminatorConfig(img_resolution=img_resolution, channels=channels, img_channels=img_channels)
        D = Discriminator(config=shape, params=critic.initial_params(shape, rngs[1]))
    if basecode:
        size = encoder.BasecodeConfig(
            base_resolution=max(4, img_resolution // 8), out_channels=8, widths=(4, 4, 8), in_channels=img_channels
        )
        E = BasecodeEncoder(config=size, variables=encoder.initial_variables(size, rngs[2]))
    return Generator(config=config, params=params, discriminator=D, basecode=E)


def tiny_images(count: int, resolution: int = 16, seed: int = 0, channels: int = 3) -> np.ndarray:
    """uint8 [count, resolution, resolution, channels]: smooth random pictures, all different."""
    coarse = np.random.default_rng(seed).random((count, 4, 4, channels))
    scale = -(-resolution // 4)
    smooth = np.repeat(np.repeat(coarse, scale, 1), scale, 2)[:, :resolution, :resolution]
    return (smooth * 255).astype(np.uint8)
