"""The tables of an editing protocol as CSV files."""

import math
from collections.abc import Sequence
from typing import Any

from lsap_jax.experiments.csv_table import csv_table
from lsap_jax.experiments.edit_quality.curves import intervals
from lsap_jax.experiments.edit_quality.tables import Quality, kid_note, verdict


def csv_files(quality: Quality) -> dict[str, bytes | None]:
    """The contents of the CSV files by name; None for a file that these results have nothing for."""
    return {
        "curves.csv": curves_csv(quality),
        "matched.csv": matched_csv(quality) if quality.levels else None,
        "differences.csv": differences_csv(quality) if quality.differences else None,
    }


def curves_csv(quality: Quality) -> bytes:
    """A row per entry, direction ("all" is their mean), strength and measure."""
    rows: list[Sequence[Any]] = []
    notes = {"kid": kid_note(quality)}
    for entry in quality.entries:
        for name in quality.measures:
            if name not in entry.arrays:
                continue
            table = {"all": entry.means[name]}
            table |= dict(zip(entry.directions, entry.by_direction[name], strict=True))
            for direction, found in table.items():
                for strength, i in zip(quality.strengths, intervals(found), strict=True):
                    if math.isfinite(i.mean):
                        rows.append(
                            [entry.name, direction, f"{strength:g}", name, i.mean, i.low, i.high, i.n, notes.get(name)]
                        )
    return csv_table(["entry", "direction", "strength", "measure", "mean", "low", "high", "edits", "note"], rows)


def matched_csv(quality: Quality) -> bytes:
    """A row per entry, level of success and measure."""
    rows: list[Sequence[Any]] = []
    notes = {"kid": kid_note(quality)}
    for level, found in quality.matched:
        for entry in quality.entries:
            for name, one in {"strength": found.strength[entry.name], **found.measures[entry.name]}.items():
                i = one.interval
                reached, common = found.reached[entry.name], " ".join(found.directions)
                rows.append([entry.name, level, name, i.mean, i.low, i.high, reached, common, notes.get(name)])
    return csv_table(["entry", "success", "measure", "mean", "low", "high", "reached", "directions", "note"], rows)


def differences_csv(quality: Quality) -> bytes:
    """A row per level and measure: candidate - baseline."""
    rows: list[Sequence[Any]] = []
    notes = {"kid": kid_note(quality)}
    for one in quality.differences:
        i, note = one.found.interval, notes.get(one.measure)
        rows.append([one.where, one.measure, i.mean, i.low, i.high, " ".join(one.directions), verdict(one), note])
    return csv_table(["at", "measure", "difference", "low", "high", "directions", "verdict", "note"], rows)
