"""The inverse of the alignment: a square that was cut out of a photograph, put back into it."""

import math

import numpy as np
from PIL import Image

from lsap_jax.faces.align import quad_side

FEATHER = 0.08  # of the square's side, over which it fades in


def faded(way: np.ndarray) -> np.ndarray:
    """3t² - 2t³, which rises smoothly from 0 at 0 to 1 at 1 and beyond."""
    t = np.clip(way, 0, 1)
    return t * t * (3 - 2 * t)  # type: ignore[no-any-return]


def paste(
    photograph: Image.Image | np.ndarray,
    square: np.ndarray,
    quad: np.ndarray,
    feather: float = FEATHER,
    share: np.ndarray | None = None,
) -> np.ndarray:
    """A photograph with a square put back to where it was cut out, at the photograph's resolution.

    The square is enlarged by Pillow's bicubic, or reduced by Lanczos first. From its edge inwards it fades in along
    3t² - 2t³ (`faded`); pixels outside of it keep their values exactly.

    Args:
        photograph: of Pillow, or uint8 [H, W, 3].
        square: uint8 [R, R, 1 or 3].
        quad: [4, 2], its corners in the photograph as `crop_quad` gives them; they may lie outside.
        feather: width of the fade in sides of the square, 0 to 0.5.
        share: float [R, R] in [0, 1], how much of the square is put back; reduced by means, enlarged bilinearly. None
            is all of it.

    Returns:
        uint8 [H, W, 3].
    """
    image = photograph if isinstance(photograph, Image.Image) else Image.fromarray(photograph)
    found = np.array(image.convert("RGB"))
    quad = np.asarray(quad, np.float64)
    low = np.clip(np.floor(quad.min(axis=0)).astype(int), 0, image.size)
    high = np.clip(np.ceil(quad.max(axis=0)).astype(int), 0, image.size)
    if (high <= low).any():  # all of it lies outside
        return found
    own = Image.fromarray(np.ascontiguousarray(np.broadcast_to(square, (*square.shape[:2], 3))))
    side = min(own.width, max(1, math.ceil(quad_side(quad))))
    if side < own.width:
        own = own.resize((side, side), Image.Resampling.LANCZOS)
    # From the centre of a pixel of the box to its place in the square, from 0 to 1 along both sides.
    into = np.linalg.inv(np.stack([quad[3] - quad[0], quad[1] - quad[0]], axis=1))
    shift = into @ (low - quad[0])
    width, height = (int(n) for n in high - low)
    data = tuple(float(v) for v in (np.column_stack([into, shift]) * side).ravel())
    turned = own.transform((width, height), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    place = into[:, 0, None, None] * x[None, None, :] + into[:, 1, None, None] * y[None, :, None] + shift[:, None, None]
    inside = np.minimum(place, 1 - place).min(axis=0)  # the way to the next edge, in sides
    part = faded(inside / feather) if feather else (inside > 0).astype(float)
    if share is not None:
        grey = Image.fromarray(np.asarray(share, np.float32))
        grey = grey.resize((side, side), Image.Resampling.BOX) if side < grey.width else grey
        part = part * np.asarray(grey.transform(turned.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR))
    box = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
    mixed = found[box] + (np.asarray(turned, np.float64) - found[box]) * part[..., None]
    found[box] = np.rint(mixed).astype(np.uint8)
    return found
