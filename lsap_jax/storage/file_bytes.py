"""Arrays and pictures as bytes that depend on their contents only: no dates, no library versions, no paths."""

import io
import zipfile
from collections.abc import Mapping

import numpy as np
from PIL import Image

from convert_weights.archive import Archive
from convert_weights.checkpoint import ConversionError
from convert_weights.npy import npz_tensors
from lsap_jax.errors import LsapError

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip archive can hold
_PNG_LEVEL = 3  # a third of the default level's time on natural images, within a tenth of its size


class Unreadable(LsapError, ValueError):
    """Bytes are not what their file's kind says; the message lacks the file's name."""


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as an uncompressed .npz, sorted by name; `numpy.load` reads it.

    Raises:
        ValueError: a dtype that .npy cannot name (bfloat16, objects): cast it to float32 first.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            array = np.asarray(arrays[name], order="C")
            if array.dtype.kind not in "biuf":
                raise ValueError(f"array {name!r} of dtype {array.dtype} cannot be stored in .npz: cast it to float32")
            entry = io.BytesIO()
            np.lib.format.write_array(entry, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16  # the same on every system
            archive.writestr(info, entry.getvalue())
    return buffer.getvalue()


def arrays_from_npz(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of `npz_bytes`; never unpickles, and compares shapes with sizes before it unpacks anything.

    Raises:
        Unreadable: damaged, or something else.
    """
    try:
        tensors = npz_tensors(Archive(io.BytesIO(data), len(data)))
        return {name: np.array(tensor.load()) for name, tensor in tensors.items()}
    except ConversionError as error:
        raise Unreadable(f"is not a readable .npz of arrays: {error}") from None


def png_bytes(image: np.ndarray) -> bytes:
    """A uint8 image [H, W, 1 or 3] as a PNG without metadata."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(f"{image.dtype} {list(image.shape)} is not a picture; give uint8 [H, W, 1 or 3]")
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image))
    picture.save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def image_from_png(data: bytes) -> np.ndarray:
    """The inverse of `png_bytes`: uint8 [H, W, C].

    Raises:
        Unreadable: damaged, or something else.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            if picture.mode not in ("L", "RGB"):
                raise ValueError(f"mode {picture.mode}")
            array = np.array(picture)
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise Unreadable(f"is not a readable picture: {error or type(error).__name__}") from None
    return array[..., None] if array.ndim == 2 else array
