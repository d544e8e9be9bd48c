"""Refinements of images beyond their codes: changes of the generator's weights, and transforms of features.

A `Refinement` is a pytree whose leaves have a first axis N for the images, as codes have; `take` and `stack` go from N
images to one, without that axis, and back. The refinement of one image is saved as arrays (refined/ID.npz):

    weights/PARAMETER/KIND/ARRAY       weights/synthesis.b8.conv0.weight/low_rank/up
    transforms/LAYER/KIND/ARRAY        transforms/b16.conv0/scale_shift/shift
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.networks.arithmetic import FULL
from lsap_jax.rendering.transforms import KINDS
from lsap_jax.storage.results import Record, read_arrays


class Full(struct.PyTreeNode, kw_only=True):
    """W + delta (PTI, arXiv 2106.05744).

    Attributes:
        delta: of the parameter's shape.
    """

    delta: jax.Array

    def __call__(self, w: jax.Array) -> jax.Array:
        return w + self.delta.astype(w.dtype)


class LowRank(struct.PyTreeNode, kw_only=True):
    """W + up · down, of the weight as a matrix: a kernel [k, k, Cin, Cout] is flattened to [k · k · Cin, Cout].

    Attributes:
        up: [rows, rank].
        down: [rank, columns].
    """

    up: jax.Array
    down: jax.Array

    def __call__(self, w: jax.Array) -> jax.Array:
        if w.size != self.up.shape[0] * self.down.shape[1] or w.shape[-1] != self.down.shape[1]:
            raise ValueError(f"up {self.up.shape} · down {self.down.shape} does not fit a weight {w.shape}")
        change = jnp.matmul(self.up.astype(w.dtype), self.down.astype(w.dtype), precision=FULL)
        return w + change.reshape(w.shape)


def as_matrix(w: jax.Array) -> jax.Array:
    """A weight as the matrix [rows, columns] whose change `LowRank` is; a number is [1, 1]."""
    return w.reshape(-1, w.shape[-1] if w.ndim else 1)


class Relative(struct.PyTreeNode, kw_only=True):
    """W · (1 + delta), before modulation and demodulation (HyperStyle, arXiv 2111.15666).

    Attributes:
        delta: of the parameter's shape, or with axes of length 1 that are repeated: all taps of a kernel alike.
    """

    delta: jax.Array

    def __call__(self, w: jax.Array) -> jax.Array:
        return w * (1 + self.delta.astype(w.dtype))


# Name in files -> class, of weight changes; those of transforms are `transforms.KINDS`.
CHANGES: dict[str, type] = {"full": Full, "low_rank": LowRank, "relative": Relative}
PARTS: dict[str, Mapping[str, type]] = {"weights": CHANGES, "transforms": KINDS}


class Refinement(struct.PyTreeNode, kw_only=True):
    """Changes of the generator for each image; leaves [N, ...].

    Attributes:
        weights: parameter as "synthesis.b8.conv0.weight" or "mapping.fc0.weight" -> `Full` or `LowRank`.
        transforms: name of `config.places`, a layer or a block -> a kind of `lsap_jax.rendering.transforms`.
    """

    weights: Mapping[str, Any] = struct.field(default_factory=dict)
    transforms: Mapping[str, Any] = struct.field(default_factory=dict)


def count(refinement: Refinement) -> int:
    """N, the number of images of a refinement that is not empty.

    Raises:
        LsapError: the refinement is empty, or its arrays differ in N.
    """
    counts = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(refinement)}
    if len(counts) != 1:
        raise LsapError(f"arrays of a refinement must agree in the number of images; found {sorted(counts) or 'none'}")
    return counts.pop()


def take(refinement: Refinement, i: Any) -> Refinement:
    """The refinement of image i, without the first axis; a slice or an array of indices keeps that axis."""
    return jax.tree.map(lambda a: a[i], refinement)  # type: ignore[no-any-return]


def stack(refinements: Sequence[Refinement]) -> Refinement:
    """Refinements of single images (`take`) as one of N images, on the host.

    Raises:
        LsapError: the list is empty, or the refinements differ in parameters, layers, kinds or shapes.
    """
    if len({signature(one) for one in refinements}) != 1:
        raise LsapError("refinements to be stacked have the same parameters, layers, kinds and shapes; these differ")
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(a) for a in leaves]), *refinements)  # type: ignore[no-any-return]


def rounded(refinement: Any, dtype: str) -> Any:
    """A refinement, or a part of one, with float32 arrays of the numbers that float16 or float32 has, within a program.

    What is rendered is then what `to_arrays` stores, and no program has float16 arrays, which compilers for processors
    without instructions for them (F16C) refuse.
    """
    return jax.tree.map(_to_float16, refinement) if dtype == "float16" else refinement


def _to_float16(a: jax.Array) -> jax.Array:
    """Nearest numbers of float16, those below its smallest normal number, which `reduce_precision` drops, included."""
    small = jnp.abs(a) < 2.0**-14
    step = 2.0**-24
    return jnp.where(small, jnp.round(a / step) * step, jax.lax.reduce_precision(a, exponent_bits=5, mantissa_bits=10))


def signature(refinement: Refinement | None) -> tuple:
    """A hashable key: `stack` takes refinements of single images whose keys are equal."""
    leaves, tree = jax.tree.flatten(refinement)
    return tree, tuple((np.shape(a), np.result_type(a).name) for a in leaves)


def by_signature(function: Callable[..., Any], refinements: Sequence[Refinement | None], *trees: Any) -> Any:
    """`function(refinement, *trees)` of N images, which may be refined in different ways or not at all.

    Args:
        function: called for the images of each signature with the `stack` of their refinements, or None, and trees of
            arrays [n, ...]; returns a tree of arrays [n, ...]. With one signature the trees are not copied.
        refinements: of single images, N of them.
        trees: of arrays [N, ...].
    """
    places: dict[tuple, list[int]] = {}
    for i, one in enumerate(refinements):
        places.setdefault(signature(one), []).append(i)
    found = []
    for at in places.values():
        alike = [one for i in at if (one := refinements[i]) is not None]
        some = trees if len(places) == 1 else jax.tree.map(lambda a, at=at: np.asarray(a)[at], trees)
        found.append(function(stack(alike) if alike else None, *some))
    if len(found) == 1:
        return found[0]
    order = np.argsort([i for at in places.values() for i in at])
    return jax.tree.map(lambda *parts: np.concatenate(parts)[order], *found)


def to_arrays(refinement: Refinement) -> dict[str, np.ndarray]:
    """The refinement of one image as arrays by name; the head of this file has the names.

    Raises:
        LsapError: a kind is not in the tables.
    """
    found: dict[str, np.ndarray] = {}
    for part, table in PARTS.items():
        for where, one in getattr(refinement, part).items():
            kind = next((name for name, known in table.items() if type(one) is known), None)
            if kind is None:
                raise LsapError(f"{part} of {where}: {type(one).__name__} is not one of the kinds {_names(table)}")
            found |= {f"{part}/{where}/{kind}/{f.name}": _shortest(getattr(one, f.name)) for f in fields(one)}
    return found


def _shortest(a: Any) -> np.ndarray:
    """An array as float16 if it has all its numbers, and as it is if not."""
    whole = np.asarray(a)
    with np.errstate(over="ignore"):
        half = whole.astype(np.float16)
    return half if np.array_equal(half, whole) else whole


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Refinement:
    """The inverse of `to_arrays`, all in float32.

    Raises:
        LsapError: a name, a kind or a set of arrays that `to_arrays` does not write, or an array that is not of finite
            float16 or float32 numbers.
    """
    read: dict[tuple[str, str, str], dict[str, np.ndarray]] = {}
    for name, value in arrays.items():
        part, where, kind, array = words if len(words := name.split("/")) == 4 else ("",) * 4
        if part not in PARTS or not where:
            raise LsapError(f"refinement array {name!r}: names are {' or '.join(PARTS)}/WHERE/KIND/ARRAY")
        if kind not in PARTS[part]:
            raise LsapError(f"refinement array {name!r}: there is no kind {kind!r}; there are {_names(PARTS[part])}")
        a = np.asarray(value)
        if a.dtype not in (np.float16, np.float32) or not np.isfinite(a).all():
            raise LsapError(f"refinement array {name!r}: must hold finite float32 or float16 numbers ({a.dtype})")
        read.setdefault((part, where, kind), {})[array] = a.astype(np.float32)
    found: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for (part, where, kind), given in read.items():
        wanted = [f.name for f in fields(PARTS[part][kind])]
        if given.keys() != set(wanted):
            raise LsapError(f"{part} of {where}: {kind} has {', '.join(wanted)}, not {', '.join(sorted(given))}")
        if where in found[part]:
            raise LsapError(f"{part} of {where}: there are two kinds, {kind} among them; one is allowed")
        found[part][where] = PARTS[part][kind](**given)
    return Refinement(**found)


def read_refinement(folder: str | Path, id: str, manifest: Mapping[str, Record]) -> Refinement | None:
    """What refines an image of a run or of edits (refined/ID.npz), without the first axis; None where nothing does.

    Args:
        manifest: of the folder, from `lsap_jax.storage.results.read_manifest`.

    Raises:
        LsapError: its file is missing or has changed, or holds what `to_arrays` does not write.
    """
    if "refined" not in manifest[id]["sha256"]:
        return None
    return from_arrays(read_arrays(folder, id, "refined", manifest=manifest))


def _names(table: Mapping[str, type]) -> str:
    return ", ".join(table)


def merged(G: Generator, weights: Mapping[str, Any]) -> Generator:
    """G with the weight changes of one image, without an axis of images, in its parameters."""
    if not weights:
        return G
    params = flatten_dict(dict(G.params), sep=".")
    return G.replace(params=unflatten_dict(params | {p: change(params[p]) for p, change in weights.items()}, sep="."))


def check(G: Generator, refinement: Refinement, images: int | None = None) -> None:
    """Raises LsapError where a refinement does not fit this generator or this number of images.

    Its arrays differ in the number of images, it names a parameter or a layer that the generator does not have, or
    shapes do not fit. An empty refinement fits all.
    """
    if not jax.tree.leaves(refinement):
        return
    if count(refinement) != images and images is not None:
        raise LsapError(f"a refinement of {count(refinement)} images does not fit codes of {images} images")
    if len(starts := [name for name, one in refinement.transforms.items() if one.starts]) > 1:
        raise LsapError(f"transforms of {', '.join(starts)}: the synthesis can start at one of them only")
    one = jax.eval_shape(lambda r: take(r, 0), refinement)
    params = flatten_dict(dict(G.params), sep=".")
    for path, change in one.weights.items():
        if path not in params:
            raise LsapError(f"weights of {path}: this generator has no such parameter")
        _check_shape(f"weights of {path}", change, params[path])
    layers = G.config.places
    ws = jax.ShapeDtypeStruct((1, G.num_ws, G.w_dim), jnp.float32)
    for name, transform in jax.eval_shape(lambda r: take(r, slice(1)), refinement).transforms.items():
        if name not in layers:
            raise LsapError(f"transforms of {name}: this generator has no such layer; it has {', '.join(layers)}")
        side, width = layers[name].resolution, layers[name].channels
        features = jax.ShapeDtypeStruct((1, side, side, width), jnp.float32)
        styles = {layer.name: jax.ShapeDtypeStruct((1, layer.width), jnp.float32) for layer in G.config.layers}
        if transform.starts and name not in [entry.name for entry in G.config.entries.values()]:
            raise LsapError(f"transforms of {name}: the synthesis of this generator cannot start there")
        if missing := [part for part in transform.parts if part not in G.parts]:
            raise LsapError(
                f"transforms of {name}: {type(transform).__name__} reads the network {missing[0]!r}, which this "
                "generator does not come with; attach it first"
            )
        _check_shape(f"transforms of {name}", transform, features, G=G, ws=ws, styles=styles)


def _check_shape(what: str, change: Any, before: Any, **seen: Any) -> None:
    """Raises LsapError where a change of an array does not keep its shape."""
    try:
        after = jax.eval_shape(lambda change, before, seen: change(before, **seen), change, before, seen)
    except (TypeError, ValueError) as error:
        raise LsapError(f"{what}: the change does not fit an array of shape {list(before.shape)} ({error})") from error
    if after.shape != before.shape:
        raise LsapError(f"{what}: shape {list(before.shape)} becomes {list(after.shape)}; it must not change")
