"""Small inline SVG charts: a histogram, a median with its band, a sparkline. Colours come from the page's style."""

import math
from collections.abc import Sequence

import numpy as np

from lsap_jax.report.page import escape, number
from lsap_jax.storage.axes import nice_ticks, path

WIDTH, HEIGHT = 340, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24
POINTS = 240  # a chart this wide shows no more


def histogram(values: np.ndarray, label: str) -> str:
    """Distribution of finite ``values`` [N], its mean (solid) and median (dashed); empty where all are equal."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return ""
    bins = int(np.clip(math.ceil(math.sqrt(len(values)) * 1.5), 8, 32))
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    width, height = 300, 72

    def x(value: float) -> float:
        return (value - low) / (high - low) * (width - 2) + 1

    bars = []
    for n, start, stop in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if n:
            tall = max(n / counts.max() * (height - 6), 1.5)
            title = f"{n} of {len(values)} from {number(start)} to {number(stop)}"
            bars.append(
                f'<rect x="{x(start) + 0.5:.1f}" width="{max(x(stop) - x(start) - 1, 0.5):.1f}" '
                f'y="{height - 1 - tall:.1f}" height="{tall:.1f}"><title>{title}</title></rect>'
            )
    mean, median = float(values.mean()), float(np.median(values))
    lines = "".join(
        f'<line class="{kind}" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="2" y2="{height}"/>'
        for kind, at in (("mean", mean), ("median", median))
    )
    text = f"{label}: from {number(low)} to {number(high)}, mean {number(mean)}, median {number(median)}"
    return (
        f'<svg class="histogram" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(text)}">'
        f'<g class="bars">{"".join(bars)}</g>'
        f'<line class="axis" x1="0" x2="{width}" y1="{height - 0.5}" y2="{height - 0.5}"/>{lines}</svg>'
        f'<p class="range"><span>{number(low)}</span><span>{number(high)}</span></p>'
    )


def band(curves: Sequence[np.ndarray], label: str) -> tuple[str, str]:
    """Median and 10–90 % band of loss curves over the steps.

    Args:
        curves: one float array [steps] per image; lengths may differ, and entries that are not finite are left out.
        label: name of the term, for readers of the page who do not see it.

    Returns:
        The SVG, and one HTML-free sentence with the median at the first and the last step.
    """
    steps, quantiles = _quantiles(curves)
    if not len(steps):
        return "", "no finite values"
    positive = bool((quantiles > 0).all())
    scale = np.log10 if positive else np.asarray
    low, high = float(quantiles.min()), float(quantiles.max())
    bottom, top = float(scale(low)), float(scale(high))
    margin = max((top - bottom) * 0.06, abs(top) * 1e-3, 1e-9)
    bottom, top = bottom - margin, top + margin
    last = max(int(steps[-1]), 1)
    xs = LEFT + steps / last * (WIDTH - LEFT - RIGHT)
    lower, middle, upper = HEIGHT - BOTTOM - (scale(quantiles) - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    marks = []
    for value in nice_ticks(low, high, positive):
        y = HEIGHT - BOTTOM - (float(scale(value)) - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM)
        marks.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    for part, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        at = LEFT + part * (WIDTH - LEFT - RIGHT)
        marks.append(f'<text x="{at:.0f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{round(part * last)}</text>')
    shape = f"{path(xs, upper)}L{path(xs[::-1], lower[::-1])[1:]}Z"
    first, final = float(quantiles[1, 0]), float(quantiles[1, -1])
    sentence = f"{'median ' if len(curves) > 1 else ''}{number(first, 3)} at the start, {number(final, 3)} at the end"
    if not positive:
        sentence += "; linear scale, as not all values are positive"
    svg = (
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{label}: {sentence}")}">'
        f"{''.join(marks)}"
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
        f'<path class="band" d="{shape}"/><path class="line" d="{path(xs, middle)}"/></svg>'
    )
    return svg, sentence


def sparkline(curve: np.ndarray, label: str) -> str:
    """The course of one loss curve [steps] without axes; logarithmic where all finite values are positive."""
    keep = np.flatnonzero(np.isfinite(curve))
    if len(keep) < 2:
        return ""
    keep = keep[np.unique(np.linspace(0, len(keep) - 1, 60).round().astype(int))]
    values = curve[keep].astype(float)
    heights = np.log10(values) if (values > 0).all() else values
    spread = float(np.ptp(heights)) or 1.0
    xs = 1 + keep / max(len(curve) - 1, 1) * 98
    ys = 21 - (heights - heights.min()) / spread * 18
    text = f"{label}: {number(float(values[0]), 3)} to {number(float(values[-1]), 3)}"
    return (
        f'<svg class="spark" viewBox="0 0 100 24" role="img" preserveAspectRatio="none" aria-label="{escape(text)}">'
        f'<title>{escape(text)}</title><path d="{path(xs, ys)}"/></svg>'
    )


def _quantiles(curves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Steps [P] and the 10, 50 and 90 % quantiles [3, P] over the images, at no more than POINTS steps."""
    length = max((len(curve) for curve in curves), default=0)
    steps = np.unique(np.linspace(0, max(length - 1, 0), POINTS).round().astype(int)) if length else np.zeros(0, int)
    table = np.full((len(curves), len(steps)), np.nan)
    for row, curve in zip(table, curves, strict=True):
        reach = int(np.searchsorted(steps, len(curve)))
        row[:reach] = curve[steps[:reach]]
    table[~np.isfinite(table)] = np.nan
    some = ~np.isnan(table).all(axis=0)  # nanquantile warns about a column without a single value
    if not some.any():
        return np.zeros(0, int), np.zeros((3, 0))
    return steps[some], np.nanquantile(table[:, some], [0.1, 0.5, 0.9], axis=0)
