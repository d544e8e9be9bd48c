"""Codes back to images."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.generator import Generator
from lsap_jax.spaces import Space, parse_space


def synthesise(G: Generator, space: Space, codes: dict[str, jax.Array]) -> jax.Array:
    """Images [B, R, R, C] of codes, unclipped.

    CPUs multiply a single row by a matrix in another order than several. A lone image's code therefore enters the dense
    layers beside a copy of itself; the convolutions, where the work is, see it once.
    """
    count = next(iter(codes.values())).shape[0]
    if count > 1:
        return G.synthesis(**space.decode(G, codes))
    options = space.decode(G, jax.tree.map(lambda code: jnp.concatenate([code, code]), codes))
    options["styles"] = G.styles(options["ws"])
    one = {key: jax.tree.map(lambda a: a[:count], options[key]) for key in options if key in ("styles", "f")}
    return G.synthesis(**{**options, **one, "ws": None})


@jax.jit(static_argnums=1)
def _render(G: Generator, space: Space, codes: dict[str, jax.Array]) -> jax.Array:
    return jnp.clip(synthesise(G, space, codes), -1, 1)


def render(G: Generator, space: str | Space, codes: Mapping[str, np.ndarray], batch_size: int = 16) -> np.ndarray:
    """Images of codes.

    Args:
        space: a name, or the Space of a run with its truncation.
        codes: by name, first axis N: "z" [N, z_dim] or [N, num_ws, z_dim], "f" [N, s, s, C].
        batch_size: images at once; the last batch is padded.

    Returns:
        float32 [N, R, R, C], clipped to [-1, 1].

    Raises:
        LsapError: no such space.
    """
    space = parse_space(space)
    count = len(next(iter(codes.values())))
    size = min(batch_size, max(count, 1))
    images = []
    for i in range(0, count, size):
        part = {key: np.asarray(codes[key][i : i + size], np.float32) for key in space.keys}
        missing = size - len(next(iter(part.values())))
        padded = {key: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) for key, a in part.items()}
        images.append(np.asarray(_render(G, space, padded))[: size - missing])
    return (
        np.concatenate(images)
        if images
        else np.zeros((0, G.img_resolution, G.img_resolution, G.img_channels), np.float32)
    )
