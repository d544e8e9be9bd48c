"""Directions from the files that other projects publish, read without running anything inside them.

| file                                 | holds                                   | space, layers              |
|--------------------------------------|-----------------------------------------|----------------------------|
| age.pt, smile.pt, rotation.pt        | [1, 512]                                | W, all                     |
| pose.pt (e4e, BDInvert)              | [1, 18, 512], rows alike                | W, all                     |
| *_w_boundary.npy (InterFaceGAN)      | [1, d]                                  | W, all                     |
| *_boundary.npy                       | [1, d], for Z+ also [1, num_ws · d]     | Z, all                     |
| *boundary.npy (HiGAN, pickled)       | boundary [1, d], manipulate_layers      | as above, these layers     |
| any, with several arrays             | a direction under each name             | that of `space`, all       |
| factor.pt (rosinality's SeFa)        | eigvec [d, d], a direction per column   | W, all                     |
| ffhq_pca.pt (GANSpace in PTI, e4e)   | mean [1, d], comp [K, 1, d], std [K]    | W; named ones have a range |
| *.npz (GANSpace)                     | act_comp, act_mean, act_stdev (layer's) | lat_*: Z where all         |
|                                      | lat_comp, lat_mean, lat_stdev           | lat_stdev are 1, else W    |
| mapper of StyleCLIP, also converted  | networks for ranges of rows             | W+, as `layers` has it     |
| *.safetensors (`save_directions`)    | any number of directions                | each its own               |

Files in `LAYOUTS` are told by the names of their arrays. Equal rows are one row, for any number of layers.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convert_weights import ConversionError
from convert_weights.codes import DIRECTIONS
from convert_weights.recognise import opened
from convert_weights.structure import Structure
from convert_weights.styleclip import is_mapper
from convert_weights.tensors import Tensor, as_float32
from lsap_jax.editing.direction import FAMILIES, Direction
from lsap_jax.editing.direction_file import by_name, check_name, read_directions
from lsap_jax.editing.layers import Layers
from lsap_jax.editing.mapper import mapper_direction
from lsap_jax.errors import LsapError
from lsap_jax.models.styleclip import StyleclipMapper
from lsap_jax.storage.weights_file import is_weights_file, read_weights

# Names of files that tell the space of the direction, the first that fits.
SPACES = (
    (re.compile(r"(age|smile|pose|rotation)\.pt"), "w"),
    (re.compile(r".*_w_.*boundary\.npy"), "w"),
    (re.compile(r".*boundary\.npy"), "z"),
)
# Component and rows of named directions of the FFHQ generator (GANSpace's and e4e's notebooks, which apply them as
# absolute coordinates of about ±20).
FFHQ_FILE = "ffhq_pca.pt"
FFHQ_NAMED = {
    "eye_openness": (54, range(7, 8)),
    "smile": (46, range(4, 5)),
    "trimmed_beard": (58, range(7, 9)),
    "white_hair": (57, range(7, 10)),
    "lipstick": (34, range(10, 11)),
}
FACTORS, BOUNDARY, PCA_KEYS, NPZ_KEYS = DIRECTIONS
LARGEST = 2**30  # bytes
MOST_COMPONENTS = 2**13


@dataclass(frozen=True)
class Source:
    """A file of directions.

    Attributes:
        path: of the file.
        contents: what it holds.
        space, layers: what the user gives in place of what the file says.
    """

    path: Path
    contents: Structure
    space: str | None
    layers: Layers

    @cached_property
    def arrays(self) -> Mapping[str, Tensor]:
        """The arrays by name; a single one has the name of the file, those in dictionaries the keys before theirs."""
        single = self.contents.tensor
        found = self.contents.everything if single is None else {"": single}
        alone = len(found) == 1 and not any(set(row.keys) <= found.keys() for row in LAYOUTS)
        return {self.path.stem: next(iter(found.values()))} if alone else found

    def value(self, name: str) -> np.ndarray:
        """The finite array of this name."""
        try:
            values = np.array(as_float32(self.arrays[name]))
        except ConversionError as error:
            raise LsapError(f"{self.path}: array {name} {error}") from None
        if not (values.ndim and values.size and np.isfinite(values).all()):
            raise LsapError(f"{self.path}: array {name} is empty or not finite; download it again")
        return values


class Layout(NamedTuple):
    """A row: names that tell a layout of files among those of the arrays, and its reader."""

    keys: tuple[str, ...]
    read: Callable[[Source], dict[str, Direction]]


def load_directions(
    path: str | os.PathLike, *, space: str | None = None, layers: Layers = None
) -> dict[str, Direction]:
    """Directions by name; one from a file of one, `ganspace-0`, ... from one of principal components, `factor-0`, ...
    from one of SeFa's factors. A name that several spaces have is NAME@SPACE.

    Args:
        path: a file of the table above.
        space: the family it is of (z, w, s, p, pn), where its name or content does not say, or in place of what they
            say; "w" takes the act_* components of a GANSpace file of Z. Of this package's own files it picks those of
            that space.
        layers: the range for all of them (`layer_rows`), in place of the file's own.

    Raises:
        LsapError: the file is not readable, hostile, not a direction, not finite, or of unknown space.
    """
    path = Path(path)
    if space not in (None, *FAMILIES):
        raise LsapError(f"space {space!r}: directions are of {', '.join(FAMILIES)}")
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise LsapError(f"{path}: has {size} bytes; files of directions have at most {LARGEST}")
        if is_weights_file(path):
            mapped = read_weights(path)[0] == StyleclipMapper.kind
            return (_mapper if mapped else _own)(path, space, layers)
        with opened(path) as contents:
            if is_mapper(contents):
                return _mapper(path, space, layers)
            return _read(Source(path, contents, space, layers))
    except ConversionError as error:
        raise LsapError(str(error)) from None
    except OSError as error:
        raise LsapError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except (MemoryError, RecursionError) as error:
        raise LsapError(f"{path}: needs more memory or nesting than directions do ({type(error).__name__})") from None


def _mapper(path: Path, space: str | None, layers: Layers) -> dict[str, Direction]:
    """The direction of a mapper's file."""
    if space not in (None, "w"):
        raise LsapError(f"{path}: is a mapper of w, not of {space}; leave @SPACE out")
    return by_name([mapper_direction(path, layers)])


def _own(path: Path, space: str | None, layers: Layers) -> dict[str, Direction]:
    """Directions of a file of this package, of one space where it is given."""
    found = read_directions(path)
    chosen = [one for one in found if space in (None, one.space)]
    if not chosen:
        raise LsapError(f"{path}: holds directions of {', '.join(sorted({d.space for d in found}))}, none of {space}")
    return by_name(chosen if layers is None else [replace(one, layers=layers) for one in chosen])


def _read(source: Source) -> dict[str, Direction]:
    """The directions of a file of another project."""
    found = next((row for row in LAYOUTS if set(row.keys) <= source.arrays.keys()), None)
    return _by_name(source) if found is None else found.read(source)


def _space_of_name(path: Path) -> str:
    found = next((space for names, space in SPACES if names.fullmatch(path.name)), None)
    if found is not None:
        return found
    raise LsapError(
        f"{path}: the space of this direction is unknown; give space={' or '.join(FAMILIES)}, on the command "
        "line as FILE@SPACE"
    )


def _by_name(source: Source) -> dict[str, Direction]:
    """A direction for each array, or for each dictionary with a boundary and the layers that it is for."""
    if not source.arrays:
        raise LsapError(f"{source.path}: holds no arrays; a direction is one array, [1, d] or [1, rows, d]")
    space = source.space or _space_of_name(source.path)
    tail = f"/{BOUNDARY[0]}"
    return dict(_one(source, space, key.removesuffix(tail), key) for key in source.arrays)


def _boundary(source: Source) -> dict[str, Direction]:
    """One boundary with the layers that it is for, as HiGAN saves it."""
    space = source.space or _space_of_name(source.path)
    return dict([_one(source, space, source.path.stem, BOUNDARY[0])])


def _one(source: Source, space: str, name: str, key: str) -> tuple[str, Direction]:
    check_name(source.path, name)
    layers = _manipulated(source, key) if source.layers is None else source.layers
    of = f"file {source.path.name}" + f", {name}" * (name != source.path.stem)
    return name, Direction(
        name=name, space=space, vector=_rows(source.path, source.value(key)), layers=layers, source=of
    )


def _manipulated(source: Source, key: str) -> Layers:
    """The rows in `meta_data` beside a boundary; None where there are none, which means all."""
    beside = source.contents.mapping
    for part in key.split("/")[:-1]:
        beside = beside.get(part) or {}
    meta = beside.get("meta_data")
    rows = meta.get("manipulate_layers") if isinstance(meta, dict) else None
    if rows is None or (isinstance(rows, list) and not rows):
        return None
    if not isinstance(rows, list | tuple) or not all(type(row) is int for row in rows):
        raise LsapError(f"{source.path}: its manipulate_layers are no rows; choose them with --layers, as 0-3")
    return tuple(rows)


def _rows(path: Path, values: np.ndarray) -> np.ndarray:
    """[d] or [rows, d] of [d], [1, d], [rows, d] or [1, rows, d]."""
    squeezed = values[0] if values.ndim > 1 and len(values) == 1 else values
    if squeezed.ndim not in (1, 2) or squeezed.size < 2:
        raise LsapError(
            f"{path}: an array of shape {list(values.shape)} is not a direction, which is [1, d] or [1, rows, d]"
        )
    return squeezed


def _factors(source: Source) -> dict[str, Direction]:
    """The eigenvectors of SeFa, the columns of `eigvec`: directions of W, the one with the largest eigenvalue first."""
    if source.space not in (None, "w"):
        raise LsapError(f"{source.path}: its factors are directions of w, not of {source.space}; leave @SPACE out")
    factors = source.value(FACTORS[0])
    if factors.ndim != 2 or factors.shape[1] > factors.shape[0]:
        raise LsapError(f"{source.path}: eigvec is {list(factors.shape)}, not a matrix with a direction per column")
    return {
        f"factor-{k}": Direction(
            name=f"factor-{k}",
            space="w",
            vector=np.ascontiguousarray(factors[:, k]),
            layers=source.layers,
            source=f"file {source.path.name}, column {k}",
        )
        for k in range(factors.shape[1])
    }


def _pca(source: Source) -> dict[str, Direction]:
    """Components of W as PTI and e4e keep them; those of FFHQ's generator also by the names of their notebooks."""
    found = _components(source, [source.value(key) for key in PCA_KEYS], source.space or "w")
    return {**found, **(_named(found) if source.path.name == FFHQ_FILE and source.layers is None else {})}


def _ganspace(source: Source) -> dict[str, Direction]:
    """A file of GANSpace. In W files latents are w and have their deviations; in others latents are z."""
    comp, mean, std = (source.value(key) for key in NPZ_KEYS)
    own = "z" if (std == 1).all() else "w"
    if source.space in (None, own):
        return _components(source, [mean, comp, std], own)
    keys = ("act_mean", "act_comp", "act_stdev")
    if source.space != "w" or not set(keys) <= source.arrays.keys():
        raise LsapError(f"{source.path}: its components are of {own}, not of {source.space}; leave space out")
    return _components(source, [source.value(key) for key in keys], "w")


def _components(source: Source, parts: list[np.ndarray], space: str) -> dict[str, Direction]:
    """Directions of (mean, components [K, ..., d], deviations [K]); Z has no absolute coordinate."""
    mean, comp, std = parts
    if len(comp) > MOST_COMPONENTS:
        raise LsapError(
            f"{source.path}: holds {len(comp)} components, at most {MOST_COMPONENTS} are read; keep the first ones"
        )
    comp, std, mean = comp.reshape(len(comp), -1), std.reshape(-1), mean.reshape(-1)
    if std.shape != comp.shape[:1] or mean.shape != comp.shape[1:]:
        raise LsapError(
            f"{source.path}: components {list(parts[1].shape)}, deviations {list(parts[2].shape)} and mean "
            f"{list(parts[0].shape)} do not belong together; download it again"
        )
    return {
        f"ganspace-{k}": Direction(
            name=f"ganspace-{k}",
            space=space,
            vector=comp[k],
            scale=float(std[k]),
            layers=source.layers,
            mean=None if space == "z" else mean,
            source=f"file {source.path.name}, component {k}",
        )
        for k in range(len(comp))
    }


def _named(components: Mapping[str, Direction]) -> dict[str, Direction]:
    found = {}
    for name, (k, rows) in FFHQ_NAMED.items():
        if (one := components.get(f"ganspace-{k}")) is not None:
            found[name] = replace(one, name=name, layers=tuple(rows))
    return found


LAYOUTS = (
    Layout(PCA_KEYS, _pca),
    Layout(NPZ_KEYS, _ganspace),
    Layout(FACTORS, _factors),
    Layout(BOUNDARY, _boundary),
)
