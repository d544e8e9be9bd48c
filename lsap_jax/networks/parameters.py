"""Strict conversion of the named arrays of a file to Flax params.

Modules name their params as the converter's canonical arrays are named (NVIDIA's or torch's names), so that one rule
per shape replaces a table: dots become levels, convolutions turn from OIHW to HWIO, dense weights are
transposed (`convert_weights.layout`).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from convert_weights.layout import leaf_layout
from lsap_jax.errors import LsapError

Path = tuple[str, ...]


class Layout(NamedTuple):
    """How a file names and lays out the leaves of a tree.

    Attributes:
        name: path of a leaf to the name of its array.
        to_leaf: (name, array as in the file) to the array as the leaf has it; the caller compares the shapes.
    """

    name: Callable[[Path], str]
    to_leaf: Callable[[str, np.ndarray], np.ndarray]

    def under(self, prefix: str) -> "Layout":
        """The same for arrays whose names begin with `prefix`."""
        return Layout(lambda path: prefix + self.name(path), self.to_leaf)


def from_canonical(name: str, a: np.ndarray) -> np.ndarray:
    """A canonical array (torch's layouts) as a leaf, in float32."""
    return np.asarray(leaf_layout(name, a), np.float32)


LEAVES = Layout("/".join, lambda name, a: a)  # as the leaves are
CANONICAL = Layout(".".join, from_canonical)


def to_canonical(name: str, leaf: np.ndarray) -> np.ndarray:
    """The inverse of `from_canonical`; of the discriminator's `b4.fc.weight` it is not."""
    if leaf.ndim in (3, 4):
        return leaf.transpose(*range(leaf.ndim - 1, 1, -1), 0, 1)
    return leaf.T if leaf.ndim == 2 and name.endswith("weight") else leaf


def merge(
    shapes: Mapping[str, Any], arrays: Mapping[str, np.ndarray], what: str, layout: Layout = CANONICAL
) -> dict[str, Any]:
    """Nested float32 params with the structure of `shapes`, every array used once, every leaf filled.

    What files hold as float16 is float32 from here on: programs that read float16 do not compile for processors without
    instructions for it (F16C).

    Args:
        shapes: nested dict of arrays or ShapeDtypeStructs, from `jax.eval_shape` of the module's init.
        arrays: name -> array, floating-point.
        what: named in errors.
        layout: of the arrays.

    Raises:
        LsapError: the message lists missing arrays with -, unexpected ones with +, other shapes or types with !.
    """
    wanted = {layout.name(path): (path, tuple(leaf.shape)) for path, leaf in flatten_dict(dict(shapes)).items()}
    lines = [f"- {name} {shape}" for name, (_, shape) in wanted.items() if name not in arrays]
    lines += [f"+ {name} {arrays[name].shape}" for name in arrays if name not in wanted]
    filled: dict[Path, np.ndarray] = {}
    for name, (path, shape) in wanted.items():
        if name in arrays:
            own = np.asarray(arrays[name])
            a = layout.to_leaf(name, own)
            if a.shape != shape:
                lines.append(f"! {name} is {a.shape}, expected {shape}")
            if own.dtype.kind != "f":
                lines.append(f"! {name} is {own.dtype}, expected floating-point numbers")
            filled[path] = np.asarray(a, np.float32, order="C")
    if lines:
        more = f" and {len(lines) - 12} more" if len(lines) > 12 else ""
        raise LsapError(f"the weights do not fit {what}: {'; '.join(lines[:12])}{more}")
    return unflatten_dict(filled)


def flat(tree: Mapping[str, Any], layout: Layout = LEAVES) -> dict[str, np.ndarray]:
    """The leaves of a tree as they are, by their names in a file."""
    return {layout.name(path): np.asarray(leaf) for path, leaf in flatten_dict(dict(tree)).items()}


def canonical(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The leaves of a tree as the converter names them and lays them out: the inverse of `merge`."""
    return {name: to_canonical(name, leaf) for name, leaf in flat(tree, CANONICAL).items()}


def initial_shapes(module: nn.Module, *inputs: tuple[int, ...]) -> dict[str, Any]:
    """Params tree of a module that takes float32 arrays of these shapes, as ShapeDtypeStructs; nothing is computed."""
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    # The key is made inside, too: outside, two programs would be compiled for it.
    return jax.eval_shape(lambda *given: module.init(jax.random.key(0), *given), *arrays)["params"]  # type: ignore[no-any-return]


def halved(params: Any) -> Any:
    """Params rounded to numbers that float16 has, as float32 on the host: `stored` keeps them in half the bytes."""
    return jax.tree.map(lambda a: np.asarray(np.asarray(a, np.float16), np.float32), params)


def stored(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Params as files hold them: as float16 if it has all their numbers, and as they are if not."""
    with np.errstate(over="ignore"):
        half = jax.tree.map(lambda a: np.asarray(a, np.float16), dict(params))
    same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), b), dict(params), half)
    return half if all(jax.tree.leaves(same)) else params


def count(params: Mapping[str, Any]) -> int:
    """Number of scalars in a params tree."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
