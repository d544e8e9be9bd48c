"""Median loss curves of a comparison's presets."""

from pathlib import Path

import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison.tables import Comparison, Entry
from lsap_jax.storage.results import read_arrays

CURVE = "mse"
MOST_CURVES = 200


def median_curves(out: Path, comparison: Comparison) -> dict[str, np.ndarray]:
    """Median over the common images of the MSE after each step [steps + 1], by preset.

    Of more than 200 common images, 200 are taken, evenly spread. A step at which no curve is finite is NaN. A preset
    without a single curve is left out.
    """
    found = {entry.preset: median_curve(out, comparison, entry) for entry in comparison.entries}
    return {preset: curve for preset, curve in found.items() if curve is not None}


def median_curve(out: Path, comparison: Comparison, entry: Entry) -> np.ndarray | None:
    """Median curve [steps + 1] of a preset; None if none of its curves can be read."""
    ids = comparison.common if entry.manifest else ()
    if len(ids) > MOST_CURVES:
        ids = tuple(ids[i] for i in np.linspace(0, len(ids) - 1, MOST_CURVES).round().astype(int))
    curves = []
    for id in ids:
        try:
            curve = read_arrays(out / entry.folder, id, "curves", manifest=entry.manifest)[CURVE]
        except (LsapError, OSError, ValueError, KeyError):
            continue
        curves.append(curve.astype(np.float64))
    if not curves:
        return None
    table = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    table[~np.isfinite(table)] = np.nan
    found, some = np.full(table.shape[1], np.nan), ~np.isnan(table).all(axis=0)
    found[some] = np.nanmedian(table[:, some], axis=0)  # which warns about a column without a single value
    return found
