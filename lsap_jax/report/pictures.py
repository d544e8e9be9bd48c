"""Pictures for people: grids of samples, strips, differences, and thumbnails that travel inside a page.

Every array here is uint8 [..., H, W, C] with C of 1 (grey) or 3 (RGB), as the PNG files of a run hold them.
"""

import base64
import io
import math
import os
from pathlib import Path

import numpy as np
from PIL import Image

from lsap_jax.inversion.atomic import write_files
from lsap_jax.inversion.encoding import png_bytes

# Up to this many pixels a side a thumbnail is stored without loss and shown pixelated; above it, it travels as JPEG.
LOSSLESS_SIDE = 128


def grid(images: np.ndarray, columns: int | None = None, padding: int = 2, background: int = 255) -> np.ndarray:
    """Lay images out row by row on one canvas.

    Args:
        images: uint8 [N, H, W, C].
        columns: images per row; the smallest near-square layout by default.
        padding: pixels between images and around them.
        background: grey level of the padding and of empty places, 0 to 255.

    Returns:
        uint8 [rows * (H + padding) + padding, columns * (W + padding) + padding, C].

    Raises:
        ValueError: not uint8 [N, H, W, C], or no images, or a column count below one.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise ValueError(f"a grid needs uint8 images [N, H, W, C] with N > 0, got {images.dtype} {list(images.shape)}")
    count, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else min(columns, count)
    if columns < 1:
        raise ValueError(f"a grid needs at least one column, got {columns}")
    rows = math.ceil(count / columns)
    shape = (rows * (height + padding) + padding, columns * (width + padding) + padding, channels)
    canvas = np.full(shape, background, np.uint8)
    for index, image in enumerate(images):
        top = padding + (index // columns) * (height + padding)
        left = padding + (index % columns) * (width + padding)
        canvas[top : top + height, left : left + width] = image
    return canvas


def strip(images: np.ndarray, padding: int = 2, background: int = 255) -> np.ndarray:
    """One row of images, uint8 [N, H, W, C] -> uint8 [H + 2 padding, N * (W + padding) + padding, C]."""
    return grid(images, columns=len(images), padding=padding, background=background)


def difference(target: np.ndarray, reconstruction: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """Absolute difference of two uint8 images of one shape, times ``factor``, clipped to 255."""
    if target.shape != reconstruction.shape:
        raise ValueError(f"cannot subtract an image {list(reconstruction.shape)} from one of {list(target.shape)}")
    gap = np.abs(target.astype(np.int16) - reconstruction.astype(np.int16))
    return np.minimum(np.rint(gap * factor), 255).astype(np.uint8)


def save_png(path: str | os.PathLike[str], array: np.ndarray) -> Path:
    """Write uint8 [H, W, C] (C of 1 or 3) as PNG, whole or not at all; makes the folders above it.

    Raises:
        LsapError: the file cannot be written.
        ValueError: not such an array.
    """
    path = Path(path)
    write_files({path: png_bytes(array)})
    return path


def data_uri(array: np.ndarray, side: int = 256) -> str:
    """A uint8 image [H, W, C] as a ``data:`` address, reduced (never enlarged) to at most ``side`` pixels a side."""
    image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if max(image.size) <= LOSSLESS_SIDE:
        image.save(buffer, format="PNG", optimize=True)
        kind = "png"
    else:
        image.save(buffer, format="JPEG", quality=88, subsampling=0)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
