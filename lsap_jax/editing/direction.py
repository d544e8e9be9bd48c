"""A direction: a vector of one family of spaces, with what is needed to apply it."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np

from lsap_jax.editing.layers import Layers
from lsap_jax.editing.trajectory import Trajectory
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.spaces import Space, parse_space
from lsap_jax.spaces.space import NAMES
from lsap_jax.storage.weights_file import digest


@dataclass(frozen=True, kw_only=True, eq=False)
class Direction:
    """A direction of editing.

    Attributes:
        name: for people and file names.
        space: the family it belongs to: z (for z, z+, f/z, f/z+), w, s, p or pn.
        vector: float32 [d] for every row of a code, [num_ws, d] a vector per row, or flat [num_ws · d]; empty where
            there is a trajectory.
        trajectory: what makes the vectors where they depend on the code that is moved, else None.
        scale: length of a step of strength 1, in vectors; GANSpace's standard deviation.
        layers: the range it is meant for (`layer_rows`); None is all.
        mean: [d] where the absolute coordinate is 0 (GANSpace), or None.
        source: the method and its settings, or the file.
        generator: `Generator.network_sha256` of the generator it was found with; "" if it is unknown, and for random
            directions, which belong to no generator.
        measures: what its finder measured of it: "variance", its share of that of w (GANSpace); "share" of the squared
            weights (SeFa); "accuracy" and "accuracy_rest" (InterFaceGAN); "channels", the share that moves (StyleCLIP).
            1 is all.
    """

    name: str
    space: str
    vector: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    trajectory: Trajectory | None = None
    scale: float = 1.0
    layers: Layers = None
    mean: np.ndarray | None = None
    source: str = ""
    generator: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)


def family(space: Space) -> str:
    """Spaces whose codes have the same coordinates: f/z+, f/z, z+ and z are z."""
    return space.name.removeprefix("f/").removesuffix("+")


FAMILIES = tuple(dict.fromkeys(family(parse_space(name)) for name in NAMES))  # z, w, s, p, pn


def check_fits(G: Generator, space: Space, direction: Direction) -> None:
    """Raises LsapError where a direction is of another space or generator, or not finite or zero."""
    if direction.trajectory is None:
        fitted(G, space, direction)
        return
    _check_family(space, direction)
    try:
        direction.trajectory.check(G, space)
    except LsapError as error:
        raise LsapError(f"direction {direction.name}: {error}") from None


def _check_family(space: Space, direction: Direction) -> None:
    if direction.space != family(space):
        raise LsapError(
            f"direction {direction.name} is of space {direction.space} and has no meaning for codes of space "
            f"{space.name}"
        )


def fitted(G: Generator, space: Space, direction: Direction) -> np.ndarray:
    """The vector as [d], or one per row [num_ws, d], for codes of this space.

    Raises:
        LsapError: it is of another space or generator; it or its scale is not finite or zero.
    """
    who, vector = f"direction {direction.name}", np.asarray(direction.vector, np.float32)
    _check_family(space, direction)
    if not (np.isfinite(vector).all() and vector.any() and np.isfinite(direction.scale) and direction.scale):
        raise LsapError(f"{who} is zero or not finite; find or download it again")
    shape = space.shape(G)
    if vector.ndim == 1 and len(shape) == 2 and vector.size == math.prod(shape):
        vector = vector.reshape(shape)
    if vector.ndim not in (1, 2) or vector.shape[-1] != shape[-1]:
        raise LsapError(
            f"{who} has shape {list(vector.shape)}; codes of space {space.name} of this generator have {shape[-1]} "
            "numbers per row: it was made for another generator"
        )
    if vector.ndim == 1:
        return vector
    if (vector == vector[:1]).all():  # one vector, whatever the number of layers of the generator it comes from
        return vector[0]
    rows = G.num_ws if space.has_ws else 1
    if len(vector) not in (1, rows):
        raise LsapError(f"{who} has {len(vector)} rows; this generator has {rows}: it was made for another resolution")
    if len(shape) == 1:
        raise LsapError(f"{who} has a vector for every row; space {space.name} has one row: use {space.name}+")
    return vector


def described(direction: Direction) -> dict[str, object]:
    """What results record of a direction: two with equal records move codes alike."""
    arrays = {"vector": np.asarray(direction.vector, np.float32)}
    if direction.trajectory is not None:
        arrays = direction.trajectory.arrays()
    if direction.mean is not None:
        arrays["mean"] = np.asarray(direction.mean, np.float32)
    return {
        "direction": direction.name,
        "source": direction.source,
        "sha256": digest(arrays),
        "scale": float(direction.scale),
        "layers": None if direction.layers is None else str(direction.layers),
    }


def found_elsewhere(G: Generator, directions: Sequence[Direction]) -> str:
    """One line that says which of these directions were found with another generator, or made for another number of
    layers; "" where none was.

    This is not an error: a fine-tuned generator shares the directions of the one it comes from.
    """
    longer = [
        one
        for one in directions
        if np.ndim(one.vector) == 2 and len(one.vector) not in (1, G.num_ws) and (one.vector == one.vector[:1]).all()
    ]
    if longer:
        return (
            f"direction {longer[0].name}: made for a generator with {len(longer[0].vector)} layers, this one has "
            f"{G.num_ws}; its rows are alike and serve all layers, right where both are of one family"
        )
    if not any(direction.generator for direction in directions):
        return ""
    own = G.network_sha256
    others = [direction for direction in directions if direction.generator not in ("", own)]
    if not others:
        return ""
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return (
        f"direction {others[0].name}{more}: found with a generator of SHA-256 {others[0].generator[:16]}…, not with "
        f"this one ({own[:16]}…); right where one was fine-tuned from the other"
    )


def near(name: str, names: Collection[str]) -> str:
    """ ": did you mean 'smile'? there are smile, beard", the end of a message about a name that is not there."""
    close = get_close_matches(name, list(names), 1, 0.5)
    return (f": did you mean {close[0]!r}? there are " if close else ": there are ") + (", ".join(names) or "none")
