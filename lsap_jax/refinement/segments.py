"""Segments of an image: superpixels where scikit-image is installed, else the cells of a grid."""

from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.pixels import to_uint8

KINDS = ("slic", "grid")
COMPACTNESS, SIGMA = 30, 1  # of SLIC, as GANInverter has them
LEAST_PIXELS = 16  # of a segment, on average


def best_kind() -> str:
    """ "slic" where scikit-image is installed, else "grid"."""
    return "slic" if find_spec("skimage") is not None else "grid"


def segments_of(kind: str, images: jax.Array, count: int) -> tuple[jax.Array, int]:
    """(number of the segment of each pixel, int32 [B, side, side] from 0 on; an upper bound of the numbers).

    Args:
        kind: one of `KINDS`.
        images: [B, side, side, C] in [-1, 1].
        count: of segments, about; fewer where they would have less than 16 pixels.
    """
    side = images.shape[1]
    count = max(1, min(count, side * side // LEAST_PIXELS))
    if kind == "slic":
        shape = jax.ShapeDtypeStruct(images.shape[:3], jnp.int32)
        return jax.pure_callback(partial(_slic, count=count), shape, images, vmap_method="expand_dims"), 2 * count
    cells = int(count**0.5)
    at = np.arange(side) * cells // side
    numbers = at[:, None] * cells + at[None, :]
    return jnp.broadcast_to(jnp.asarray(numbers, jnp.int32)[None], images.shape[:3]), cells * cells


def _slic(images: np.ndarray, *, count: int) -> np.ndarray:
    """Superpixels (Achanta et al., SLIC, TPAMI 2012) of images [..., side, side, C]."""
    from skimage.segmentation import slic

    flat = to_uint8(np.asarray(images)).reshape(-1, *images.shape[-3:])
    found = [
        slic(one, n_segments=count, compactness=COMPACTNESS, sigma=SIGMA, start_label=0, channel_axis=-1)
        for one in flat
    ]
    # Parts that do not hang together are numbered apart, so there may be some more than were asked for.
    numbers = np.minimum(np.stack(found), 2 * count - 1)
    return numbers.reshape(images.shape[:-1]).astype(np.int32)
