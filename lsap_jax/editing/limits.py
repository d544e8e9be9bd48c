"""Edits limited to masks: the edited picture where the mask is, and everywhere else the one that it is laid over."""

from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from lsap_jax.errors import LsapError
from lsap_jax.faces.paste import faded

FEATHER = 0.02  # of the picture's side


def check_feather(feather: float) -> None:
    """Raises LsapError if the width of a fade is out of range."""
    if not 0 <= feather <= 0.5:
        raise LsapError(f"--feather={feather:g}: is a part of the picture's side, from 0 to 0.5")


def feathered(mask: np.ndarray, feather: float = FEATHER) -> np.ndarray:
    """A mask that fades in from its edge inwards: what is black stays black, and the picture's border is no edge.

    Args:
        mask: float32 [R, R] in [0, 1].
        feather: width of the fade, in sides of the picture.

    Returns:
        float32 [R, R], nowhere more than the mask.
    """
    if mask.all():
        return mask
    inwards = distance_transform_edt(mask > 0) - 0.5  # from the edge of the next black pixel
    return (mask * faded(inwards / max(feather * len(mask), 1e-6))).astype(np.float32)


def laid_over(below: np.ndarray, edited: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Pictures below + (edited - below) · share, in the type of `below`, to the nearest grey level where that is uint8.

    Args:
        below, edited: [..., R, R, C].
        share: [..., R, R] in [0, 1], a feathered mask.
    """
    mixed: Any = below + (edited.astype(np.float32) - below) * share[..., None]
    return np.asarray(np.rint(mixed) if below.dtype == np.uint8 else mixed).astype(below.dtype)
