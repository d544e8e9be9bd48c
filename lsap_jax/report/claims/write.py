"""What a comparison with edits and a claim writes beside its own tables.

methods.csv   a row per method, reconstructions and edits in one table
claim.csv     a row per finding
methods.md    both as text, with the verdict
weights.svg   the columns over the weights of a term, where the claim names any
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.experiments.claims.columns import Methods, table
from lsap_jax.experiments.claims.files import markdown, methods_csv, verdict_csv
from lsap_jax.experiments.claims.settings import weighed
from lsap_jax.experiments.claims.verdict import judge
from lsap_jax.experiments.comparison.tables import Comparison
from lsap_jax.experiments.edit_quality.tables import Quality
from lsap_jax.report.claims.weights import weights_chart
from lsap_jax.storage.atomic import write_files


def write_claim(out: Path, comparison: Comparison, quality: Quality | None) -> str:
    """Writes the tables of a comparison in `out` that has a claim; returns methods.md.

    Raises:
        LsapError: the claim names what was not compared, or a strength that was not measured.
    """
    settings = comparison.record["config"]["claim"]
    presets = [entry.preset for entry in comparison.entries if entry.manifest]
    methods = _methods(comparison, quality, presets, settings)
    verdict = judge(methods, settings) if settings["candidate"] else None
    text = markdown(methods, verdict, settings)
    files = {
        "methods.csv": methods_csv(table(methods)),
        "methods.md": text.encode("utf-8"),
        "claim.csv": None if verdict is None else verdict_csv(verdict),
        "weights.svg": _weights(comparison, quality, settings).encode("utf-8")
        if verdict and settings["weights"]
        else None,
    }
    for name in (name for name, data in files.items() if data is None):
        (out / name).unlink(missing_ok=True)
    write_files({out / name: data for name, data in files.items() if data is not None})
    return text


def _methods(
    comparison: Comparison, quality: Quality | None, presets: list[str], settings: Mapping[str, Any]
) -> Methods:
    strength, success = float(settings["strength"]), float(settings["success"])
    return Methods(comparison=comparison, quality=quality, presets=presets, strength=strength, success=success)


def _weights(comparison: Comparison, quality: Quality | None, settings: Mapping[str, Any]) -> str:
    """At equal success the methods of the chart are compared among themselves: over what they all reach."""
    points, seeds = weighed(settings), list(settings["baseline"])
    rows = table(_methods(comparison, quality, [*(preset for _, preset in points), *seeds], settings))
    heads = dict.fromkeys(head for row in rows.values() for head in row)
    baseline = {
        head: float(np.mean([rows[seed][head].mean for seed in seeds]))
        for head in heads
        if all(head in rows[seed] for seed in seeds)
    }
    name = seeds[0] if len(seeds) == 1 else f"mean of {', '.join(seeds)}"
    genuine = rows[points[0][1]].get("NSCD of samples")
    shown = [(weight, rows[preset]) for weight, preset in points]
    return weights_chart(shown, baseline, name, None if genuine is None else genuine.mean)
