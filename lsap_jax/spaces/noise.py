"""Noise maps of an image as part of its code (StyleGAN2, appendix D: they are optimised and kept free of signal)."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator


def init(G: "Generator", rng: jax.Array) -> jax.Array:
    """Standard normal maps of all layers, flat per image [B, Σ r²], by a key per image [B]."""
    count = sum(side * side for side in G.config.noise_layers.values())
    maps = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), (count,)))(rng)
    return retract(maps, tuple(G.config.noise_layers.values()))


def maps_of(flat: jax.Array, sides: tuple[int, ...]) -> list[jax.Array]:
    """Flat noise [B, Σ r²] as a map [B, r, r] per layer."""
    found, at = [], 0
    for side in sides:
        found.append(flat[:, at : at + side * side].reshape(-1, side, side))
        at += side * side
    return found


def decode(G: "Generator", flat: jax.Array) -> dict[str, jax.Array]:
    """Layer name -> [B, r, r], as `synthesis(noise=...)` takes it."""
    layers = G.config.noise_layers
    return dict(zip(layers, maps_of(flat, tuple(layers.values())), strict=True))


def retract(flat: jax.Array, sides: tuple[int, ...]) -> jax.Array:
    """Every map of every image at mean 0 and mean square 1, as the projector does after each step."""
    found = []
    for m in maps_of(flat, sides):
        m = m - jnp.mean(m, (1, 2), keepdims=True)
        squared = jnp.mean(jnp.square(m), (1, 2), keepdims=True)
        m = m * jax.lax.rsqrt(jnp.where(squared > 0, squared, 1.0))
        found.append(m.reshape(m.shape[0], -1))
    return jnp.concatenate(found, axis=-1)
