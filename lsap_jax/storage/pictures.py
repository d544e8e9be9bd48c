"""Pictures as files: grids of samples and PNGs, for runs, trainings and reports alike.

Every array here is uint8 [..., H, W, C] with C of 1 (grey) or 3 (RGB), as the PNG files of a run hold them.
"""

import math
import os
from pathlib import Path

import numpy as np

from lsap_jax.storage.atomic import write_files
from lsap_jax.storage.file_bytes import png_bytes


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


def save_png(path: str | os.PathLike[str], array: np.ndarray) -> Path:
    """Write uint8 [H, W, C] (C of 1 or 3) as PNG, whole or not at all; makes the folders above it.

    Raises:
        LsapError: the file cannot be written.
        ValueError: not such an array.
    """
    path = Path(path)
    write_files({path: png_bytes(array)})
    return path
