"""From the converter's canonical arrays (NVIDIA's names, torch layouts) to Flax params, and back: strictly.

The modules of `stylegan2`, `discriminator` and `basecode` name their params as the canonical arrays are named, so one
rule per shape is all the
table there is: dots become levels, convolutions turn from OIHW to HWIO, dense weights are transposed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from lsap_jax.errors import LsapError

# A rule turns a canonical array into the layout of the Flax leaf, or back.
Rule = Callable[[np.ndarray], np.ndarray]


def to_flax_layout(name: str, a: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Canonical array `name` in the layout of a Flax leaf of this shape; the caller compares the shapes."""
    if (
        name.endswith("b4.fc.weight")
        and a.ndim == 2
        and len(shape) == 2
        and a.shape[1] == shape[0]
        and shape[0] % 16 == 0
    ):
        # The discriminator flattens [C, 4, 4]; here it flattens [4, 4, C].
        return a.reshape(a.shape[0], -1, 4, 4).transpose(2, 3, 1, 0).reshape(-1, a.shape[0])
    if a.ndim == 4:
        return a.transpose(2, 3, 1, 0)
    if a.ndim == 3:
        return a.transpose(1, 2, 0)
    return a.T if a.ndim == 2 and name.endswith("weight") else a


def params_from_canonical(shapes: Mapping[str, Any], arrays: Mapping[str, np.ndarray], what: str) -> dict[str, Any]:
    """Nested params with the structure of `shapes`, every array used once, every leaf filled.

    Args:
        shapes: nested dict of arrays or ShapeDtypeStructs, from `jax.eval_shape` of the module's init.
        arrays: canonical name -> array.
        what: named in errors.

    Raises:
        LsapError: lists with - what is missing, with + what nothing asks for, with ! what has another shape.
    """
    wanted = {".".join(path): tuple(leaf.shape) for path, leaf in flatten_dict(dict(shapes)).items()}
    lines = [f"- {n} {wanted[n]}" for n in wanted if n not in arrays] + [
        f"+ {n} {arrays[n].shape}" for n in arrays if n not in wanted
    ]
    filled: dict[tuple[str, ...], np.ndarray] = {}
    for name, shape in wanted.items():
        if name in arrays:
            a = to_flax_layout(name, np.asarray(arrays[name]), shape)
            if a.shape != shape:
                lines.append(f"! {name} is {a.shape}, expected {shape}")
            filled[tuple(name.split("."))] = np.asarray(a, np.float32, order="C")
    if lines:
        more = f" and {len(lines) - 12} more" if len(lines) > 12 else ""
        raise LsapError(f"the weights do not fit {what}: {'; '.join(lines[:12])}{more}")
    return unflatten_dict(filled)


def count(params: Mapping[str, Any]) -> int:
    """Number of scalars in a params tree."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
