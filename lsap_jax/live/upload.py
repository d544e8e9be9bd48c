"""A photograph that a client sends: bounded in bytes and pixels, and decoded as every image source is."""

import io
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from lsap_jax.data import ImageError, Item, Source
from lsap_jax.data.decode import READABLE
from lsap_jax.data.ids import assign_ids
from lsap_jax.data.source import Align

MOST_BYTES = 2**25  # of a file
MOST_PIXELS = 2**26  # more than phones make
LONGEST = 120  # characters of a name


def plain_name(name: str) -> str:
    """The last part of a path, of any system, short enough for a file; "photograph" where none is left."""
    last = PurePosixPath(name.replace("\\", "/")).name
    kept = "".join(c for c in last if c.isprintable()).strip(". ")
    return kept[-LONGEST:].lstrip(". -") or "photograph"


def received(data: bytes, name: str, resolution: int, channels: int, fit: str, align: Align | None) -> Item:
    """A photograph from a file's bytes, as `lsap-jax invert` loads the file of that name.

    Args:
        name: of the file (`plain_name`).
        fit: of `lsap_jax.data.fitting`.
        align: cuts it to its face, or None.

    Raises:
        ImageError: too large in bytes or pixels, no picture, damaged, or without one clear face to align.
        LsapError: the name cannot be that of a result.
    """
    if len(data) > MOST_BYTES:
        raise ImageError(f"larger than {MOST_BYTES // 2**20} MiB; scale it down first", name)
    _check_pixels(data, name)
    (id,) = assign_ids([name])

    def read(index: int) -> bytes | np.ndarray:
        return data

    source = Source(
        ids=(id,), inputs=(name,), resolution=resolution, channels=channels, fit=fit, read=read, align=align
    )
    return source.load(0)


def _check_pixels(data: bytes, name: str) -> None:
    """Raises ImageError by what the header says; what has no readable header is left to the decoder."""
    try:
        with Image.open(io.BytesIO(data), formats=READABLE) as opened:
            pixels = opened.width * opened.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pixels = MOST_PIXELS + 1
    except Exception:  # the decoder says why
        return
    if pixels > MOST_PIXELS:
        raise ImageError(f"more than {MOST_PIXELS // 10**6} million pixels; scale it down first", name)
