"""Which images share a computation: on processors none do.

A compiler chooses kernels, tiles and orders of summation by the shape of the whole batch, so the last digits of an
image depend on how many are computed beside it, and an optimisation amplifies them: piecewise-linear networks make its
gradient jump, and Adam turns a tiny gradient of the other sign into a whole step the other way. On processors a batch
is therefore a loop over its images: each runs the same program, whatever is beside it, and caches hold the features of
one image better than those of many. Accelerators need the batch to be busy; there an image comes out the same up to
rounding.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def images_at_once(devices: Sequence[jax.Device]) -> int:
    """Images that these devices compute together where nobody says otherwise: 1 on processors, else 0, all."""
    return 1 if devices[0].platform == "cpu" else 0


def in_groups(size: int, live: jax.Array, function: Callable[..., Any], *trees: Any) -> Any:
    """`function` of trees with leaves [B, ...], computed for `size` images at a time.

    `live` is an input of the program, so that its compiler does not know the number of rounds: it would write out a
    single round without the loop, and round it otherwise. Nothing differentiates through the loop; `function` may
    differentiate.

    Args:
        size: 0 is all at once; a size that does not divide B is lowered to one that does.
        live: bool [B], the images that are wanted; a group without one is not computed and comes out as zeros.
        function: of the trees with leaves [size, ...], to a tree of leaves [size, ...].
    """
    batch = jax.tree.leaves(trees)[0].shape[0]
    if not size:
        return function(*trees)
    size = max(n for n in range(1, min(size, batch) + 1) if batch % n == 0)
    if size == batch:  # with a place that nobody wants: slices of a whole array are none, and are compiled otherwise
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
    """`function(model, batch, **options)`, compiled. On processors image by image, unless a trace is under way: whoever
    traces decides for itself.

    Args:
        function: of a module, so that it is compiled once.
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
