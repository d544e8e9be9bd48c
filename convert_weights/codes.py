"""Latent codes of other tools: bare arrays or tensors, and the few names that tools give them."""

from collections.abc import Mapping

from convert_weights.checkpoint import Checkpoint, ConversionError, listed
from convert_weights.match import Matched, read_array
from convert_weights.tensors import FLOATS, Tensor

NAMES = ("w", "ws", "wp", "w_plus", "z", "zs", "latent", "latents", "latent_code", "codes", "dlatents", "projected_w")


def codes(tensors: Mapping[str, Tensor], container: str) -> Checkpoint:
    """Codes [N, D] or [N, L, D] (a single [D] becomes [1, D]).

    Args:
        tensors: the arrays of the file by name; one of them, or one under a usual name, is taken.
        container: for the format's name.
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
            f"array {name!r} has shape {list(tensor.shape)} and type {tensor.dtype}; codes are floating-point "
            "[N, D] or [N, L, D]"
        )
    values = read_array(Matched(name, tensor, tensor.shape, None))
    values = values[None] if values.ndim == 1 else values
    ignored = {n: "not the codes" for n in tensors if n != name}
    config = {"shape": list(values.shape), "source_name": name}
    return Checkpoint(
        kind="codes", format=f"codes in {container}", config=config, arrays={"codes": values}, ignored=ignored
    )
