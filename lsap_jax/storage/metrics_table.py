"""metrics.csv read back: the metrics of the manifest, and the columns that `lsap-jax evaluate` added."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_metrics_table(folder: Path) -> dict[str, dict[str, float]]:
    """Metrics by id, then by name; empty if the run has no metrics.csv yet. Cells that hold no number are left out."""
    table = folder / "metrics.csv"
    if not table.exists():
        return {}
    found: dict[str, dict[str, float]] = {}
    for line in csv.DictReader(io.StringIO(table.read_text("utf-8", errors="replace"), newline="")):
        id = str(line.pop("id", None))
        found[id] = numbers(line)
    return found


def numbers(values: Mapping[Any, Any]) -> dict[str, float]:
    """The values that are numbers, by name."""
    found = {}
    for name, value in values.items():
        try:
            found[str(name)] = float(value)
        except (TypeError, ValueError):
            continue
    return found
