"""LPIPS weights in files: two converted checkpoints (backbone and lin layers) to a distance, to one file, and back."""

from pathlib import Path

from convert_weights.checkpoint import Checkpoint
from lsap_jax.errors import LsapError
from lsap_jax.models.perceptual import Perceptual, lpips
from lsap_jax.storage.weights_file import read_weights, write_weights

KIND = "lpips"


def _name(backbone: Checkpoint, lin: Checkpoint) -> str:
    """The network that two checkpoints agree on."""
    for checkpoint, kind in ((backbone, "backbone"), (lin, "lpips_lin")):
        if checkpoint.kind != kind:
            raise LsapError(
                f"expected {kind!r} weights, got {checkpoint.kind!r} ({checkpoint.format}); give the backbone, then "
                "the lin weights"
            )
    names = backbone.config["name"], lin.config["name"]
    if names[0] != names[1]:
        raise LsapError(
            f"the backbone is {names[0]}, the lin weights are for {names[1]}; convert the pair of one network"
        )
    return str(names[0])


def lpips_from_checkpoints(backbone: Checkpoint, lin: Checkpoint, resolution: int = 256) -> Perceptual:
    """LPIPS from two `convert_weights.Checkpoint`s, of kind "backbone" and "lpips_lin".

    Raises:
        LsapError: they are of other kinds, for different networks, or incomplete.
    """
    return lpips(_name(backbone, lin), backbone.arrays, lin.arrays, resolution)


def lpips_from_files(backbone: str | Path, lin: str | Path, resolution: int = 256) -> Perceptual:
    """LPIPS straight from torchvision's backbone file and the lin weights of the lpips package.

    Raises:
        LsapError, ConversionError: a file cannot be read, or the two do not belong together.
    """
    from convert_weights import read

    return lpips_from_checkpoints(read(backbone), read(lin), resolution)


def save_lpips(path: str | Path, backbone: Checkpoint, lin: Checkpoint) -> str:
    """Write the two checkpoints as one file for `load_lpips`; returns the digest of its tensors.

    Raises:
        LsapError: see `lpips_from_checkpoints`; nothing is written then.
    """
    lpips_from_checkpoints(backbone, lin)
    sources = {"backbone": backbone.provenance, "lin": lin.provenance}
    return write_weights(
        path, KIND, {**backbone.arrays, **lin.arrays}, {"name": backbone.config["name"], "version": "0.1"}, sources
    )


def load_lpips(path: str | Path, resolution: int = 256) -> Perceptual:
    """LPIPS from a file of `save_lpips`; its digest is checked.

    Raises:
        LsapError: the file is missing, damaged, incomplete, or holds something else.
    """
    kind, arrays, config, _ = read_weights(path)
    if kind != KIND or "name" not in config:
        raise LsapError(
            f"{path}: holds {kind!r} weights, not LPIPS; convert a backbone and its lin weights with `lsap-jax convert`"
        )
    lin = {name: a for name, a in arrays.items() if name.startswith("lin")}
    backbone = {name: a for name, a in arrays.items() if name not in lin}
    try:
        return lpips(config["name"], backbone, lin, resolution)
    except LsapError as error:
        raise LsapError(f"{path}: {error}") from error
