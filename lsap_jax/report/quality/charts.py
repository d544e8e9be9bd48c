"""Lines with their intervals over a common axis, as inline SVG."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lsap_jax.report.page import escape, number
from lsap_jax.storage.axes import nice_ticks

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 40


class Line(NamedTuple):
    """Points [P] with the lower and upper ends of their intervals; NaN where an end is missing."""

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


def lines_chart(
    lines: Mapping[str, Line], x_label: str, y_label: str, reference: float | None = None, colours: int = 8
) -> str:
    """A chart of several lines, coloured by their order (classes c0, c1, ...), each with a band.

    Args:
        reference: a level to draw across, as what genuine images have.
    """
    xs = np.concatenate([line.x for line in lines.values()])
    ys = np.concatenate([v for line in lines.values() for v in (line.y, line.low, line.high)])
    xs, ys = xs[np.isfinite(xs)], ys[np.isfinite(ys)]
    if not len(xs) or not len(ys):
        return ""
    bottom, top = float(ys.min()), float(ys.max())
    if reference is not None:
        bottom, top = min(bottom, reference), max(top, reference)
    margin = max((top - bottom) * 0.05, 1e-9 + abs(top) * 1e-6)
    bottom, top = bottom - margin, top + margin
    first, last = float(xs.min()), float(xs.max())
    span = max(last - first, 1e-9)

    def x(v: float) -> float:
        return LEFT + (v - first) / span * (WIDTH - LEFT - RIGHT)

    def y(v: float) -> float:
        return HEIGHT - BOTTOM - (v - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in nice_ticks(bottom + margin, top - margin):
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    for tick in nice_ticks(first, last):
        parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:.3g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>')
    if reference is not None:
        title = f"<title>genuine samples: {number(reference)}</title>"
        parts.append(
            f'<line class="genuine" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(reference):.1f}" y2="{y(reference):.1f}">'
            f"{title}</line>"
        )
    for k, (name, line) in enumerate(lines.items()):
        keep = np.isfinite(line.x) & np.isfinite(line.y)
        colour = f"c{k % colours}"
        band = keep & np.isfinite(line.low) & np.isfinite(line.high)
        if band.sum() > 1:
            there = [f"{x(a):.1f} {y(b):.1f}" for a, b in zip(line.x[band], line.high[band], strict=True)]
            back = [f"{x(a):.1f} {y(b):.1f}" for a, b in zip(line.x[band][::-1], line.low[band][::-1], strict=True)]
            parts.append(f'<path class="spread {colour}" d="M{"L".join(there + back)}Z"/>')
        points = [f"{x(a):.1f} {y(b):.1f}" for a, b in zip(line.x[keep], line.y[keep], strict=True)]
        if points:
            parts.append(f'<path class="series {colour}" d="M{"L".join(points)}"/>')
        for a, b in zip(line.x[keep], line.y[keep], strict=True):
            title = f"{name}: {x_label} {number(float(a), 3)}, {y_label} {number(float(b), 3)}"
            parts.append(
                f'<circle class="point {colour}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3">'
                f"<title>{escape(title)}</title></circle>"
            )
    ends = ", ".join(f"{n} {number(_last(line), 3)}" for n, line in lines.items() if math.isfinite(_last(line)))
    summary = f"{y_label} over {x_label}; at the end: {ends}"
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(summary)}"'
    return f'<svg class="lines" {box}>{"".join(parts)}</svg>'


def legend(names: list[str], colours: int = 8) -> str:
    """The names with their colours."""
    items = "".join(f'<span><i class="swatch c{k % colours}"></i>{escape(n)}</span>' for k, n in enumerate(names))
    return f'<p class="legend">{items}</p>'


def _last(line: Line) -> float:
    keep = line.y[np.isfinite(line.y)]
    return float(keep[-1]) if len(keep) else math.nan
