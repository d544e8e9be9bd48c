"""The files of each image in a results folder, as a table: a part is a row, and all code that writes, reads, stores or
checks parts uses it.

| part       | file              | value                                                                              |
|------------|-------------------|------------------------------------------------------------------------------------|
| codes      | codes/ID.npz      | the code's arrays by name (z, w, s, p, f, ...), without the batch axis             |
| images     | images/ID.png     | the rendered picture: float [H, W, C] in [-1, 1], or uint8                         |
| targets    | targets/ID.png    | the preprocessed target, uint8 [H, W, C]                                           |
| curves     | curves/ID.npz     | loss terms over the steps, by name, each [T]                                       |
| refined    | refined/ID.npz    | arrays of the refinement of the picture, by name (`lsap_jax.rendering.refinement`) |
| features   | features/ID.npz   | what `evaluate` compares sets by, until all images are measured                    |
| strips     | strips/ID.png     | all edits of an image                                                              |
| masks      | masks/ID.png      | the mask that edits are limited to, uint8 [H, W, 1]                                |
| pasted     | pasted/ID.png     | an edit back in its photograph, uint8 [H, W, 3]                                    |
| animations | animations/ID.webp| the bytes of the file, as of gifs and videos                                       |
| gifs       | gifs/ID.gif       |                                                                                    |
| videos     | videos/ID.mp4     |                                                                                    |
| partners   | partners/ID.png   | the target of the image that an edit leads to or mixes with                        |

An edit folder has several codes, images, animations and partners for each image: the part "images/DIRECTION/STRENGTH"
is the file images/ID/DIRECTION/STRENGTH.png.
"""

import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from lsap_jax.data.ids import id_problem
from lsap_jax.errors import LsapError
from lsap_jax.pixels import to_uint8
from lsap_jax.storage.file_bytes import arrays_from_npz, image_from_png, npz_bytes, png_bytes


@dataclass(frozen=True, kw_only=True)
class Part:
    """A kind of file of an image.

    Attributes:
        suffix: of the file.
        encode, decode: from the value to the file's bytes, and back.
        arrays: the value is a mapping of arrays by name; else it is one picture.
        finite: NaN and infinite values are refused.
        ragged: arrays [T], whose length differs from image to image.
        stored: the part goes into a store (`lsap_jax.storage.to_store`).
    """

    suffix: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    arrays: bool = False
    finite: bool = False
    ragged: bool = False
    stored: bool = True


def picture_bytes(image: np.ndarray) -> bytes:
    """A picture, uint8 or float in [-1, 1], as a PNG."""
    return png_bytes(image if image.dtype == np.uint8 else to_uint8(image))


# What numpy, zipfile and Pillow raise of bytes that are no array or no picture.
_UNDECODABLE = (
    LsapError, ValueError, OSError, EOFError, KeyError, SyntaxError, NotImplementedError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, Image.DecompressionBombError,
)  # fmt: skip

# In the order in which files are written and their digests recorded.
PARTS: dict[str, Part] = {
    "codes": Part(suffix=".npz", encode=npz_bytes, decode=arrays_from_npz, arrays=True, finite=True),
    "images": Part(suffix=".png", encode=picture_bytes, decode=image_from_png),
    "targets": Part(suffix=".png", encode=png_bytes, decode=image_from_png),
    "curves": Part(suffix=".npz", encode=npz_bytes, decode=arrays_from_npz, arrays=True, ragged=True),
    "refined": Part(suffix=".npz", encode=npz_bytes, decode=arrays_from_npz, arrays=True, finite=True),
    "features": Part(suffix=".npz", encode=npz_bytes, decode=arrays_from_npz, arrays=True, finite=True, stored=False),
    "strips": Part(suffix=".png", encode=png_bytes, decode=image_from_png, stored=False),
    "masks": Part(suffix=".png", encode=png_bytes, decode=image_from_png, stored=False),
    "pasted": Part(suffix=".png", encode=png_bytes, decode=image_from_png, stored=False),
    "animations": Part(suffix=".webp", encode=bytes, decode=bytes, stored=False),
    "gifs": Part(suffix=".gif", encode=bytes, decode=bytes, stored=False),
    "videos": Part(suffix=".mp4", encode=bytes, decode=bytes, stored=False),
    "partners": Part(suffix=".png", encode=png_bytes, decode=image_from_png, stored=False),
}


def part_of(name: str) -> Part:
    """The row of a part, also for a name like "images/DIRECTION/STRENGTH"."""
    return PARTS[name.partition("/")[0]]


def part_problem(name: str) -> str | None:
    """The reason why a text cannot be the name of a part; None if it can."""
    kind, _, rest = name.partition("/")
    if kind not in PARTS:
        return f"is none of {', '.join(PARTS)}"
    return id_problem(rest) if rest or name.endswith("/") else None


def decoded(name: str, data: bytes) -> Any:
    """The value of a part's file.

    Raises:
        ValueError: it is no such file, whatever the reason.
    """
    try:
        return part_of(name).decode(data)
    except _UNDECODABLE as error:
        raise ValueError(str(error) or type(error).__name__) from None


def file_of(id: str, name: str) -> str:
    """The path of a part's file in the folder: images/ID.png for "images"."""
    kind, slash, rest = name.partition("/")
    return f"{kind}/{id}{slash}{rest}{PARTS[kind].suffix}"


def encoded(id: str, values: Mapping[str, Any]) -> dict[str, bytes]:
    """The files' bytes by part, in the order of the table; a value that is None or empty makes no file.

    Raises:
        ValueError: a NaN or infinite value in a part that must be finite.
    """
    files = {}
    for name in sorted(values, key=lambda name: list(PARTS).index(name.partition("/")[0])):
        value, part = values[name], part_of(name)
        if value is None or part.arrays and not value:
            continue
        for key, array in value.items() if part.finite else ():
            if not np.isfinite(array).all():
                raise ValueError(f"{name} {key!r} of {id!r} has NaN or infinite values")
        files[name] = part.encode(value)
    return files


def named_arrays(name: str, value: Any) -> dict[str, np.ndarray]:
    """A part's value as arrays by full names: "codes/z" for {"z": ...}, "images" for a picture."""
    return {f"{name}/{key}": array for key, array in value.items()} if PARTS[name].arrays else {name: value}


def from_named_arrays(name: str, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of `named_arrays`, from the arrays of all parts; None if this part has no arrays."""
    if not PARTS[name].arrays:
        return arrays.get(name)
    own = {key.removeprefix(f"{name}/"): array for key, array in arrays.items() if key.startswith(f"{name}/")}
    return own or None
