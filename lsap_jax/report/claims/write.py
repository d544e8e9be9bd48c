"""What a comparison with edits and a claim writes beside its own tables.

methods.csv   a row per method, reconstructions and edits in one table
ranks.csv     a row per method: its ranks in reconstruction, editing and cost
frontier.svg  editing over reconstruction
claim.csv     a row per finding
claims.csv    a row per part of each of several claims
methods.md    all of it as text, with the verdicts
weights.svg   the columns over the weights of a term, where the claim names any
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.experiments.claims.columns import Methods, deciding, table
from lsap_jax.experiments.claims.files import claims_csv, markdown, methods_csv, ranks_csv, verdict_csv
from lsap_jax.experiments.claims.ranks import ranked
from lsap_jax.experiments.claims.settings import claims_of, weighed
from lsap_jax.experiments.claims.verdict import Verdict, judge
from lsap_jax.experiments.comparison.plan import EDITS
from lsap_jax.experiments.comparison.tables import Comparison
from lsap_jax.experiments.edit_quality.folder import RECORD
from lsap_jax.experiments.edit_quality.tables import Quality
from lsap_jax.report.claims.frontier import frontier_chart
from lsap_jax.report.claims.weights import weights_chart
from lsap_jax.report.comparison.write import write_comparison
from lsap_jax.report.quality.write import write_quality
from lsap_jax.storage.atomic import write_files


def rewrite(out: Path) -> None:
    """Writes all tables and pages of a comparison in `out` again, from its runs, as far as they have begun, and its
    edits.

    Raises:
        LsapError: not a comparison, or a file of it is missing or damaged.
    """
    comparison = write_comparison(out, begun=True)
    config = comparison.record["config"]
    quality = write_quality(out / EDITS) if config.get("edits") and (out / EDITS / RECORD).is_file() else None
    if config.get("claim") and comparison.common:
        write_claim(out, comparison, quality)


def write_claim(out: Path, comparison: Comparison, quality: Quality | None) -> str:
    """Writes the tables of a comparison in `out` that has a claim; returns methods.md.

    Raises:
        LsapError: a strength that was not measured.
    """
    settings = comparison.record["config"]["claim"]
    presets = [entry.preset for entry in comparison.entries if entry.manifest]
    methods = _methods(comparison, quality, presets, settings)
    verdicts, unjudged = _judged(methods, comparison)
    verdict = verdicts.pop("", None)
    text = markdown(methods, [*([verdict] if verdict else []), *verdicts.values()], settings, unjudged)
    shown = deciding(methods, table(methods))
    ranks, chart = ranked(shown), frontier_chart(shown)
    charted = verdict is not None and settings["weights"] and all(name in presets for _, name in weighed(settings))
    files = {
        "methods.csv": methods_csv(methods),
        "methods.md": text.encode("utf-8"),
        "ranks.csv": ranks_csv(ranks, presets),
        "frontier.svg": chart.encode("utf-8") if chart else None,
        "claim.csv": None if verdict is None else verdict_csv(verdict),
        "claims.csv": claims_csv(verdicts) if verdicts else None,
        "weights.svg": _weights(comparison, quality, settings).encode("utf-8") if charted else None,
    }
    for name in (name for name, data in files.items() if data is None):
        (out / name).unlink(missing_ok=True)
    write_files({out / name: data for name, data in files.items() if data is not None})
    return text


def _judged(methods: Methods, comparison: Comparison) -> tuple[dict[str, Verdict], list[str]]:
    """The verdicts by the claims' names, and a line about each claim on methods that were left out, or of which no
    image is finished.
    """
    config = comparison.record["config"]
    verdicts, unjudged = {}, []
    for name, one in claims_of(config).items():
        absent = [preset for preset in (*one["candidate"], *one["baseline"]) if preset not in methods.presets]
        if absent:
            unjudged.append(f'"{one["statement"]}" is not judged: {absent[0]} is not among the methods.')
        else:
            verdicts[name] = judge(methods, one)
    return verdicts, unjudged


def _methods(
    comparison: Comparison, quality: Quality | None, presets: list[str], settings: Mapping[str, Any]
) -> Methods:
    strength, success = settings["strength"], float(settings["success"])
    strength = None if strength is None else float(strength)
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
