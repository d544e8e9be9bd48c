"""Directions of W in StyleSpace."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from lsap_jax.editing.direction import Direction, fitted
from lsap_jax.editing.layers import layer_mask
from lsap_jax.models.generator import Generator
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.style import flat


def in_styles(G: Generator, direction: Direction) -> Direction:
    """The direction of S that makes the same step as one of W, in the same range of layers.

    Styles are affine in w, s = A w + b (StyleGAN2): a step d of w is the step A d of s, whatever the code. The mean,
    and with it the absolute coordinate, is lost.

    Raises:
        LsapError: the direction is not one of W, or is of another generator.
    """
    space = parse_space("w+")
    step = np.where(layer_mask(G, space, direction.layers), fitted(G, space, direction), np.float32(0))
    both = flat(G, G.styles(jnp.stack([jnp.zeros_like(step), step])))
    return replace(
        direction, space="s", vector=np.asarray(both[1] - both[0]), mean=None, source=f"{direction.source}, in styles"
    )
