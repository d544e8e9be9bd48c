"""The curves of a training as one picture: a small chart for each number of its log."""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from lsap_jax.storage.axes import nice_ticks, path

PICTURE = "curves.svg"
UNSEEN = ("heldout_", "_unseen")  # what names of numbers of images that are not trained on begin or end with
COLUMNS, WIDTH, HEIGHT = 3, 320, 190  # of the picture in charts, and of each chart in px
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 26, 24
STYLE = (
    "text{font:11px sans-serif;fill:#555}.title{font-weight:600;fill:#222}.rule{stroke:#ddd}"
    "path,circle{stroke-width:1.6;stroke:#2563eb;fill:none}.unseen{stroke:#d97706;stroke-dasharray:5 3}"
)


def picture(lines: Sequence[Mapping[str, float]]) -> str:
    """The lines of a log as SVG, a chart for each number over "images"; empty without a line.

    A number that is measured on held-out images, too, has both in one chart, those dashed. The scale is logarithmic
    where all values are positive and the largest is more than four times the smallest; values that are not finite are
    left out.
    """
    charts: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for line in lines for name in line if name != "images"):
        charts.setdefault(_bare(name), []).append(name)
    drawn = [chart for title, names in charts.items() if (chart := _chart(lines, title, names))]
    if not drawn:
        return ""
    width, height = COLUMNS * WIDTH, -(-len(drawn) // COLUMNS) * HEIGHT + 18
    placed = "".join(
        f'<g transform="translate({k % COLUMNS * WIDTH} {k // COLUMNS * HEIGHT})">{chart}</g>'
        for k, chart in enumerate(drawn)
    )
    key = "over the images seen; dashed: images that are not trained on"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{placed}'
        f'<text x="{LEFT}" y="{height - 6}">{key}</text></svg>\n'
    )


def _bare(name: str) -> str:
    """The name of a number, whichever images it is of."""
    return name.removeprefix(UNSEEN[0]).removesuffix(UNSEEN[1])


def _chart(lines: Sequence[Mapping[str, float]], title: str, names: Sequence[str]) -> str:
    """The curves of some numbers on one scale; empty where no value is finite."""
    curves = {name: np.array([(x["images"], x[name]) for x in lines if _finite(x.get(name))]) for name in names}
    curves = {name: points for name, points in curves.items() if len(points)}
    if not curves:
        return ""
    every = np.concatenate([points[:, 1] for points in curves.values()])
    low, high = float(every.min()), float(every.max())
    logarithmic = low > 0 and high / low > 4
    scale = np.log10 if logarithmic else np.asarray
    bottom, top = float(scale(low)), float(scale(high))
    margin = max((top - bottom) * 0.06, abs(top) * 1e-3, 1e-9)
    last = max(float(line["images"]) for line in lines)

    def x(images: np.ndarray) -> np.ndarray:
        return LEFT + images / max(last, 1.0) * (WIDTH - LEFT - RIGHT)

    def y(values: np.ndarray) -> np.ndarray:
        share = (scale(values) - bottom + margin) / (top - bottom + 2 * margin)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    marks = [f'<text class="title" x="{LEFT}" y="16">{escape(title)}</text>']
    for value in nice_ticks(low, high, logarithmic):
        at = float(y(np.array(value)))
        marks.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    for share, anchor in ((0.0, "start"), (1.0, "end")):
        at = LEFT + share * (WIDTH - LEFT - RIGHT)
        marks.append(f'<text x="{at:.0f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{share * last:,.0f}</text>')
    for name, points in curves.items():
        kind = "unseen" if name != title else "seen"
        at_x, at_y = x(points[:, 0]), y(points[:, 1])
        line = (
            f'<path class="{kind}" d="{path(at_x, at_y)}"/>'
            if len(points) > 1
            else f'<circle class="{kind}" cx="{at_x[0]:.1f}" cy="{at_y[0]:.1f}" r="2"/>'
        )
        marks.append(line)
    return "".join(marks)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
