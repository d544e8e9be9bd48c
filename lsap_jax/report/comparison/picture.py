"""grid.png: targets beside their reconstructions in every preset, as Fig. 2 of arXiv 2307.08995 shows them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison.tables import Comparison
from lsap_jax.report.page import number
from lsap_jax.storage.results import read_image

LEAST_SIDE, MOST_SIDE = 160, 256  # of a picture: smaller ones are enlarged by an integer, larger ones reduced
GAP, LINE, FONT = 12, 20, 14


@dataclass(frozen=True, kw_only=True)
class Line:
    """One target and what became of it.

    Attributes:
        id: of the image.
        target: uint8 [R, R, C], None where the file is missing or has changed.
        pictures: the same by preset.
        metrics: by name, by preset.
    """

    id: str
    target: np.ndarray | None
    pictures: Mapping[str, np.ndarray | None]
    metrics: Mapping[str, Mapping[str, float]]


def chosen(comparison: Comparison) -> list[str]:
    """Ids of the images shown: as many as the configuration says, evenly spread over the order of the images, its ends
    included.
    """
    count = min(comparison.record["config"]["grid"], len(comparison.common))
    places = np.linspace(0, len(comparison.common) - 1, count).round().astype(int).tolist()
    return [comparison.common[place] for place in places]


def read_lines(out: Path, comparison: Comparison) -> list[Line]:
    """The rows of the picture, read from the runs of a comparison in `out`."""
    entries = [entry for entry in comparison.entries if entry.manifest]
    lines = []
    for id in chosen(comparison):
        pictures = {entry.preset: _picture(out / entry.folder, entry.manifest, id, "images") for entry in entries}
        targets = (_picture(out / entry.folder, entry.manifest, id, "targets") for entry in entries)
        metrics = {entry.preset: entry.metrics[id] for entry in entries}
        target = next((target for target in targets if target is not None), None)
        lines.append(Line(id=id, target=target, pictures=pictures, metrics=metrics))
    return lines


def caption_names(comparison: Comparison) -> list[str]:
    """Metrics under each reconstruction: the perceptual distance where there is one, and the MSE."""
    return [name for name in (comparison.distance, "mse") if name in comparison.metrics]


def draw(lines: Sequence[Line], names: Sequence[str]) -> np.ndarray:
    """The picture: a row per target, a column per preset, metrics under each reconstruction.

    Args:
        lines: at least one.
        names: of the metrics.

    Returns:
        uint8 [H, W, 3].
    """
    presets = list(lines[0].pictures)
    some = next((a for line in lines for a in [line.target, *line.pictures.values()] if a is not None), None)
    side = LEAST_SIDE if some is None else scaled(some).shape[0]
    width = GAP + (len(presets) + 1) * (side + GAP)
    height = LINE + GAP + len(lines) * (side + LINE + GAP) + LINE
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    for column, text in enumerate(["target", *presets]):
        _text(pen, GAP + column * (side + GAP), GAP // 2, side, text)
    for row, line in enumerate(lines):
        top = LINE + GAP + row * (side + LINE + GAP)
        cells = [(line.target, line.id), *((line.pictures[p], caption(line.metrics[p], names)) for p in presets)]
        for column, (array, text) in enumerate(cells):
            left = GAP + column * (side + GAP)
            if array is not None:
                canvas.paste(Image.fromarray(scaled(array)), (left, top))
            _text(pen, left, top + side + 3, side, text)
    key = f"under each reconstruction: {' / '.join(names)}"
    _text(pen, GAP, height - LINE - 2, width - 2 * GAP, key, centred=False)
    return np.asarray(canvas)


def caption(metrics: Mapping[str, float], names: Sequence[str]) -> str:
    """0.0531 / 0.00479"""
    return " / ".join(number(metrics.get(name), 3) for name in names)


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


def _picture(folder: Path, manifest: Mapping, id: str, part: str) -> np.ndarray | None:
    """uint8 [H, W, C], or None where the file is missing or is not the one that the run wrote."""
    try:
        return read_image(folder, id, part, manifest=manifest)
    except (LsapError, OSError, ValueError):
        return None
