"""The tables of a comparison as CSV files, and as text for a terminal."""

from typing import Any

import numpy as np

from lsap_jax.experiments.comparison.runs import Times
from lsap_jax.experiments.comparison.tables import Comparison, best, kid_note, published_metrics, set_names
from lsap_jax.experiments.csv_table import csv_table
from lsap_jax.storage.results import mapping


def csv_files(comparison: Comparison) -> dict[str, bytes]:
    """The contents of the CSV files by name."""
    files = {
        "comparison.csv": comparison_csv(comparison),
        "per_image.csv": per_image_csv(comparison),
        "tests.csv": tests_csv(comparison),
    }
    if comparison.record["config"].get("published"):
        files["published.csv"] = published_csv(comparison)
    return files


def published_csv(comparison: Comparison) -> bytes:
    """A row per preset of ours or of a paper: our means, and beside them those of every published table."""
    sources = {name: mapping(one) for name, one in mapping(comparison.record["config"].get("published")).items()}
    columns = [(name, metric) for name, one in sources.items() for metric in published_metrics(one)]
    ours = [metric for metric in comparison.metrics if any(p[1] == metric for p in comparison.intervals)]
    theirs = [preset for one in sources.values() for preset in mapping(one.get("rows"))]
    rows = []
    for preset in dict.fromkeys([*(entry.preset for entry in comparison.entries), *theirs]):
        means = [comparison.intervals.get((preset, metric)) for metric in ours]
        numbers = [mapping(sources[name].get("rows")).get(preset, {}).get(metric) for name, metric in columns]
        row: list[Any] = [preset, *(found.mean if found else None for found in means)]
        rows.append(row + [None if number is None else float(np.mean(number)) for number in numbers])
    return csv_table(["method", *ours, *(f"{name} {metric}" for name, metric in columns)], rows)


def comparison_csv(comparison: Comparison) -> bytes:
    """A row per preset: times, numbers of its whole set, and means over the common images with their 95 % intervals."""
    heads = ["preset", "space", "steps", "images", "failed", "seconds_per_image", "seconds_per_image_stepping"]
    heads += ["seconds_per_image_compiled", *(names := set_names(comparison))]
    noted = "kid" in names
    heads += ["kid_note"] * noted
    heads += [f"{metric}_{part}" for metric in comparison.metrics for part in ("mean", "low", "high")]
    rows = []
    for entry in comparison.entries:
        times = entry.times or Times()
        row: list[Any] = [entry.preset, entry.run.get("space"), entry.run.get("steps")]
        row += [len(comparison.common) if entry.manifest else 0, len(entry.failed)]
        row += [times.per_image, times.stepping_per_image, times.compiled_per_image]
        row += [entry.sets.get(name) for name in names] + [kid_note(entry)] * noted
        for metric in comparison.metrics:
            found = comparison.intervals.get((entry.preset, metric))
            row += [found.mean, found.low, found.high] if found else [None] * 3
        rows.append(row)
    return csv_table(heads, rows)


def per_image_csv(comparison: Comparison) -> bytes:
    """A row per finished image and preset."""
    rows = [
        [id, entry.preset, *(entry.metrics[id].get(metric) for metric in comparison.metrics)]
        for id in comparison.ids
        for entry in comparison.entries
        if id in entry.manifest
    ]
    return csv_table(["id", "preset", *comparison.metrics], rows)


def tests_csv(comparison: Comparison) -> bytes:
    """A row per test, below the heads of the columns."""
    heads = ["metric", "candidate", "baseline", "higher_is_better", "margin_kind", "margin", "pairs", "left_out"]
    heads += ["mean_candidate", "mean_baseline", "mean_difference", "t", "p_t", "wilcoxon", "p_wilcoxon"]
    settings = comparison.record["config"]["test"]
    rows: list[list[Any]] = []
    for test in comparison.tests:
        found = test.outcome
        row: list[Any] = [test.metric, settings["candidate"], settings["baseline"], str(test.higher_is_better).lower()]
        row += [test.margin, found.margin, found.n, len(comparison.ids) - found.n, *test.means, found.difference]
        rows.append([*row, found.t, found.p_t, found.wilcoxon, found.p_wilcoxon])
    return csv_table(heads, rows)


def summary_text(comparison: Comparison) -> str:
    """The table for a terminal: means, seconds and images per preset; the best mean of each column has a star."""
    winners = {metric: best(comparison, metric) for metric in comparison.metrics}
    longest = max(len(name) for name in ["preset", *(entry.preset for entry in comparison.entries)])
    sets = [name for name in set_names(comparison) if name != "kid_stderr"]
    lines = [["preset".ljust(longest), *comparison.metrics, *sets, "s/image", "images", "failed"]]
    for entry in comparison.entries:
        cells = [entry.preset.ljust(longest)]
        for metric in comparison.metrics:
            found = comparison.intervals.get((entry.preset, metric))
            star = "*" if entry.preset in winners[metric] else " "
            cells.append(f"{found.mean:#.4g}{star}" if found else "– ")
        cells += [f"{entry.sets[name]:#.4g} " if name in entry.sets else "– " for name in sets]
        seconds = entry.times.per_image if entry.times else None
        cells.append("–" if seconds is None else f"{seconds:.3g}")
        lines.append([*cells, str(len(comparison.common) if entry.manifest else 0), str(len(entry.failed))])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    notes = dict.fromkeys(note for entry in comparison.entries if (note := kid_note(entry)))
    return "\n".join(["  ".join(map(str.rjust, line, widths)) for line in lines] + list(notes))
