"""Charts of a comparison as inline SVG: means with their intervals in order, and loss curves as small multiples."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lsap_jax.metrics.significance import Interval
from lsap_jax.report.page import escape, number

POINTS = 120
WIDTH, HEIGHT = 240, 110
LEFT, RIGHT, ROW, FOOT = 110, 60, 26, 26


def intervals_chart(rows: Sequence[tuple[str, Interval]], published: Mapping[str, float], label: str) -> str:
    """Means as dots with their intervals as lines, a row each, on a logarithmic axis where all are positive.

    Args:
        rows: (name, interval), from top to bottom; means that are not finite are left out.
        published: another mean of some of the names, drawn as a diamond.
        label: name of the metric.
    """
    rows = [(name, found) for name, found in rows if math.isfinite(found.mean)]
    if not rows:
        return ""
    shown = {name: published[name] for name, _ in rows if name in published}
    values = [v for _, i in rows for v in (i.mean, i.low, i.high) if math.isfinite(v)] + list(shown.values())
    positive = min(values) > 0
    low, high = (math.log10(v) if positive else v for v in (min(values), max(values)))
    margin = max((high - low) * 0.04, 1e-9 + abs(high) * 1e-6)
    width, height = 560, len(rows) * ROW + FOOT

    def x(value: float) -> str:
        at = math.log10(value) if positive else value
        return f"{LEFT + (at - low + margin) / (high - low + 2 * margin) * (width - LEFT - RIGHT):.1f}"

    parts = []
    for tick in ticks(min(values), max(values), positive):
        parts.append(f'<line class="rule" x1="{x(tick)}" x2="{x(tick)}" y1="0" y2="{height - FOOT}"/>')
        parts.append(f'<text x="{x(tick)}" y="{height - 8}" text-anchor="middle">{tick:.3g}</text>')
    for index, (name, found) in enumerate(rows):
        y = index * ROW + ROW / 2
        title = f"{name}: {label} {number(found.mean)}"
        if math.isfinite(found.low):
            title += f", from {number(found.low)} to {number(found.high)}"
            parts.append(f'<line class="whisker" x1="{x(found.low)}" x2="{x(found.high)}" y1="{y}" y2="{y}"/>')
        tip = f"<title>{escape(title)}</title>"
        parts.append(f'<circle class="dot" cx="{x(found.mean)}" cy="{y}" r="4.5">{tip}</circle>')
        if name in shown:
            parts.append(
                f'<path class="diamond" d="M{x(shown[name])} {y - 6}l5 6l-5 6l-5 -6z">'
                f"<title>{escape(f'{name}: published {number(shown[name])}')}</title></path>"
            )
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<text x="{width - RIGHT + 8}" y="{y + 4}">{number(found.mean, 3)}</text>')
    summary = f"Presets by {label}: " + ", ".join(f"{name} {number(found.mean, 3)}" for name, found in rows)
    return (
        f'<svg class="ranks" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(summary)}">'
        f"{''.join(parts)}</svg>"
    )


def ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Round values within [low, high], at most six: 1-2-5 multiples, or decades where there are many."""
    if not logarithmic:
        return [float(v) for v in np.linspace(low, high, 4)] if high > low else [low]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**d for d in decades for m in multiples if low <= m * 10.0**d <= high]
        if len(found) <= 6:
            return found or [math.sqrt(low * high)]
    return found[:: math.ceil(len(found) / 6)]


def multiples(curves: Mapping[str, np.ndarray], label: str) -> dict[str, str]:
    """A small chart per name on common axes: its own curve in colour over all the others in grey.

    Args:
        curves: medians [steps + 1] by name; what is not finite is left out, and lengths may differ.
        label: name of the term.

    Returns:
        An SVG by name; "" where a curve has nothing to show.
    """
    finite = [c[np.isfinite(c)] for c in curves.values() if np.isfinite(c).any()]
    if not finite:
        return dict.fromkeys(curves, "")
    low, high = min(float(c.min()) for c in finite), max(float(c.max()) for c in finite)
    positive, last = low > 0, max(max(len(c) for c in curves.values()) - 1, 1)
    bottom, top = (math.log10(v) if positive else v for v in (low, high))
    margin = max((top - bottom) * 0.05, 1e-9 + abs(top) * 1e-6)
    paths = {name: _path(curve, positive, last, bottom - margin, top + margin) for name, curve in curves.items()}
    # Every path stands once in the page, in the chart of its own name; the other charts refer to it.
    anchors = {name: f"curve-{index}" for index, name in enumerate(curves)}
    charts = {}
    for name, path in paths.items():
        if not path:
            charts[name] = ""
            continue
        others = "".join(f'<use href="#{anchors[n]}"/>' for n, p in paths.items() if p and n != name)
        first, final = ends(curves[name])
        summary = f"{name}: {label} over the steps, {number(first, 3)} to {number(final, 3)}"
        charts[name] = (
            f'<svg class="multiple" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(summary)}">'
            f'<line class="axis" x1="0" x2="{WIDTH}" y1="{HEIGHT - 0.5}" y2="{HEIGHT - 0.5}"/>'
            f'<g class="others">{others}</g><g class="own"><path id="{anchors[name]}" d="{path}"/></g></svg>'
        )
    return charts


def ends(curve: np.ndarray) -> tuple[float, float]:
    """The first and the last finite value of a curve that has one."""
    finite = curve[np.isfinite(curve)]
    return float(finite[0]), float(finite[-1])


def _path(curve: np.ndarray, positive: bool, last: int, bottom: float, top: float) -> str:
    keep = np.flatnonzero(np.isfinite(curve))
    if not len(keep):
        return ""
    keep = keep[np.unique(np.linspace(0, len(keep) - 1, POINTS).round().astype(int))]
    values = np.log10(curve[keep]) if positive else curve[keep]
    xs, ys = keep / last * WIDTH, (1 - (values - bottom) / (top - bottom)) * HEIGHT
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True))
