"""Images of codes and of their refinements."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.configuration import recorded
from lsap_jax.errors import LsapError
from lsap_jax.models.classes import labels_from, no_class
from lsap_jax.models.generator import Generator
from lsap_jax.networks.image_by_image import images_at_once, in_groups, on_batch
from lsap_jax.networks.synthesis import NoiseMode
from lsap_jax.rendering.devices import merge, over_devices, padded_size, replicate, shard
from lsap_jax.rendering.refinement import Refinement, check, count, merged, take
from lsap_jax.rendering.transforms import parts
from lsap_jax.spaces import Space, parse_space, space_from_config
from lsap_jax.spaces.decoded import Decoded
from lsap_jax.spaces.feature import check_resolution
from lsap_jax.spaces.statistics import with_statistics

# (networks, space, codes, refinement, *inputs)
PerBatch = Callable[..., Any]


def decode(G: Generator, space: Space, codes: Mapping[str, jax.Array], refinement: Refinement | None = None) -> Decoded:
    """`Space.decode` of codes [B, ...], with each image's own changes of the mapping network, if it has any."""
    weights = {} if refinement is None else refinement.weights
    own = {path: change for path, change in weights.items() if path.startswith("mapping.")}
    if not own:
        return space.decode(G, dict(codes))

    def one(codes: Mapping[str, jax.Array], own: Mapping[str, Any]) -> Decoded:
        decoded = space.decode(merged(G, own), {key: a[None] for key, a in codes.items()})
        return jax.tree.map(lambda a: a[0], decoded)  # type: ignore[no-any-return]

    if len(next(iter(codes.values()))) == 1:  # as `_refined`
        return space.decode(merged(G, jax.tree.map(lambda a: a[0], own)), dict(codes))
    return jax.vmap(one)(dict(codes), own)  # type: ignore[no-any-return]


def synthesise(G: Generator, decoded: Decoded, refinement: Refinement | None = None) -> jax.Array:
    """Unclipped images [B, R, R, C] of decoded codes (`Space.decode`) and their refinement, leaves [B, ...] both."""
    if refinement is None:
        return _picture(G, decoded)
    return on_batch(_refined, G, {"decoded": decoded, "refinement": refinement})  # type: ignore[no-any-return]


def _picture(G: Generator, decoded: Decoded, transforms: Mapping[str, Any] | None = None) -> jax.Array:
    return G.synthesis(
        decoded.ws if transforms else None,  # the layers read styles; ws are for transforms alone
        decoded.noise_mode,
        f=decoded.f,
        styles=decoded.styles,
        noise=decoded.noise,
        transforms=transforms,
    )


def _refined(G: Generator, batch: Mapping[str, Any]) -> jax.Array:
    """Images, each of a generator with its own changes. A single image is computed by one generator with changed
    weights, as on CPUs; for several images, every changed weight has an axis for the images.
    """
    decoded, refinement = batch["decoded"], batch["refinement"]
    if not refinement.weights:
        return _picture(G, decoded, refinement.transforms)
    if count(refinement) == 1:
        return _own_picture(G, decoded, refinement.transforms, take(refinement, 0).weights)

    def one(decoded: Decoded, refinement: Refinement) -> jax.Array:
        decoded, transforms = jax.tree.map(lambda a: a[None], (decoded, refinement.transforms))
        return _own_picture(G, decoded, transforms, refinement.weights)[0]

    return jax.vmap(one)(decoded, refinement)


def _own_picture(
    G: Generator, decoded: Decoded, transforms: Mapping[str, Any], weights: Mapping[str, Any]
) -> jax.Array:
    """`_picture` by a generator with these changes of its weights, its affine layers among them."""
    own = merged(G, weights)
    if decoded.ws is not None:
        decoded = decoded.replace(styles=own.styles(decoded.ws))
    return _picture(own, decoded, transforms)


def space_of(run: Mapping[str, Any], G: Generator) -> Space:
    """The space of a run's codes, with the truncation and the noise that they were found with.

    Args:
        run: the contents of run.json.

    Raises:
        LsapError: its configuration is none, or does not fit the generator.
    """
    config = recorded(run.get("config"))
    if config.noise_mode not in get_args(NoiseMode):
        raise LsapError(f"config.noise_mode={config.noise_mode!r}: is none of {', '.join(get_args(NoiseMode))}")
    return space_from_config(config, G)


def fitted(
    G: Generator, space: str | Space, codes: Mapping[str, Any]
) -> tuple[Generator, Space, dict[str, np.ndarray]]:
    """Generator, space and float32 arrays for some codes, first axis N. Where codes of a conditional generator have
    labels "c", [N, c_dim] or numbers of classes [N], all three are those of their classes. An F space has the base
    resolution of its codes, which its name does not tell.

    Raises:
        LsapError: the space is unknown, an array of it is missing, the labels do not fit, or f enters this generator
            nowhere.
    """
    space, found = parse_space(space), dict(codes)
    if "c" in codes:
        c = labels_from(G.c_dim, codes["c"], len(next(iter(codes.values()))), "codes c")
        space, found["c"] = replace(space, has_class=True), c
        known = {label.tobytes() for label in np.asarray([] if G.labels is None else G.labels)}
        if not {label.tobytes() for label in c} <= known:
            G = G.for_classes(c)
    elif G.c_dim and space.on_sphere:
        raise no_class(G.c_dim, f"codes of space {space.name} without labels c")
    check_keys(space, found)
    if space.has_base:
        space = replace(space, base_resolution=check_resolution(G, space.f_resolution(found)))
    return G, space, {key: np.asarray(found[key], np.float32) for key in space.keys}


def check_keys(space: Space, codes: Mapping[str, Any]) -> None:
    """Raises LsapError where an array of the space is not among the codes."""
    if missing := [key for key in space.keys if key not in codes]:
        raise LsapError(f"codes of space {space.name} have {', '.join(space.keys)}; missing: {', '.join(missing)}")


def _clipped(G: Generator, space: Space, codes: dict[str, jax.Array], refinement: Refinement | None) -> jax.Array:
    return jnp.clip(synthesise(G, decode(G, space, codes, refinement), refinement), -1, 1)


@lru_cache(maxsize=16)
def _compiled(function: PerBatch, space: Space, devices: tuple[jax.Device, ...]) -> Callable[..., Any]:
    def some(networks: Any, inputs: tuple[Any, ...], live: jax.Array) -> Any:
        return in_groups(images_at_once(devices), live, partial(function, networks, space), *inputs)

    return jax.jit(some) if len(devices) < 2 else over_devices(some, devices)


def per_batch(
    function: PerBatch,
    G: Generator,
    space: Space,
    batch_size: int,
    devices: Sequence[jax.Device],
    beside: Any = None,
) -> Callable[..., Any]:
    """Turns a function of one batch into a function of any number of codes, computed on these devices. The generator is
    copied to them once, and every call computes `batch_size` codes (padded to the devices), so that nothing is compiled
    twice.

    Args:
        function: (G, space, codes [B, ...], refinement [B, ...] or None, *inputs [B, ...]) to a tree of arrays
            [B, ...]; G has its statistics where the space needs them, or where it came with them.
        beside: other networks, a pytree; the function then gets (G, beside) in place of G.

    Returns:
        (codes, refinement=None, *inputs), first axis N, to the function's tree of arrays [N, ...].
    """
    if space.needs_statistics:
        G = with_statistics(G)
    G = G.bare("discriminator", "statistics", *parts())
    if space.has_class:  # codes bring their labels: sets of other classes need no other program
        G = G.replace(labels=None)
    compiled = _compiled(function, space, tuple(devices))
    networks = G if beside is None else (G, beside)
    copies, size = networks, batch_size
    if len(devices) > 1:
        copies, size = replicate(networks, devices), padded_size(batch_size, devices)

    def run(*part: Any) -> Any:
        if len(devices) < 2:
            return jax.tree.map(np.asarray, compiled(copies, *part))
        return merge(compiled(copies, *shard(part, len(devices))))

    def computed(codes: Mapping[str, np.ndarray], refinement: Refinement | None = None, *inputs: Any) -> Any:
        kept = {key: np.asarray(codes[key], np.float32) for key in space.keys}
        return _batched(run, (kept, refinement, *inputs), size)

    return computed


def renderer(G: Generator, space: Space, batch_size: int, devices: Sequence[jax.Device]) -> Callable[..., np.ndarray]:
    """`render` for many calls, by `per_batch`: a function of (codes, refinement=None)."""
    return per_batch(_clipped, G.without("discriminator"), space, batch_size, devices)


def render(
    G: Generator,
    space: str | Space,
    codes: Mapping[str, np.ndarray],
    batch_size: int = 16,
    *,
    refinement: Refinement | None = None,
) -> np.ndarray:
    """Images of codes.

    Args:
        space: a name, or the Space of a run with its truncation.
        codes: by name, first axis N: the detail code and, where the space has them, "f" [N, s, s, C] and "noise"; of a
            conditional generator the labels "c" [N, c_dim] or classes [N], which z spaces need.
        batch_size: images at once; the last batch is padded.
        refinement: of the same N images.

    Returns:
        float32 [N, R, R, C], clipped to [-1, 1].

    Raises:
        LsapError: the space is unknown, the codes are of another space, or the refinement is of other images or of
            another generator.
    """
    G, space, codes = fitted(G, space, codes)
    images = len(next(iter(codes.values())))
    if refinement is not None:
        check(G, refinement, images)
    if not images:
        return np.zeros((0, G.img_resolution, G.img_resolution, G.img_channels), np.float32)
    return renderer(G, space, min(batch_size, images), jax.local_devices()[:1])(codes, refinement)


def _batched(function: Callable[..., Any], inputs: Any, size: int) -> Any:
    """Applies a function of exactly `size` images and a mask of the wanted ones to a tree of N > 0 images."""
    found = []
    for i in range(0, len(jax.tree.leaves(inputs)[0]), size):
        part = jax.tree.map(lambda a, i=i: np.asarray(a[i : i + size]), inputs)
        missing = size - len(jax.tree.leaves(part)[0])
        padded = jax.tree.map(lambda a, n=missing: np.concatenate([a, np.repeat(a[-1:], n, axis=0)]), part)
        live = np.arange(size) < size - missing
        found.append(jax.tree.map(lambda a, kept=size - missing: a[:kept], function(padded, live)))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)
