"""Which images share a computation: on CPUs none do.

A compiler chooses kernels, tiles and orders of summation by the shape of the whole batch, so the last digits of an
image depend on how many others are computed with it. An optimisation amplifies such differences: gradients of
piecewise-linear networks jump, and Adam turns a tiny gradient of the other sign into a whole step the other way. On
CPUs a batch is therefore a loop over its images: each runs the same program, whatever else is in the batch, and the
features of one image fit into caches better than those of many. Accelerators need a whole batch to be busy; there the
results of an image are the same up to rounding.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def images_at_once(devices: Sequence[jax.Device]) -> int:
    """Default number of images that these devices compute together: 1 on CPUs, else 0, which is all."""
    return 1 if devices[0].platform == "cpu" else 0


def in_groups(size: int, live: jax.Array, function: Callable[..., Any], *trees: Any) -> Any:
    """`function` of trees with leaves [B, ...], computed for `size` images at a time.

    `live` is an input of the program, so that its compiler does not know the number of rounds: it would replace a
    single round by code without a loop, whose rounding differs. Nothing may differentiate through the loop; `function`
    itself may differentiate.

    Args:
        size: 0 is all at once; a size that does not divide B is lowered to one that does.
        live: bool [B], the images that are wanted; a group without any is not computed, and its results are zeros.
        function: of the trees with leaves [size, ...], to a tree of leaves [size, ...].
    """
    batch = jax.tree.leaves(trees)[0].shape[0]
    if not size:
        return function(*trees)
    size = max(n for n in range(1, min(size, batch) + 1) if batch % n == 0)
    if size == batch:  # add an unwanted group: a slice of the whole array would be compiled differently
        trees = jax.tree.map(lambda a: jnp.concatenate([a, a]), trees)
        found = in_groups(size, jnp.concatenate([live, jnp.zeros_like(live)]), function, *trees)
        return jax.tree.map(lambda a: a[:batch], found)
    compute = jax.jit(function)  # traced once, for its shapes and for the loop
    wanted = live.reshape(batch // size, size).any(axis=1)
    order = jnp.argsort(~wanted, stable=True)

    def part(at: jax.Array) -> Any:
        return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, at, size), trees)

    def one_round(k: jax.Array, found: Any) -> Any:
        at = order[k] * size
        new = compute(*part(at))
        return jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, at, 0), found, new)

    shapes = jax.eval_shape(compute, *jax.eval_shape(part, jnp.int32(0)))
    empty = jax.tree.map(lambda s: jnp.zeros((batch, *s.shape[1:]), s.dtype), shapes)
    return jax.lax.fori_loop(0, wanted.sum(), one_round, empty)


def on_batch(function: Callable[..., Any], model: Any, batch: Mapping[str, Any], **options: Hashable) -> Any:
    """`function(model, batch, **options)`, compiled. On CPUs it runs image by image, unless it is being traced: then
    the caller decides.

    Args:
        function: defined at module level, so that it is compiled once.
        batch: name -> array [B, ...], a tree of them, or None.
    """
    leaves = jax.tree.leaves((model, batch))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves) or jax.default_backend() != "cpu":
        return _whole(function, tuple(options.items()), model, batch)
    everyone = np.ones(jax.tree.leaves(batch)[0].shape[0], bool)
    return _by_image(function, tuple(options.items()), model, batch, everyone)


@partial(jax.jit, static_argnums=(0, 1))
def _whole(function: Callable[..., Any], options: tuple, model: Any, batch: Mapping[str, Any]) -> Any:
    return function(model, batch, **dict(options))


@partial(jax.jit, static_argnums=(0, 1))
def _by_image(
    function: Callable[..., Any], options: tuple, model: Any, batch: Mapping[str, Any], live: jax.Array
) -> Any:
    return in_groups(1, live, lambda one: function(model, one, **dict(options)), batch)
