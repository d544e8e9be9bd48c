"""Latent codes of other tools: an array, one under a name that tools use, or codes by the names of images.

| layout                                        | tools                                  | kind  |
|-----------------------------------------------|----------------------------------------|-------|
| an array [N, D], [N, L, D] or [D]             | any                                    |       |
| {"w": array, ...}, a usual name (`NAMES`)     | projectors of NVlabs, scripts          | names |
| {image: {"img", "latent", "noise"}}           | rosinality's projector                 | w     |
| {image: array}, {image: [array per step]}     | pSp's and ReStyle's inference          |       |
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np

from convert_weights.builders import Array
from convert_weights.checkpoint import Checkpoint, ConversionError, Part, listed, shown, together
from convert_weights.match import Matched, read_array
from convert_weights.structure import Structure
from convert_weights.tensors import FLOATS, Tensor

NAMES = ("w", "ws", "wp", "w_plus", "z", "zs", "latent", "latents", "latent_code", "codes", "dlatents", "projected_w")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
PICKLED = "pickled .npy"
PROJECTED = "latent"  # of rosinality's projector, beside "img" and "noise"
# Arrays that tell files of directions: SeFa's factors, boundaries, GANSpace as PTI has it, GANSpace's own.
DIRECTIONS = (("eigvec",), ("boundary",), ("mean", "comp", "std"), ("lat_comp", "lat_mean", "lat_stdev"))


def single(structure: Structure) -> Checkpoint:
    """The codes of a file that holds one tensor."""
    assert structure.tensor is not None
    return codes({"tensor": structure.tensor}, structure.placed)


def numpy_file(structure: Structure) -> Checkpoint:
    """The codes of an .npy or .npz file."""
    return codes(structure.own, f"{structure.placed} file")


def are_codes(structure: Structure) -> bool:
    """Whether a dict holds nothing but tensors with at most three axes, as codes have."""
    return bool(structure.own) and not structure.parts and all(len(t.shape) <= 3 for t in structure.own.values())


def are_directions(structure: Structure) -> bool:
    """Whether these are directions of editing, of which codes have the shapes."""
    return any(set(keys) <= structure.own.keys() for keys in DIRECTIONS)


def are_by_image(structure: Structure) -> bool:
    """Whether a dict has the codes of images by name: a projector's, pictures' files, lists of steps."""
    root = structure.mapping
    if not root or set(root) & set(NAMES):
        return False
    projected = [isinstance(value, dict) and PROJECTED in value for value in root.values()]
    pictures = [PurePosixPath(str(key)).suffix.lower() in PICTURES for key in root]
    steps = [isinstance(value, (list, tuple)) and bool(value) and _arrays(value) for value in root.values()]
    arrays = structure.container == PICKLED and _arrays(list(root.values()))
    return all(projected) or all(pictures) or all(steps) or arrays


def _arrays(values: list | tuple) -> bool:
    return all(_tensor(value) is not None for value in values)


def _tensor(value: object) -> Tensor | None:
    value = value.tensor if isinstance(value, Array) else value
    return value if isinstance(value, Tensor) else None


def by_image(structure: Structure) -> Checkpoint:
    """Codes [N, D] or [N, L, D] of images, whose names are in the configuration as "names".

    Of several steps the last is taken; rosinality's projector works in W, which is the configuration's "space".

    Raises:
        ConversionError: an entry is no code, or the codes of the images differ in shape.
    """
    root, notes = structure.mapping, []
    found = {str(name): _last(str(name), value) for name, value in root.items()}
    if any(steps > 1 for _, steps in found.values()):
        notes.append("the codes are those of the last step of each image")
    arrays = {name: array for name, (array, _) in found.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1:
        raise ConversionError(
            f"its codes have shapes {listed([str(list(shape)) for shape in sorted(shapes)])}; save codes of one shape"
        )
    values = np.stack(list(arrays.values()))
    projector = all(isinstance(value, dict) for value in root.values())
    config = {"shape": list(values.shape), "source_name": PROJECTED if projector else "codes", "names": list(arrays)}
    part = Part(kind="codes", config=config | ({"space": "w"} if projector else {}), arrays={"codes": values})
    ignored = {f"{name}/*": "pictures and noise of the projector" for name in arrays} if projector else {}
    title = f"codes by image in {structure.placed}"
    return Checkpoint(format=title, parts=together(part), ignored=ignored, notes=tuple(notes))


def _last(name: str, value: object) -> tuple[np.ndarray, int]:
    """The code [D] or [L, D] of one image, and of how many steps it is the last: [S, L, D], or a list of [L, D]."""
    value = value[PROJECTED] if isinstance(value, dict) and PROJECTED in value else value
    listing = isinstance(value, (list, tuple)) and bool(value)
    tensor = _tensor(value[-1] if listing else value)  # type: ignore[index]
    if tensor is None:
        raise ConversionError(
            f"has no array of codes for {shown(name)}; save the codes alone, e.g. numpy.save(path, w)"
        )
    array = _read(name, tensor)
    steps = len(value) if listing else 1  # type: ignore[arg-type]
    if array.ndim == 3:
        array, steps = array[-1], max(steps, len(array))
    return array, steps


def codes(tensors: Mapping[str, Tensor], container: str) -> Checkpoint:
    """Codes [N, D] or [N, L, D] (a single [D] becomes [1, D]).

    Args:
        tensors: the arrays of the file by name; the only one is taken, or the only one with a usual name.
        container: named in the format of the checkpoint.
    Raises:
        ConversionError: where it is not clear which array is meant, or it has another number of axes.
    """
    usual = [n for n in tensors if n in NAMES]
    if len(tensors) != 1 and len(usual) != 1:
        raise ConversionError(
            f"holds {len(tensors)} arrays ({listed(list(tensors))}); of codes save them alone, e.g. "
            "numpy.save(path, w); directions are read by `lsap-jax edit --direction FILE`"
        )
    name = usual[0] if usual else next(iter(tensors))
    values = _read(name, tensors[name])
    values = values[None] if values.ndim == 1 else values
    ignored = {n: "not the codes" for n in tensors if n != name}
    config = {"shape": list(values.shape), "source_name": name}
    part = Part(kind="codes", config=config, arrays={"codes": values})
    return Checkpoint(format=f"codes in {container}", parts=together(part), ignored=ignored)


def _read(name: str, tensor: Tensor) -> np.ndarray:
    if tensor.dtype not in FLOATS or not 1 <= len(tensor.shape) <= 3 or 0 in tensor.shape:
        raise ConversionError(
            f"array {shown(name)!r} has shape {list(tensor.shape)} and type {tensor.dtype}; codes are floating-point "
            "[N, D] or [N, L, D]"
        )
    return read_array(Matched(name, tensor, tensor.shape, None))
