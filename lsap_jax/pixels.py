"""Grey levels and floats. These are the project's only conversions: every target, saved picture and metric goes through
them, so that what is measured is what is shown.
"""

import numpy as np


def to_float(image: np.ndarray) -> np.ndarray:
    """Grey levels to floats: x / 127.5 - 1.

    Args:
        image: uint8 array of any shape, 0 to 255.
    Returns:
        float32 array of the same shape, -1 to 1.
    Raises:
        TypeError: for any other dtype, whose range would have to be guessed.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise TypeError(f"to_float takes uint8 grey levels, not {image.dtype}")
    return image.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Floats to the nearest grey level: clip(floor(x * 127.5 + 127.5 + 0.5), 0, 255), as BDInvert saves its images
    (image_tools, arXiv 2109.02899); the inverse of `to_float` on every grey level.

    Args:
        image: float array of any shape, nominally -1 to 1; values outside are clipped.
    Returns:
        uint8 array of the same shape.
    Raises:
        ValueError: for NaN or infinite values, which have no grey level.
    """
    image = np.asarray(image, dtype=np.float32)
    if not np.isfinite(image).all():
        raise ValueError("an image with NaN or infinite values has no grey levels")
    half = np.float32(127.5)
    return np.clip(np.floor(image * half + half + np.float32(0.5)), 0, 255).astype(np.uint8)
