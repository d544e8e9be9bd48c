"""What a client saves: one archive of pictures, codes, a direction and the command lines, as bytes."""

import io
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lsap_jax.editing.direction_file import save_directions
from lsap_jax.live.commands import UNEDITED, file_of
from lsap_jax.live.session import Take
from lsap_jax.live.sliders import Slider, combined, is_known
from lsap_jax.models.generator import Generator
from lsap_jax.rendering.refinement import to_arrays
from lsap_jax.storage.file_bytes import npz_bytes, png_bytes

_EPOCH = (1980, 1, 1, 0, 0, 0)


def archive(
    G: Generator, take: Take, sliders: Sequence[Slider], codes: Mapping[str, np.ndarray], picture: np.ndarray, text: str
) -> bytes:
    """A .zip of what is shown.

    | file                   | contents                                                            |
    |------------------------|---------------------------------------------------------------------|
    | ID-unedited.png, .npz  | the unedited picture and its codes, without the axis of images      |
    | ID-edited.png, .npz    | the picture shown, and its codes                                    |
    | ID-target.png          | what the codes were found for, if there is such a picture           |
    | ID-refined.npz         | the refinement, if there is one                                     |
    | DIRECTION.safetensors  | the direction, if it has no name that every machine knows           |
    | commands.txt           | the command lines that do the same in batch                         |
    """
    files = {
        f"{take.id}{UNEDITED}.png": png_bytes(take.picture),
        f"{take.id}{UNEDITED}.npz": npz_bytes(_single(take.codes)),
        f"{take.id}-edited.png": png_bytes(picture),
        f"{take.id}-edited.npz": npz_bytes(_single(codes)),
        "commands.txt": f"{text}\n".encode(),
    }
    if take.target is not None:
        files[f"{take.id}-target.png"] = png_bytes(take.target)
    if take.refinement is not None:
        files[f"{take.id}-refined.npz"] = npz_bytes(to_arrays(_single(take.refinement)))
    found = combined(G, take.space, sliders)
    if found is not None and not is_known(G, found[0]):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / file_of(found[0])
            save_directions(path, [found[0]])
            files[path.name] = path.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as packed:
        for name, data in files.items():
            packed.writestr(zipfile.ZipInfo(name, date_time=_EPOCH), data)
    return buffer.getvalue()


def _single(tree: Any) -> Any:
    """The first image of a tree with leaves [1, ...]."""
    return jax.tree.map(lambda a: np.asarray(a)[0], tree)
