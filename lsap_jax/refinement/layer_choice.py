"""SAM's choice of a latent for every segment, and the masks of the layers (arXiv 2206.08357, section 3.2).

Latents stand in the order in which they can be edited: the codes first, then layers from the lowest resolution up.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from lsap_jax.networks.pixel_maps import lanczos


def segment_means(maps: jax.Array, segments: jax.Array, count: int) -> jax.Array:
    """Mean of every map over every segment: [B, count, K]; 0 where a segment has no pixel.

    Args:
        maps: [B, side, side, K], how badly each latent reconstructs a pixel.
        segments: int [B, side, side], numbers below `count`.
    """

    def one(number: jax.Array) -> jax.Array:
        inside = (segments == number)[..., None]
        return jnp.sum(jnp.where(inside, maps, 0), (1, 2)) / jnp.maximum(jnp.sum(inside, (1, 2)), 1)

    return jnp.moveaxis(jax.lax.map(one, jnp.arange(count)), 0, 1)


def chosen_latents(means: jax.Array, tau: float) -> jax.Array:
    """The first latent whose mean is `tau` or less, of [B, count, K] means: int [B, count]; the last one if none is.

    The authors walk from the last latent to the first and keep the last that passes: it may lie behind one that fails.
    """
    passes = means <= tau
    return jnp.where(passes.any(-1), jnp.argmax(passes, -1), means.shape[-1] - 1)


def pixel_latents(maps: jax.Array, segments: jax.Array, count: int, tau: float) -> jax.Array:
    """The latent of each pixel, int [B, side, side], an index into the last axis of the maps."""
    chosen = chosen_latents(segment_means(maps, segments, count), tau)
    return jax.vmap(lambda latents, numbers: latents[numbers])(chosen, segments)


def layer_masks(latents: jax.Array, sides: Sequence[int]) -> list[jax.Array]:
    """Masks [B, r, r, 1] in [0, 1] of latents 1, 2, …, whose features have these sides: soft at the borders, from
    Pillow's Lanczos filter, so that those of a pixel do not always add up to 1.
    """
    masks = []
    for k, side in enumerate(sides):
        hard = (latents == k + 1).astype(jnp.float32)[..., None]
        masks.append(jnp.clip(lanczos(hard, side), 0, 1) * hard.max((1, 2, 3), keepdims=True))
    return masks
