"""Columns of methods over the weight of the term that they were trained with, as one SVG for a page of text."""

import math
from collections.abc import Mapping, Sequence

from lsap_jax.metrics.significance import Interval
from lsap_jax.report.charts import nice_ticks
from lsap_jax.report.page import escape

SHOWN = (
    "MSE",
    "perceptual distance",
    "NSCD",
    "logit",
    "KID",
    "LEC",
    "preserved at equal success",
    "logit at equal success",
)
ACROSS = 4
WIDTH, HEIGHT = 190, 150
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 26, 36
COLOUR, BASELINE = "#2c6690", "#a8571b"


def weights_chart(
    points: Sequence[tuple[float, Mapping[str, Interval]]],
    baseline: Mapping[str, float],
    name: str,
    genuine: float | None = None,
) -> str:
    """A panel per column: a point with its interval for each weight, and the baseline's mean as a line across.

    Args:
        points: (weight, head -> number) of each method.
        baseline: head -> its mean over seeds.
        name: of the baseline.
        genuine: NSCD of the generator's own samples.
    """
    heads = [head for head in SHOWN if all(head in row for _, row in points)]
    panels = [
        _panel(
            head,
            [(weight, row[head]) for weight, row in points],
            {name: baseline[head]} if math.isfinite(baseline.get(head, math.nan)) else {},
            genuine if head == "NSCD" else None,
            (index % ACROSS * WIDTH, index // ACROSS * HEIGHT),
        )
        for index, head in enumerate(heads)
    ]
    width, height = min(len(heads), ACROSS) * WIDTH, -(-len(heads) // ACROSS) * HEIGHT + 20
    told = f"Lines across: {name}" + (", and in the panel of NSCD the generator's own samples (dashed)" * bool(genuine))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(", ".join(heads))} over the weight of the term" font-family="sans-serif" '
        f'font-size="10" fill="#222"><rect width="{width}" height="{height}" fill="#fff"/>{"".join(panels)}'
        f'<text x="8" y="{height - 6}" fill="{BASELINE}">{escape(told)}</text></svg>\n'
    )


def _panel(
    head: str,
    points: Sequence[tuple[float, Interval]],
    across: Mapping[str, float],
    genuine: float | None,
    corner: tuple[int, int],
) -> str:
    ordered = sorted(points, key=lambda point: point[0])
    lines = [*((value, BASELINE, "") for value in across.values())]
    if genuine is not None:
        lines.append((genuine, "#777", ' stroke-dasharray="4 3"'))
    values = [v for _, one in ordered for v in (one.mean, one.low, one.high) if math.isfinite(v)]
    values += [value for value, _, _ in lines]
    least, greatest = min(values), max(values)
    room = max((greatest - least) * 0.06, abs(greatest) * 1e-6, 1e-9)
    low, high = least - room, greatest + room
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(index: int) -> float:
        """Weights stand side by side: they are chosen, not measured."""
        return LEFT + (index + 0.5) / len(ordered) * (right - LEFT)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - TOP)

    parts = [f'<text x="{LEFT - 44}" y="14" font-weight="600">{escape(head)}</text>']
    for tick in nice_ticks(least, greatest):
        parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{right}" stroke="#e3e3e0"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y(tick) + 3:.1f}" text-anchor="end">{tick:.3g}</text>')
    for value, colour, dashes in lines:
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{right}" stroke="{colour}"{dashes}/>')
    for index, (weight, one) in enumerate(ordered):
        if math.isfinite(one.low):
            parts.append(f'<path d="M{x(index):.1f} {y(one.low):.1f}V{y(one.high):.1f}" stroke="{COLOUR}"/>')
        parts.append(f'<circle cx="{x(index):.1f}" cy="{y(one.mean):.1f}" r="3" fill="{COLOUR}"/>')
        parts.append(f'<text x="{x(index):.1f}" y="{bottom + 13}" text-anchor="middle">{weight:g}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle:.0f}" y="{bottom + 26}" text-anchor="middle">weight</text>')
    return f'<g transform="translate({corner[0]} {corner[1]})">{"".join(parts)}</g>'
