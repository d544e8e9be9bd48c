"""Pictures inside a page: differences, and thumbnails that travel with it.

Every array here is uint8 [..., H, W, C] with C of 1 (grey) or 3 (RGB), as the PNG files of a run hold them.
"""

import base64
import io

import numpy as np
from PIL import Image

# Up to this many pixels a side a thumbnail is stored without loss and shown pixelated; above it, it travels as JPEG.
LOSSLESS_SIDE = 128


def difference(target: np.ndarray, reconstruction: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """Absolute difference of two uint8 images of one shape, times ``factor``, clipped to 255."""
    if target.shape != reconstruction.shape:
        raise ValueError(f"cannot subtract an image {list(reconstruction.shape)} from one of {list(target.shape)}")
    gap = np.abs(target.astype(np.int16) - reconstruction.astype(np.int16))
    return np.minimum(np.rint(gap * factor), 255).astype(np.uint8)


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
