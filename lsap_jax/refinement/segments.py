"""Segments of an image, which refiners treat as a whole: superpixels where scikit-image is installed, else cells of a
grid. They are found on the host, before an image goes to a device.

Reference: Achanta et al., SLIC Superpixels Compared to State-of-the-Art Superpixel Methods (TPAMI 2012), as
scikit-image has it.
"""

import warnings
from importlib.util import find_spec
from math import isqrt

import numpy as np

from lsap_jax.errors import LsapError

KINDS = ("slic", "grid")
ORDERS = ("rgb", "bgr")
COMPACTNESS, SIGMA = 30.0, 1.0  # of SLIC, as GANInverter has them


def best_kind() -> str:
    """ "slic" where scikit-image is installed, else "grid"."""
    return "slic" if find_spec("skimage") is not None else "grid"


def chosen(method: str, kind: str) -> str:
    """The kind of segments that "auto" is here; where it is a grid, a warning says how to get superpixels."""
    if kind != "auto":
        return kind
    found = best_kind()
    if found == "grid":
        warnings.warn(
            f"method {method!r}: segments are the cells of a grid; superpixels need scikit-image "
            "(pip install '.[superpixels]' in lsap_jax's checkout)",
            stacklevel=3,
        )
    return found


def segments(
    image: np.ndarray,
    kind: str = "slic",
    count: int = 200,
    *,
    compactness: float = COMPACTNESS,
    sigma: float = SIGMA,
    order: str = "rgb",
) -> np.ndarray:
    """The segment of each pixel.

    Args:
        image: uint8 [H, W, 1 or 3], RGB.
        kind: "slic", or "grid", which looks at the size of the image alone.
        count: of segments, about.
        compactness, sigma: of SLIC: how much places count beside colours, and the blur before, in pixels.
        order: "bgr" swaps the channels before SLIC takes them for RGB, as code that reads images by OpenCV does.

    Returns:
        int32 [H, W], numbered 0, 1, 2, … without a gap.

    Raises:
        LsapError: a value is unknown or out of range, or scikit-image is not installed.
    """
    if kind not in KINDS or order not in ORDERS or count < 1:
        raise LsapError(
            f"segments: kind={kind!r}, order={order!r}, count={count}: kind is {' or '.join(KINDS)}, order "
            f"{' or '.join(ORDERS)}, count 1 or more"
        )
    if kind == "grid":
        return grid(image.shape[0], image.shape[1], count)
    if find_spec("skimage") is None:
        raise LsapError(
            "superpixels need scikit-image (pip install '.[superpixels]' in lsap_jax's checkout); or choose grid"
        )
    from skimage.segmentation import slic

    pixels = np.broadcast_to(image, (*image.shape[:2], 3))
    pixels = np.ascontiguousarray(pixels if order == "rgb" else pixels[..., ::-1])
    found = slic(pixels, n_segments=count, compactness=compactness, sigma=sigma, start_label=0, channel_axis=-1)
    return np.unique(found, return_inverse=True)[1].reshape(found.shape).astype(np.int32)


def grid(height: int, width: int, count: int) -> np.ndarray:
    """int32 [height, width]: cells of a grid with as many rows as columns, at most `count` cells, row by row; no cell
    is empty.
    """
    rows, columns = (min(side, max(isqrt(count), 1)) for side in (height, width))
    row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
    return (row[:, None] * columns + column).astype(np.int32)


def bounded(image: np.ndarray, kind: str, count: int, order: str = "rgb") -> np.ndarray:
    """`segments` with numbers below `bound(count)`: parts that do not hang together are numbered apart, so there may be
    some more than were asked for; those beyond the bound are one.
    """
    return np.minimum(segments(image, kind, count, order=order), bound(count) - 1)


def bound(count: int) -> int:
    """More segments than this are taken for one."""
    return 2 * count
