"""Reconstruction against editing, a point per method, as one SVG for a page of text."""

import math
from collections.abc import Mapping, Sequence

from lsap_jax.experiments.claims.ranks import SIDES, best
from lsap_jax.metrics.significance import Interval
from lsap_jax.report.page import escape
from lsap_jax.storage.axes import nice_ticks

ACROSS = "MSE"
WIDTH, HEIGHT, PER_LINE = 420, 300, 2
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 30, 36
ROW = 15  # of the list of names
COLOUR, BEATEN = "#a8571b", "#2c6690"

Rows = Mapping[str, Mapping[str, Interval]]


def frontier_chart(rows: Rows) -> str:
    """A panel per editing column that methods have, over a logarithmic MSE; numbers stand for methods, in order, and
    those that no other method of the panel beats are joined by a line. "" where there is nothing to draw.
    """
    numbers = {name: place for place, name in enumerate(rows, 1)}
    panels: list[str] = []
    for head, higher in SIDES["editing"].items():
        some = {name: row for name, row in rows.items() if ACROSS in row and head in row and row[ACROSS].mean > 0}
        if len(some) > 1:
            corner = (len(panels) % PER_LINE * WIDTH, len(panels) // PER_LINE * HEIGHT)
            panels.append(_panel(head, higher, some, numbers, corner))
    if not panels:
        return ""
    width, height = min(len(panels), PER_LINE) * WIDTH, -(-len(panels) // PER_LINE) * HEIGHT
    columns = 2 * width // WIDTH
    lines = -(-len(numbers) // columns)
    names = "".join(
        f'<text x="{12 + (place - 1) // lines * (width // columns)}" y="{height + 12 + (place - 1) % lines * ROW}">'
        f"{place} {escape(name)}</text>"
        for name, place in numbers.items()
    )
    height += lines * ROW + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="editing over reconstruction" font-family="sans-serif" font-size="10" fill="#222">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(panels)}{names}</svg>\n'
    )


def _panel(head: str, higher: bool, rows: Rows, numbers: Mapping[str, int], corner: tuple[int, int]) -> str:
    points = {name: (math.log10(row[ACROSS].mean), row[head].mean) for name, row in rows.items()}
    front = best({name: (a, -b if higher else b) for name, (a, b) in points.items()})
    (left, right), (low, high) = (_span([point[axis] for point in points.values()]) for axis in (0, 1))

    def x(value: float) -> float:
        return LEFT + (value - left) / (right - left) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        part = (value - low) / (high - low) if higher else (high - value) / (high - low)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="8" y="16" font-weight="600">{escape(head)}</text>']
    for tick in nice_ticks(low, high):
        parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="#e3e3e0"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y(tick) + 3:.1f}" text-anchor="end">{tick:.3g}</text>')
    for tick in nice_ticks(10**left, 10**right, logarithmic=True):
        at = x(math.log10(tick))
        parts.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#e3e3e0"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{tick:.3g}</text>')
    middle, told = (LEFT + WIDTH - RIGHT) / 2, f"{ACROSS}; better is up and to the left"
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{told}</text>')
    ordered: Sequence[tuple[float, float]] = sorted(points[name] for name in front)
    joined = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in ordered)
    parts.append(f'<path d="M{joined}" fill="none" stroke="{COLOUR}" stroke-dasharray="4 3"/>')
    for name, (a, b) in points.items():
        colour = COLOUR if name in front else BEATEN
        told = f"{name}: {ACROSS} {10**a:.3g}, {head} {b:.3g}"
        parts.append(
            f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3" fill="{colour}"><title>{escape(told)}</title></circle>'
        )
        parts.append(f'<text x="{x(a) + 5:.1f}" y="{y(b) - 4:.1f}" fill="{colour}">{numbers[name]}</text>')
    return f'<g transform="translate({corner[0]} {corner[1]})">{"".join(parts)}</g>'


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis, with room around the values."""
    room = max((max(values) - min(values)) * 0.08, abs(max(values)) * 1e-3, 1e-9)
    return min(values) - room, max(values) + room
