"""A tiny generator with random weights, tiny images, the smallest encoder and refiner: for tests and documentation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict

from lsap_jax.models.basecode import BasecodeEncoder
from lsap_jax.models.discriminator import Discriminator, discriminator_shapes
from lsap_jax.models.generator import Generator
from lsap_jax.networks import basecode as encoder
from lsap_jax.networks.families import FAMILIES, generator_shapes
from lsap_jax.networks.stylegan2 import discriminator as critic
from lsap_jax.networks.view import View, square
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.render import synthesise
from lsap_jax.rendering.transforms import ScaleShift
from lsap_jax.spaces import Space


def tiny_generator(
    seed: int = 0,
    img_resolution: int = 16,
    discriminator: bool = True,
    basecode: bool = False,
    img_channels: int = 3,
    architecture: Literal["skip", "resnet", "orig"] = "skip",
    family: Literal["stylegan1", "stylegan2"] = "stylegan2",
    classes: int = 0,
) -> Generator:
    """A StyleGAN of 8 channels with z = w = 16 and two mapping layers, untrained but with noise and a w_avg that
    matter.

    Args:
        basecode: with an encoder for base resolution `img_resolution` / 8, at least 4.
        classes: of a conditional generator; 0 is none.
    """
    rng = np.random.default_rng(seed)
    channels = (8,) * (img_resolution.bit_length() - 2)
    own = {"architecture": architecture} if family == "stylegan2" else {}
    config = FAMILIES[family].GeneratorConfig(
        img_resolution=img_resolution,
        channels=channels,
        z_dim=16,
        w_dim=16,
        layer_features=16,
        mapping_layers=2,
        img_channels=img_channels,
        c_dim=classes,
        embed_features=8 if classes else 0,
        **own,
    )
    params = random_leaves(generator_shapes(config), rng, 1 / config.mapping_lr_multiplier)
    parts: dict[str, Any] = {}
    if discriminator:
        shape = critic.DiscriminatorConfig(
            img_resolution=img_resolution,
            channels=channels,
            img_channels=img_channels,
            c_dim=classes,
            cmap_dim=8 if classes else 0,
        )
        parts["discriminator"] = Discriminator(config=shape, params=random_leaves(discriminator_shapes(shape), rng))
    if basecode:
        size = encoder.BasecodeConfig(
            base_resolution=max(4, img_resolution // 8), out_channels=8, widths=(4, 4, 8), in_channels=img_channels
        )
        parts["basecode"] = BasecodeEncoder(config=size, params=random_leaves(encoder.variable_shapes(size), rng))
    return Generator(config=config, params=params, parts=parts)


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
            case (*_, "affine", "bias") | (*_, "scale" | "var" | "running_var"):
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


@dataclass(frozen=True, kw_only=True)
class ColourConfig:
    """Shape of a `ColourEncoder`."""

    num_ws: int
    w_dim: int
    channels: int = 3


def colour_shapes(config: ColourConfig) -> dict[str, Any]:
    """Params of a `ColourEncoder` as ShapeDtypeStructs."""
    shapes = {"w_avg": (config.w_dim,), "weight": (config.channels, config.w_dim)}
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


class ColourEncoder(struct.PyTreeNode, kw_only=True):
    """The smallest `Encoder`: the mean w, moved by a linear function of the mean colour of an image."""

    kind: ClassVar[str] = "colour"
    codes: ClassVar[str] = "w+"
    view: ClassVar[View] = square(8)
    config: ColourConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    def __call__(self, images: jax.Array, G: Generator | None = None) -> jax.Array:
        """Images [B, 8, 8, C] in [-1, 1] to ws [B, num_ws, w_dim]."""
        colour = images.mean(axis=(1, 2))
        w = self.params["w_avg"][None] + (colour[:, :, None] * self.params["weight"][None]).sum(axis=1)
        return jnp.repeat(w[:, None], self.config.num_ws, axis=1)


def colour_encoder(G: Generator, seed: int = 0) -> ColourEncoder:
    """A `ColourEncoder` for a generator, with random weights."""
    config = ColourConfig(num_ws=G.num_ws, w_dim=G.w_dim, channels=G.img_channels)
    weight = np.random.default_rng(seed).standard_normal((config.channels, config.w_dim), np.float32)
    return ColourEncoder(config=config, params={"w_avg": G.w_avg, "weight": jnp.asarray(weight)})


class ColourRefiner(struct.PyTreeNode, kw_only=True):
    """The smallest `Refiner`: shifts the output of the last layer so that the mean colour of an image is its target's.

    It leaves the codes alone. `share` is how much of the difference is made up for, 1 is all of it.
    """

    share: float = struct.field(pytree_node=False, default=1.0)

    def __call__(
        self,
        G: Generator,
        space: Space,
        codes: Mapping[str, jax.Array],
        images: jax.Array,
        rng: jax.Array,
        mask: jax.Array | None,
    ) -> tuple[dict[str, jax.Array], Refinement]:
        """As `Refiner`; pixels where the mask is 0 do not count."""
        gap = images - synthesise(G, space.decode(G, dict(codes)))
        weight = jnp.ones(images.shape[:3]) if mask is None else mask
        total = jnp.maximum(weight.sum(axis=(1, 2)), 1e-6)[:, None]
        mean = (gap * weight[..., None]).sum(axis=(1, 2)) / total
        shift = jnp.broadcast_to(self.share * mean[:, None, None], images.shape)
        moved = ScaleShift(scale=jnp.ones_like(shift), shift=shift)
        return dict(codes), Refinement(transforms={G.config.layers[-1].name: moved})
