"""A picture of pictures in rows and columns: heads over columns, lines over rows, and a line under each picture."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LEAST_SIDE, MOST_SIDE = 160, 256  # of a picture: smaller ones are enlarged by an integer, larger ones reduced
GAP, LINE, FONT = 12, 20, 14

Cell = tuple[np.ndarray | None, str]


def labelled_grid(
    heads: Sequence[str], rows: Sequence[Sequence[Cell]], key: str = "", titles: Sequence[str] = ()
) -> np.ndarray:
    """The picture.

    Args:
        heads: a text for each column; without any there is no line of heads.
        rows: at least one; per column a picture uint8 [R, R, C], or None for an empty place, and the text under it.
        key: a line at the bottom, for all of it.
        titles: a line over each row, or none.

    Returns:
        uint8 [H, W, 3].
    """
    some = next((array for row in rows for array, _ in row if array is not None), None)
    side = LEAST_SIDE if some is None else scaled(some).shape[0]
    under = LINE if any(text for row in rows for _, text in row) else 0
    over, top = LINE if titles else 0, GAP + (LINE if any(heads) else 0)
    width = GAP + max(map(len, (heads, *rows))) * (side + GAP)
    height = top + len(rows) * (over + side + under + GAP) + (LINE if key else 0)
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    for column, text in enumerate(heads):
        _text(pen, GAP + column * (side + GAP), GAP // 2, side, text)
    for number, row in enumerate(rows):
        if titles:
            _text(pen, GAP, top, width - 2 * GAP, titles[number], centred=False)
        top += over
        for column, (array, text) in enumerate(row):
            left = GAP + column * (side + GAP)
            if array is not None:
                canvas.paste(Image.fromarray(scaled(array)), (left, top))
            _text(pen, left, top + side + 3, side, text)
        top += side + under + GAP
    _text(pen, GAP, height - LINE - 2, width - 2 * GAP, key, centred=False)
    return np.asarray(canvas)


def scaled(array: np.ndarray) -> np.ndarray:
    """A picture uint8 [R, R, C] as RGB at a size that people see: enlarged by an integer factor without smoothing, or
    reduced by Lanczos.
    """
    rgb = np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array
    side = rgb.shape[0]
    if side > MOST_SIDE:
        return np.asarray(Image.fromarray(rgb).resize((MOST_SIDE, MOST_SIDE), Image.Resampling.LANCZOS))
    factor = max(1, math.ceil(LEAST_SIDE / side))
    return rgb.repeat(factor, axis=0).repeat(factor, axis=1)


def _text(pen: ImageDraw.ImageDraw, left: int, top: int, width: int, text: str, centred: bool = True) -> None:
    """A line of text within a width, cut off where it is longer."""
    font = _font()
    shown = text.encode("ascii", "replace").decode("ascii")  # Pillow's own font has little more
    if pen.textlength(shown, font) > width:
        while shown and pen.textlength(f"{shown}...", font) > width:
            shown = shown[:-1]
        shown = f"{shown}..."
    offset = (width - pen.textlength(shown, font)) / 2 if centred else 0
    pen.text((left + offset, top), shown, fill=(40, 40, 40), font=font)


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.load_default(FONT)
    except ImportError:  # Pillow without FreeType has one small bitmap font
        return ImageFont.load_default()
