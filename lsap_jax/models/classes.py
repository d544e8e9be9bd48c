"""Classes of conditional generators: the labels c that the mapping network reads beside z.

A label is a vector [c_dim]: 1 at the class and 0 elsewhere, or anything between, as NVlabs' networks take it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lsap_jax.errors import LsapError


class ByClass(struct.PyTreeNode, kw_only=True):
    """Values that depend on the class.

    Attributes:
        labels: [K, c_dim], all different.
        values: a tree with leaves [K, ...].
    """

    labels: jax.Array
    values: Any

    def of(self, c: jax.Array) -> Any:
        """The values of labels c [B, c_dim], each one of `labels`: the tree with leaves [B, ...]."""
        at = jnp.argmax((c[:, None] == self.labels[None]).all(-1), axis=1)
        # Without the barrier the compiler treats a table of one class otherwise than one of several, down to rounding.
        return jax.tree.map(lambda a: jax.lax.optimization_barrier(a[at]), self.values)


def by_class(labels: np.ndarray | jax.Array, values: list[Any]) -> ByClass:
    """The values of K labels [K, c_dim], trees of one shape.

    A single class is there twice: the compiler would not look up the only row of a table, and code around it would
    round otherwise than with several classes.
    """
    if len(labels) == 1:
        labels, values = np.repeat(np.asarray(labels), 2, axis=0), values * 2
    return ByClass(labels=jnp.asarray(labels), values=jax.tree.map(lambda *parts: jnp.stack(parts), *values))


def no_class(c_dim: int, what: str) -> LsapError:
    """The error where a class is needed and none is given; `what` needs it."""
    return LsapError(
        f"{what}: this generator is conditional and needs one of its {c_dim} classes; give --class=K, K from 0 to "
        f"{c_dim - 1}, or --class=FILE.csv of id,class (in Python c=)"
    )


def labels_from(c_dim: int, c: Any, count: int, where: str = "c") -> np.ndarray:
    """Labels of some images.

    Args:
        c_dim: classes of the generator.
        c: the number of a class for all images, numbers [count], a label vector [c_dim] for all, or [count, c_dim].
        where: start of the message of an error.

    Returns:
        float32 [count, c_dim].

    Raises:
        LsapError: the generator has no classes, there is no such class, or c is none of these.
    """
    if not c_dim:
        raise LsapError(f"{where}: this generator is unconditional and takes no class; leave it out")
    given = np.asarray(c)
    if given.ndim < 2 and given.dtype.kind in "iu":
        if wrong := [int(k) for k in given.reshape(-1) if not 0 <= k < c_dim]:
            raise LsapError(f"{where}: there is no class {wrong[0]}; the {c_dim} classes are 0 to {c_dim - 1}")
        if given.shape in ((), (count,)):
            return np.eye(c_dim, dtype=np.float32)[np.broadcast_to(given, (count,))]
    elif given.dtype.kind in "fiu" and given.shape in ((c_dim,), (count, c_dim)) and np.isfinite(given).all():
        return np.broadcast_to(given.astype(np.float32), (count, c_dim)) + np.float32(0)  # no negative zeros
    raise LsapError(
        f"{where}: {given.dtype} of shape {list(given.shape)} for {count} images; give the number of a class, one for "
        f"each image, or finite label vectors [{count}, {c_dim}]"
    )


def plain(label: np.ndarray) -> int | list[float]:
    """A label [c_dim] for JSON and for people: the number of its class, else its numbers."""
    hot = int(np.argmax(label))
    whole = np.array_equal(label, np.eye(len(label), dtype=np.float32)[hot])
    return hot if whole else [float(value) for value in label]
