"""Directions from the files that other projects publish, read without running anything inside them.

| file                                 | holds                                   | space, layers              |
|--------------------------------------|-----------------------------------------|----------------------------|
| age.pt, smile.pt, rotation.pt        | [1, 512]                                | W, all                     |
| pose.pt (e4e, BDInvert)              | [1, 18, 512], rows alike                | W, all                     |
| *_w_boundary.npy (InterFaceGAN)      | [1, d]                                  | W, all                     |
| *_boundary.npy                       | [1, d], for Z+ also [1, num_ws · d]     | Z, all                     |
| ffhq_pca.pt (GANSpace in PTI, e4e)   | mean [1, d], comp [K, 1, d], std [K]    | W; named ones have a range |
| *.npz (GANSpace)                     | act_comp, act_mean, act_stdev (layer's) | lat_*: Z where all         |
|                                      | lat_comp, lat_mean, lat_stdev           | lat_stdev are 1, else W    |
| *.safetensors (`save_directions`)    | any number of directions                | each its own               |
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np

from convert_weights import ConversionError
from convert_weights.archive import Archive
from convert_weights.builders import Array
from convert_weights.npy import MAGIC, npy_tensor, npz_tensors
from convert_weights.opening import read_file
from convert_weights.tensors import Tensor, as_float32
from convert_weights.torch_file import LEGACY_START, read_legacy, read_plain, read_zip
from lsap_jax.editing.direction import FAMILIES, Direction
from lsap_jax.editing.direction_file import by_name, read_directions
from lsap_jax.editing.layers import Layers
from lsap_jax.errors import LsapError
from lsap_jax.storage.weights_file import is_weights_file

OFFICIAL = {name: "w" for name in ("age.pt", "smile.pt", "pose.pt", "rotation.pt")}
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
PCA_KEYS = ("mean", "comp", "std")
NPZ_KEYS = ("lat_comp", "lat_mean", "lat_stdev")
LARGEST = 2**30  # bytes
MOST_COMPONENTS = 2**13


def load_directions(
    path: str | os.PathLike, *, space: str | None = None, layers: Layers = None
) -> dict[str, Direction]:
    """Directions by name; one from a file of one, `ganspace-0`, ... from one of principal components. A name that
    several spaces have is NAME@SPACE.

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
        if is_weights_file(path):
            return _own(path, space, layers)
        arrays = _read(path)
    except ConversionError as error:
        raise LsapError(f"{path}: {error}") from None
    except OSError as error:
        raise LsapError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except (MemoryError, RecursionError) as error:
        raise LsapError(f"{path}: needs more memory or nesting than directions do ({type(error).__name__})") from None
    if set(PCA_KEYS) <= arrays.keys():
        found = _components(path, [_value(path, arrays, key) for key in PCA_KEYS], space or "w", layers)
        return {**found, **(_named(found) if path.name == FFHQ_FILE and layers is None else {})}
    if set(NPZ_KEYS) <= arrays.keys():
        return _ganspace(path, arrays, space, layers)
    if len(arrays) != 1:
        raise LsapError(f"{path}: holds {', '.join(sorted(arrays)[:8]) or 'no arrays'}; a direction is one array")
    values = _value(path, arrays, next(iter(arrays)))
    one = Direction(
        name=path.stem,
        space=space or _space_of_name(path),
        vector=_rows(path, values),
        layers=layers,
        source=f"file {path.name}",
    )
    return {path.stem: one}


def _own(path: Path, space: str | None, layers: Layers) -> dict[str, Direction]:
    """Directions of a file of this package, of one space where it is given."""
    found = read_directions(path)
    chosen = [one for one in found if space in (None, one.space)]
    if not chosen:
        raise LsapError(f"{path}: holds directions of {', '.join(sorted({d.space for d in found}))}, none of {space}")
    return by_name(chosen if layers is None else [replace(one, layers=layers) for one in chosen])


def _space_of_name(path: Path) -> str:
    if path.name in OFFICIAL:
        return OFFICIAL[path.name]
    if path.name.endswith("boundary.npy"):
        return "w" if "_w_" in path.name else "z"
    raise LsapError(
        f"{path}: the space of this direction is unknown; give space={' or '.join(FAMILIES)}, on the command "
        "line as FILE@SPACE"
    )


def _rows(path: Path, values: np.ndarray) -> np.ndarray:
    """[d] or [rows, d] of [d], [1, d], [rows, d] or [1, rows, d]."""
    squeezed = values[0] if values.ndim > 1 and len(values) == 1 else values
    if squeezed.ndim not in (1, 2) or squeezed.size < 2:
        raise LsapError(
            f"{path}: an array of shape {list(values.shape)} is not a direction, which is [1, d] or [1, rows, d]"
        )
    return squeezed


def _ganspace(path: Path, arrays: Mapping[str, Tensor], space: str | None, layers: Layers) -> dict[str, Direction]:
    """A file of GANSpace. In W files latents are w and have their deviations; in others latents are z."""
    comp, mean, std = (_value(path, arrays, key) for key in NPZ_KEYS)
    own = "z" if (std == 1).all() else "w"
    if space in (None, own):
        return _components(path, [mean, comp, std], own, layers)
    keys = ("act_mean", "act_comp", "act_stdev")
    if space != "w" or not set(keys) <= arrays.keys():
        raise LsapError(f"{path}: its components are of {own}, not of {space}; leave space out")
    return _components(path, [_value(path, arrays, key) for key in keys], "w", layers)


def _components(path: Path, parts: list[np.ndarray], space: str, layers: Layers) -> dict[str, Direction]:
    """Directions of (mean, components [K, ..., d], deviations [K]); Z has no absolute coordinate."""
    mean, comp, std = parts
    if len(comp) > MOST_COMPONENTS:
        raise LsapError(
            f"{path}: holds {len(comp)} components, at most {MOST_COMPONENTS} are read; keep the first ones"
        )
    comp, std, mean = comp.reshape(len(comp), -1), std.reshape(-1), mean.reshape(-1)
    if std.shape != comp.shape[:1] or mean.shape != comp.shape[1:]:
        raise LsapError(
            f"{path}: components {list(parts[1].shape)}, deviations {list(parts[2].shape)} and mean "
            f"{list(parts[0].shape)} do not belong together; download it again"
        )
    return {
        f"ganspace-{k}": Direction(
            name=f"ganspace-{k}",
            space=space,
            vector=comp[k],
            scale=float(std[k]),
            layers=layers,
            mean=None if space == "z" else mean,
            source=f"file {path.name}, component {k}",
        )
        for k in range(len(comp))
    }


def _named(components: Mapping[str, Direction]) -> dict[str, Direction]:
    found = {}
    for name, (k, rows) in FFHQ_NAMED.items():
        if (one := components.get(f"ganspace-{k}")) is not None:
            found[name] = replace(one, name=name, layers=tuple(rows))
    return found


def _value(path: Path, arrays: Mapping[str, Tensor], name: str) -> np.ndarray:
    try:
        values = np.array(as_float32(arrays[name]))
    except ConversionError as error:
        raise LsapError(f"{path}: array {name} {error}") from None
    if not (values.ndim and values.size and np.isfinite(values).all()):
        raise LsapError(f"{path}: array {name} is empty or not finite; download it again")
    return values


def _read(path: Path) -> dict[str, Tensor]:
    """The arrays of a file by name, by the readers of `convert_weights`; its content, not its suffix, decides."""
    data = read_file(path, LARGEST)
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        archive = Archive(BytesIO(data), len(data))
        torch = any(name.endswith((".pkl", "/version", "/byteorder")) for name in archive.names)
        return _tensors(read_zip(archive)) if torch else npz_tensors(archive)
    if data.startswith(MAGIC):
        return {"array": npy_tensor(data)}
    if data.startswith(LEGACY_START):
        return _tensors(read_legacy(memoryview(data)))
    if data.startswith(b"\x80"):
        return _tensors(read_plain(memoryview(data)))
    raise ConversionError("is not an .npy, .npz or .pt file; the download may be incomplete")


def _tensors(root: object) -> dict[str, Tensor]:
    items = root.items() if isinstance(root, dict) else [("array", root)]
    plain = {str(k): v.tensor if isinstance(v, Array) else v for k, v in items}
    return {k: v for k, v in plain.items() if isinstance(v, Tensor)}
