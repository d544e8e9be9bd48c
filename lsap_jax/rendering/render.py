"""Codes back to images."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.networks.image_by_image import images_at_once, in_groups
from lsap_jax.networks.stylegan2 import NoiseMode
from lsap_jax.rendering.devices import merge, over_devices, padded_size, replicate, shard
from lsap_jax.spaces import Space, parse_space, space_from_config
from lsap_jax.spaces.statistics import with_statistics

PerBatch = Callable[[Generator, Space, dict[str, jax.Array]], Any]


class Decoded(struct.PyTreeNode, kw_only=True):
    """What codes stand for in the synthesis network.

    Attributes:
        ws: [B, num_ws, w_dim] after truncation, or None where the codes are styles.
        styles: layer name -> [B, C].
        f: base code [B, s, s, C], or None.
        noise: layer name -> [B, r, r], or None for the generator's own.
    """

    ws: jax.Array | None
    styles: Mapping[str, jax.Array]
    f: jax.Array | None
    noise: Mapping[str, jax.Array] | None
    noise_mode: NoiseMode = struct.field(pytree_node=False)


def decode(G: Generator, space: Space, codes: Mapping[str, jax.Array]) -> Decoded:
    """Codes [B, ...] as inputs of the synthesis."""
    inputs = space.decode(G, dict(codes))
    return Decoded(
        ws=inputs["ws"],
        styles=inputs["styles"] if inputs["ws"] is None else G.styles(inputs["ws"]),
        f=inputs.get("f"),
        noise=inputs.get("noise"),
        noise_mode=inputs["noise_mode"],
    )


def synthesise(G: Generator, decoded: Decoded) -> jax.Array:
    """Images [B, R, R, C], unclipped."""
    return G.synthesis(None, decoded.noise_mode, f=decoded.f, styles=decoded.styles, noise=decoded.noise)


def space_of(run: Mapping[str, Any], G: Generator) -> Space:
    """The space of a run's codes, with the truncation and the noise that they were found with.

    Args:
        run: the contents of run.json.
    """
    return space_from_config(ConfigDict(run["config"]), G)


def check_keys(space: Space, codes: Mapping[str, Any]) -> None:
    """Raises LsapError where an array of the space is not among the codes."""
    if missing := [key for key in space.keys if key not in codes]:
        raise LsapError(f"codes of space {space.name} have {', '.join(space.keys)}; {', '.join(missing)} is not there")


def _clipped(G: Generator, space: Space, codes: dict[str, jax.Array]) -> jax.Array:
    return jnp.clip(synthesise(G, decode(G, space, codes)), -1, 1)


@lru_cache(maxsize=16)
def _compiled(function: PerBatch, space: Space, devices: tuple[jax.Device, ...]) -> Callable[..., Any]:
    def some(G: Generator, codes: dict[str, jax.Array], live: jax.Array) -> Any:
        return in_groups(images_at_once(devices), live, lambda one: function(G, space, one), codes)

    return jax.jit(some) if len(devices) < 2 else over_devices(some, devices)


def per_batch(
    function: PerBatch, G: Generator, space: Space, batch_size: int, devices: Sequence[jax.Device]
) -> Callable[[Mapping[str, np.ndarray]], Any]:
    """A function of codes [B, ...] as one of any number of codes: over these devices, with the generator's copies made
    once, and always `batch_size` codes at once (padded to the devices), so that nothing is compiled twice.

    Args:
        function: (G, space, codes [B, ...]) to a tree of arrays [B, ...]; G has its statistics where the space needs
            them, or where it came with them.
    """
    if space.detail.statistics:
        G = with_statistics(G)
    G = G.replace(basecode=None, encoder=None, provenance_json="{}", source="")
    compiled = _compiled(function, space, tuple(devices))
    if len(devices) < 2:
        return lambda codes: _batched(
            lambda *part: jax.tree.map(np.asarray, compiled(G, *part)), space, codes, batch_size
        )
    copies, size = replicate(G, devices), padded_size(batch_size, devices)
    return lambda codes: _batched(lambda *part: merge(compiled(copies, *shard(part, len(devices)))), space, codes, size)


def renderer(
    G: Generator, space: Space, batch_size: int, devices: Sequence[jax.Device]
) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """`render` for many calls, by `per_batch`."""
    return per_batch(_clipped, G.replace(discriminator=None), space, batch_size, devices)


def render(G: Generator, space: str | Space, codes: Mapping[str, np.ndarray], batch_size: int = 16) -> np.ndarray:
    """Images of codes.

    Args:
        space: a name, or the Space of a run with its truncation.
        codes: by name, first axis N: the space's detail code, "f" [N, s, s, C] and "noise" as it has them.
        batch_size: images at once; the last batch is padded.

    Returns:
        float32 [N, R, R, C], clipped to [-1, 1].

    Raises:
        LsapError: no such space, or codes of another one.
    """
    space = parse_space(space)
    check_keys(space, codes)
    count = len(next(iter(codes.values())))
    if not count:
        return np.zeros((0, G.img_resolution, G.img_resolution, G.img_channels), np.float32)
    return renderer(G, space, min(batch_size, count), jax.local_devices()[:1])(codes)


def _batched(
    function: Callable[[dict[str, np.ndarray], np.ndarray], Any],
    space: Space,
    codes: Mapping[str, np.ndarray],
    size: int,
) -> Any:
    """What a function of exactly `size` codes, and of which of them are wanted, makes of N > 0 of them."""
    count = len(next(iter(codes.values())))
    found = []
    for i in range(0, count, size):
        part = {key: np.asarray(codes[key][i : i + size], np.float32) for key in space.keys}
        missing = size - len(next(iter(part.values())))
        padded = {key: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) for key, a in part.items()}
        live = np.arange(size) < size - missing
        found.append(jax.tree.map(lambda a, kept=size - missing: a[:kept], function(padded, live)))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)
