"""Samples of a generator, by seed."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.models.generator import Generator
from lsap_jax.pixels import to_uint8


def draw(
    G: Generator, seeds: list[int], truncation_psi: float = 1.0, batch_size: int = 8, c: np.ndarray | None = None
) -> np.ndarray:
    """Samples of a generator by seed, in batches of one shape.

    z of seed s is `numpy.random.RandomState(s).randn(z_dim)`, as in NVlabs' generate.py.

    Args:
        c: labels [N, c_dim] of a conditional generator, one per seed.

    Returns:
        uint8 [N, R, R, C].

    Raises:
        LsapError: the generator is conditional, and there are no labels.
    """
    images = []
    for start in range(0, len(seeds), batch_size):
        some = seeds[start : start + batch_size]
        padded = some + some[-1:] * (batch_size - len(some))
        z = np.stack([np.random.RandomState(seed).randn(G.z_dim) for seed in padded]).astype(np.float32)
        own = None if c is None else jnp.asarray(np.resize(c[start : start + batch_size], (batch_size, G.c_dim)))
        images.append(to_uint8(np.asarray(_images(G, jnp.asarray(z), own, truncation_psi)))[: len(some)])
    return np.concatenate(images)


@partial(jax.jit, static_argnums=3)
def _images(G: Generator, z: jax.Array, c: jax.Array | None, truncation_psi: float) -> jax.Array:
    return G.synthesis(G.mapping(z, c, truncation_psi=truncation_psi))
