"""Latent codes of other tools: a single array or tensor, or one under a name that tools commonly use."""

from collections.abc import Mapping

from convert_weights.checkpoint import Checkpoint, ConversionError, Part, listed, shown, together
from convert_weights.match import Matched, read_array
from convert_weights.structure import Structure
from convert_weights.tensors import FLOATS, Tensor

NAMES = ("w", "ws", "wp", "w_plus", "z", "zs", "latent", "latents", "latent_code", "codes", "dlatents", "projected_w")


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
            f"holds {len(tensors)} arrays ({listed(list(tensors))}); save the codes alone, e.g. numpy.save(path, w)"
        )
    name = usual[0] if usual else next(iter(tensors))
    tensor = tensors[name]
    if tensor.dtype not in FLOATS or not 1 <= len(tensor.shape) <= 3 or 0 in tensor.shape:
        raise ConversionError(
            f"array {shown(name)!r} has shape {list(tensor.shape)} and type {tensor.dtype}; codes are floating-point "
            "[N, D] or [N, L, D]"
        )
    values = read_array(Matched(name, tensor, tensor.shape, None))
    values = values[None] if values.ndim == 1 else values
    ignored = {n: "not the codes" for n in tensors if n != name}
    config = {"shape": list(values.shape), "source_name": name}
    part = Part(kind="codes", config=config, arrays={"codes": values})
    return Checkpoint(format=f"codes in {container}", parts=together(part), ignored=ignored)
