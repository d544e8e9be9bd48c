"""PTI's locality regulariser: near the pivot, the tuned generator makes what the original one made."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsap_jax.losses.judges import Judge
from lsap_jax.losses.pixel import mse
from lsap_jax.models.generator import Generator
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.render import synthesise
from lsap_jax.spaces.decoded import Decoded


class Locality(NamedTuple):
    """The locality regulariser: at a code near the pivot the tuned generator makes what the original one made.

    A random w, truncated by `psi`, gives the direction, and `alpha` is the distance from the pivot over all rows of ws
    together; `mse` and `perceptual` weigh the differences, every `interval` steps.
    """

    alpha: float
    psi: float
    mse: float
    perceptual: float
    interval: int


def random_z(G: Generator, rng: jax.Array, step: jax.Array) -> jax.Array:
    """z [1, z_dim] of a step."""
    return jax.random.normal(jax.random.fold_in(rng, step), (1, G.z_dim))


def locality(
    how: Locality, judge: Judge | None, G: Generator, pivot: Decoded, own: Refinement, z: jax.Array
) -> jax.Array:
    """The regulariser at the code near the pivot towards z [1, z_dim], without noise: how far the tuned generator is
    from G.
    """
    ws = near(G, pivot, z, how)
    decoded = Decoded(ws=ws, styles=G.styles(ws), noise_mode="none")
    new, old = synthesise(G, decoded, own), jax.lax.stop_gradient(synthesise(G, decoded))
    value = how.mse * mse(new, old)[0]
    if judge is not None:
        value = value + how.perceptual * judge.distance(judge.features(new), judge.features(old))[0]
    return value


def near(G: Generator, pivot: Decoded, z: jax.Array, how: Locality) -> jax.Array:
    """ws [1, num_ws, w_dim] at the distance `alpha` from the pivot's, towards those of z [1, z_dim]."""
    assert pivot.ws is not None
    away = G.given(pivot.c).mapping(z, truncation_psi=how.psi) - pivot.ws
    return pivot.ws + how.alpha * away / jnp.sqrt(jnp.sum(jnp.square(away)))
