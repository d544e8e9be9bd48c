"""Trainings that differ by their seed alone as one method: its values are the means over the seeds, image by image."""

from collections.abc import Mapping, Sequence

import numpy as np

from lsap_jax.experiments.claims.columns import Methods
from lsap_jax.experiments.edit_quality.curves import resampled
from lsap_jax.experiments.edit_quality.tables import Entry


def of_images(methods: Methods, seeds: Sequence[str], metric: str) -> np.ndarray:
    """A metric [seeds, N] over the common images; NaN where an image has none."""
    entries = [methods.compared(seed) for seed in seeds]
    ids = [id for id in methods.comparison.common if all(id in entry.metrics for entry in entries)]
    return np.array([[entry.metrics[id].get(metric, np.nan) for id in ids] for entry in entries], float)


def of_edits(methods: Methods, seeds: Sequence[str], name: str) -> Entry | None:
    """The edits of all seeds as one entry; None where those of a seed are missing."""
    entries = [methods.edited(seed) for seed in seeds]
    found = [entry for entry in entries if entry is not None]
    if len(found) < len(entries) or not found:
        return None
    names = [measure for measure in found[0].means if all(measure in entry.means for entry in found)]
    arrays = {measure: _mean(np.stack([entry.arrays[measure] for entry in found])) for measure in names}
    means = {measure: resampled(values) for measure, values in arrays.items()}
    return Entry(record={**found[0].record, "name": name}, arrays=arrays, means=means)


def apart(candidate: Sequence[float], baseline: Sequence[float], *, higher_is_better: bool) -> bool | None:
    """Whether every seed of the candidate is better than every seed of the baseline: of three and three without a
    difference, one time in twenty. None for a single training each, which has no spread.
    """
    if len(candidate) < 2 or len(baseline) < 2:
        return None
    sign = 1 if higher_is_better else -1
    return bool(min(sign * value for value in candidate) > max(sign * value for value in baseline))


def spread(rows: Mapping[str, Mapping[str, float]], seeds: Sequence[str], head: str) -> tuple[float, float, float]:
    """(mean, least, greatest) of a column over the seeds."""
    values = [rows[seed][head] for seed in seeds]
    return float(np.mean(values)), min(values), max(values)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis, NaN left out."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0.0).sum(axis=0) / there.sum(axis=0)  # type: ignore[no-any-return]
