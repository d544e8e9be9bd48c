"""How a picture of any size becomes a square one of the generator's resolution."""

import numpy as np
from PIL import Image

from lsap_jax.errors import LsapError

BARRED = "bars"
FITS = ("crop", "pad", BARRED)
GROUNDS = {"pad": 255, BARRED: 0}  # grey levels: white, as the ground under transparent pictures; black
BARS = (4, 3)  # width and height of what "bars" leaves, as LSUN's cars are


def check_target(resolution: int, channels: int, fit: str) -> None:
    """Raises LsapError unless images of that shape can be made."""
    if resolution < 1:
        raise LsapError(f"resolution {resolution} is not a positive number of pixels")
    if channels not in (1, 3):
        raise LsapError(f"{channels} image channels are not supported: 1 (grey) or 3 (RGB)")
    if fit not in FITS:
        raise LsapError(f"fit {fit!r} is unknown: {', '.join(FITS[:-1])} or {FITS[-1]}")


def fit_picture(picture: Image.Image, *, resolution: int, channels: int, fit: str) -> tuple[np.ndarray, list[str]]:
    """One picture as the generator's square target.

    "crop" cuts the largest centred square (an odd remainder goes right and below); "pad" keeps everything and fills
    the rest with white; "bars" cuts the largest centred part of 4 by 3 and puts black above and below it. Then Lanczos
    (antialiased, Pillow's) to the resolution. A square picture that already has the resolution keeps its pixels as they
    are.

    Args:
        picture: mode L or RGB, any size.
        resolution: R, the generator's.
        channels: 1 or 3.
    Returns:
        uint8 [R, R, channels], and what was done, in words.
    """
    notes = []
    if channels == 3 and picture.mode == "L":
        picture, note = picture.convert("RGB"), "grey repeated over 3 channels"
        notes.append(note)
    elif channels == 1 and picture.mode == "RGB":
        picture, note = picture.convert("L"), "colours reduced to grey (ITU-R 601)"
        notes.append(note)
    if fit == "crop":
        picture, more = _cropped(picture, (1, 1))
        inside = (resolution, resolution)
    elif fit == BARRED:
        picture, more = _cropped(picture, BARS)
        inside = (resolution, resolution * BARS[1] // BARS[0])
    else:
        inside, more = _inside(picture.size, resolution)
    notes += more
    if picture.size != inside:
        direction = "upscaled" if max(picture.size) < resolution else "downscaled"
        notes.append(f"{direction} from {_size(picture.size)} to {_size(inside)}")
        picture = picture.resize(inside, Image.Resampling.LANCZOS)
    if inside != (resolution, resolution):
        picture = _on_ground(picture, resolution, GROUNDS[fit])
    return np.asarray(picture, dtype=np.uint8).reshape(resolution, resolution, channels), notes


def _cropped(picture: Image.Image, shape: tuple[int, int]) -> tuple[Image.Image, list[str]]:
    """The largest centred part whose sides are as those of `shape`, to the nearest pixel."""
    width, height = picture.size
    across, down = shape
    inside = (min(width, max(1, round(height * across / down))), min(height, max(1, round(width * down / across))))
    if inside == picture.size:
        return picture, []
    left, top = (width - inside[0]) // 2, (height - inside[1]) // 2
    note = f"cropped {_size(picture.size)} to {_size(inside)}"
    return picture.crop((left, top, left + inside[0], top + inside[1])), [note]


def _inside(size: tuple[int, int], resolution: int) -> tuple[tuple[int, int], list[str]]:
    """The size at which a picture fits the square. It is scaled first and padded then: a strip of 100000x1 pixels
    would not fit into memory as a square.
    """
    width, height = size
    side = max(size)
    inside = (max(1, round(width * resolution / side)), max(1, round(height * resolution / side)))
    notes = [] if width == height else [f"padded {_size(size)} to {side}x{side} with white"]
    return inside, notes


def _on_ground(picture: Image.Image, resolution: int, level: int) -> Image.Image:
    """The picture in the middle of a square of one grey level."""
    colour = level if picture.mode == "L" else (level,) * 3
    ground = Image.new(picture.mode, (resolution, resolution), colour)
    ground.paste(picture, ((resolution - picture.width) // 2, (resolution - picture.height) // 2))
    return ground


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
