"""Sums in an order that the code fixes, forwards and backwards.

A compiler adds up in whatever order suits an array's shape, so the last digits of an image's sums depend on how many
images are computed beside it, and on how many devices. An inversion amplifies that: piecewise-linear networks make its
gradient jump, and Adam turns a tiny gradient of the other sign into a whole step the other way. Here a sum is a tree of
plain additions, which no compiler may reorder, and an image comes out the same in every batch. Trees also round less
than adding up in a row.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

_BRANCHES = 16  # terms added at once: one loop over the array, into which compilers fuse what makes the terms


def total(x: jax.Array, axes: int | tuple[int, ...], keepdims: bool = False) -> jax.Array:
    """`jnp.sum` of x over one axis or over neighbouring ones."""
    chosen = sorted(axis % x.ndim for axis in (axes if isinstance(axes, tuple) else (axes,)))
    first, count = chosen[0], len(chosen)
    if chosen != list(range(first, first + count)):
        raise ValueError(f"axes {axes} are not neighbours")
    before, after = x.shape[:first], x.shape[first + count :]
    summed = _total(x.reshape((*before, math.prod(x.shape[first : first + count]), *after)), first)
    return summed.reshape((*before, *(1,) * (count * keepdims), *after))


def average(x: jax.Array, axes: int | tuple[int, ...], keepdims: bool = False) -> jax.Array:
    """`jnp.mean` of x over one axis or over neighbouring ones."""
    summed = total(x, axes, keepdims)
    return summed * (summed.size / x.size)


@jax.custom_vjp
def scaled(x: jax.Array, s: jax.Array) -> jax.Array:
    """x · s, of x's dtype, for an s of as many axes, each of x's length or 1; those of length 1 are neighbours.

    The gradient to s is a `total`, in the precision of s.
    """
    return x * s.astype(x.dtype)


def _scaled_fwd(x: jax.Array, s: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return scaled(x, s), (x, s)


def _scaled_bwd(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, s = saved
    axes = tuple(i for i, (a, b) in enumerate(zip(x.shape, s.shape, strict=True)) if a != b)
    ds = g.astype(s.dtype) * x.astype(s.dtype)
    return scaled(g, s), total(ds, axes, keepdims=True) if axes else ds


scaled.defvjp(_scaled_fwd, _scaled_bwd)


class Matrix(struct.PyTreeNode):
    """A weight of `matmul` that nobody differentiates, with its transpose: made once per run."""

    direct: jax.Array  # [i, o]
    transposed: jax.Array  # [o, i]

    @staticmethod
    def of(weight: jax.Array) -> "Matrix":
        return Matrix(weight, weight.T)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.direct.shape

    def astype(self, dtype: jnp.dtype) -> "Matrix":
        return jax.tree.map(lambda a: a.astype(dtype), self)


def matmul(x: jax.Array, weight: jax.Array | Matrix) -> jax.Array:
    """x [..., i] @ weight [i, o] with an order of summation that does not depend on the number of rows.

    XLA's CPU backend (jaxlib 0.10) has it where the second operand is laid out by output, and there are two rows or
    more: a single one is computed twice.
    """
    rows = x.reshape(-1, x.shape[-1])
    multiply = _frozen if isinstance(weight, Matrix) else _matmul
    y = multiply(rows, weight) if len(rows) > 1 else multiply(jnp.concatenate([rows, rows]), weight)[:1]
    return y.reshape(*x.shape[:-1], weight.shape[1])


def _by_output(x: jax.Array, transposed: jax.Array) -> jax.Array:
    return jax.lax.dot_general(x, transposed, (((1,), (1,)), ((), ())))


@jax.custom_vjp
def _matmul(x: jax.Array, weight: jax.Array) -> jax.Array:
    return _by_output(x, jax.lax.optimization_barrier(weight.T))  # else the transposition is folded into the product


def _matmul_fwd(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _matmul(x, weight), (x, weight)


def _matmul_bwd(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    return _by_output(g, weight), x.T @ g


_matmul.defvjp(_matmul_fwd, _matmul_bwd)


@jax.custom_vjp
def _frozen(x: jax.Array, weight: Matrix) -> jax.Array:
    return _by_output(x, weight.transposed)


def _frozen_fwd(x: jax.Array, weight: Matrix) -> tuple[jax.Array, Matrix]:
    return _frozen(x, weight), weight


def _frozen_bwd(weight: Matrix, g: jax.Array) -> tuple[jax.Array, None]:
    return _by_output(g, weight.direct), None


_frozen.defvjp(_frozen_fwd, _frozen_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _total(x: jax.Array, axis: int) -> jax.Array:
    """Sum over one axis, which is kept with length 1: `_BRANCHES` slices at a time."""
    while (n := x.shape[axis]) > 1:
        branches = max(d for d in range(1, _BRANCHES + 1) if n % d == 0)
        if branches == 1:  # a prime
            branches = _BRANCHES
            x = jnp.pad(x, [(0, -n % branches if i == axis else 0) for i in range(x.ndim)])
        length = x.shape[axis] // branches
        terms = [jax.lax.slice_in_dim(x, i * length, (i + 1) * length, axis=axis) for i in range(branches)]
        while len(terms) > 1:
            pairs = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
            terms = pairs + terms[2 * len(pairs) :]
        x = terms[0]
    return x


def _total_fwd(x: jax.Array, axis: int) -> tuple[jax.Array, tuple[int, ...]]:
    return _total(x, axis), x.shape


def _total_bwd(axis: int, shape: tuple[int, ...], g: jax.Array) -> tuple[jax.Array]:
    return (jnp.broadcast_to(g, shape),)


_total.defvjp(_total_fwd, _total_bwd)
