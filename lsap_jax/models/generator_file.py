"""Generators from files: bundled ones, converted ones, and official checkpoints converted on the fly."""

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

from convert_weights.checkpoint import Checkpoint
from convert_weights.stylegan2 import COLOURS
from lsap_jax.errors import LsapError
from lsap_jax.models import network_file
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import Contents
from lsap_jax.models.registry import KINDS, companions
from lsap_jax.storage.web import is_address

GENERATORS = ("toonhead64",)  # the classifier, the directions and MTCNN are safetensors files, too


def bundled() -> dict[str, Path]:
    """Name -> file of the generators inside the package."""
    folder = Path(str(resources.files("lsap_jax") / "assets"))
    return {name: path for name in GENERATORS if (path := folder / f"{name}.safetensors").is_file()}


def load_generator(source: str | Path) -> Generator:
    """A bundled generator by name, a converted file, or an official checkpoint converted on the fly.

    Args:
        source: "toonhead64", the path of a file written by `Generator.save`, or of a .pkl, .pt or .pth that
            `convert_weights` reads.

    Raises:
        LsapError, ConversionError: there is no such file, it is damaged, or it holds something else.
    """
    names = bundled()
    path = names.get(str(source), Path(source))
    if not path.is_file():
        hint = "; `lsap-jax convert` fetches the file of an address" if is_address(str(source)) else ""
        listed = ", ".join(names) or "none here"
        raise LsapError(f"{source}: is neither a file nor a bundled generator ({listed}){hint}")
    contents = replace(network_file.read(path), known=str(source) in names)
    return _generator(contents).replace(source=str(path))


def from_checkpoint(checkpoint: Checkpoint) -> Generator:
    """The generator in a checkpoint that `convert_weights` has read, with the parts that come with it.

    Raises:
        LsapError: the file holds no StyleGAN2 generator, or tensors are missing, left over or of another shape.
    """
    return _generator(network_file.from_checkpoint(checkpoint))


def _generator(contents: Contents) -> Generator:
    own = Generator.kind
    if own not in contents.parts:
        raise LsapError(f"{contents.name}: holds {contents.kind!r} weights, not {KINDS[own].what}; {KINDS[own].remedy}")
    G: Generator = contents.build(own)
    if G.img_channels not in COLOURS:
        raise LsapError(
            f"{contents.name}: the generator makes pictures with {G.img_channels} channels; {COLOURS[1]} (RGB) or "
            f"{COLOURS[0]} (grey) are supported: train it on pictures without alpha"
        )
    parts = {kind: contents.build(kind) for kind in contents.parts if kind != own}
    for kind in parts.keys() & set(companions()):
        parts[kind].check_fits(G.config)
    return G.replace(parts=parts, provenance_json=json.dumps(dict(contents.provenance), sort_keys=True))
