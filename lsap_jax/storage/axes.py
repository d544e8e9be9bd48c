"""Axes and lines of charts as SVG has them, for pages and for files."""

import math

import numpy as np


def nice_ticks(low: float, high: float, logarithmic: bool = False) -> list[float]:
    """Three to six round values within [low, high], at 1-2-5 multiples or decades on a logarithmic axis."""
    if logarithmic and high / low > 4:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        span = math.log10(high / low)
        multiples = (1, 2, 5) if span < 1.5 else (1, 3) if span < 3 else (1,)
        values = [m * 10.0**d for d in decades for m in multiples if low <= m * 10.0**d <= high]
        return values[:: max(1, math.ceil(len(values) / 6))]
    if high <= low:
        return [low]
    raw = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= raw)
    start = math.ceil(low / step)
    return [n * step for n in range(start, math.floor(high / step) + 1)]


def path(xs: np.ndarray, ys: np.ndarray) -> str:
    """The `d` of a line through points [N] in the units of its viewBox."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True))
