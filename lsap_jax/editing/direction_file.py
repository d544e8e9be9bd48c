"""Files of directions of this package: one safetensors file of kind "directions", bit for bit what was saved.

Tensors are `vectors/NAME@SPACE` and, where there is one, `means/NAME@SPACE`; all else is in the header.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.editing.direction import FAMILIES, Direction
from lsap_jax.editing.layers import Layers
from lsap_jax.errors import LsapError
from lsap_jax.storage.weights_file import read_weights, write_weights

KIND = "directions"
FORBIDDEN = set('/\\:@,"')  # a name is part of a path, and of `--direction FILE:NAME@SPACE`
LONGEST = 100


def save_directions(path: str | Path, directions: Iterable[Direction]) -> str:
    """Write directions, whole or not at all; `load_directions` reads them. Returns the digest of their arrays.

    Raises:
        LsapError: there is no direction, two have one name in one space, one has no vector, or a name cannot stand in
            files and commands.
    """
    directions = tuple(directions)
    if not directions:
        raise LsapError(f"{path}: there are no directions to save")
    arrays, records = {}, []
    for one in directions:
        check_name(path, one.name)
        if one.trajectory is not None:
            raise LsapError(f"{path}: direction {one.name} has no vector, it depends on the code; keep its file")
        key = f"{one.name}@{one.space}"
        if f"vectors/{key}" in arrays:
            raise LsapError(f"{path}: two directions of space {one.space} have the name {one.name}; rename one")
        arrays[f"vectors/{key}"] = np.asarray(one.vector, np.float32)
        if one.mean is not None:
            arrays[f"means/{key}"] = np.asarray(one.mean, np.float32)
        records.append(
            {
                "name": one.name,
                "space": one.space,
                "scale": float(one.scale),
                "layers": one.layers if isinstance(one.layers, str | int | None) else [int(row) for row in one.layers],
                "source": one.source,
                "generator": one.generator,
                "measures": {name: float(value) for name, value in one.measures.items()},
            }
        )
    return write_weights(path, KIND, arrays, {"directions": records}, {})


def read_directions(path: str | Path) -> tuple[Direction, ...]:
    """The directions of a file of `save_directions`, in their order, digest checked.

    Raises:
        LsapError: the file is damaged, or holds something else.
    """
    kind, arrays, config, _ = read_weights(path)
    if kind != KIND:
        raise LsapError(f"{path}: holds {kind!r} weights, not directions; `lsap-jax find-directions` finds some")
    left = dict(arrays)
    try:
        found = tuple(_direction(path, record, left) for record in config["directions"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise LsapError(
            f"{path}: its header and its tensors do not belong together ({error}); find the directions again"
        ) from error
    if left or not found:
        raise LsapError(f"{path}: {next(iter(left), 'no direction')} is not what its header says; find them again")
    return found


def by_name(directions: Iterable[Direction]) -> dict[str, Direction]:
    """Directions by name; by NAME@SPACE where several spaces have one of that name."""
    directions = tuple(directions)
    names = [one.name for one in directions]
    return {one.name if names.count(one.name) == 1 else f"{one.name}@{one.space}": one for one in directions}


def _direction(path: str | Path, record: Mapping[str, Any], left: dict[str, np.ndarray]) -> Direction:
    """The direction of one entry of the header; takes its tensors out of `left`."""
    name, space, scale = record["name"], record["space"], float(record["scale"])
    check_name(path, name)
    vector = left.pop(f"vectors/{name}@{space}")
    mean = left.pop(f"means/{name}@{space}", None)
    if space not in FAMILIES or not (math.isfinite(scale) and scale):
        raise ValueError(f"direction {name} has space {space!r} and scale {scale}")
    for array, shapes in ((vector, (1, 2)), (mean, (1,))):
        if array is not None and not (
            array.dtype == np.float32 and array.ndim in shapes and array.size and np.isfinite(array).all()
        ):
            raise ValueError(f"direction {name} is {array.dtype} {list(array.shape)}, or not finite")
    return Direction(
        name=name,
        space=space,
        vector=vector,
        scale=scale,
        layers=_layers(record["layers"]),
        mean=mean,
        source=str(record["source"]),
        generator=str(record["generator"]),
        measures={str(key): float(value) for key, value in record["measures"].items()},
    )


def _layers(value: Any) -> Layers:
    if value is None or isinstance(value, str) or type(value) is int:
        return value
    if not all(type(row) is int for row in value):
        raise ValueError(f"layers {value!r}")
    return tuple(value)


def check_name(path: str | Path, name: Any) -> None:
    """Raises LsapError if a text cannot be the name of a direction."""
    if not (isinstance(name, str) and 0 < len(name) <= LONGEST and name.isprintable()) or (
        FORBIDDEN & set(name) or name.startswith(".") or name != name.strip()
    ):
        raise LsapError(
            f"{path}: {str(name)[:40]!r} cannot be the name of a direction: use at most {LONGEST} printable "
            f"characters without {' '.join(sorted(FORBIDDEN))} and without a dot in front"
        )
