"""Numbers of an editing protocol: curves over strength, measures at equal success, differences; as CSV and as text."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.editing.curves import AtSuccess, Resampled, at_success, difference, intervals, resampled
from lsap_jax.editing.protocol import read_measures, read_quality
from lsap_jax.inversion.results import Record
from lsap_jax.metrics.significance import Interval

ORDER = ("success", "preserved", "logit", "nscd", "identity", "score")
HIGHER_IS_BETTER = {"success": True, "preserved": True, "logit": True, "nscd": False, "identity": True, "score": True}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run in one variant: its measures [D, S, N] and their means over images and directions."""

    record: Record
    arrays: Mapping[str, np.ndarray]
    means: Mapping[str, Resampled]

    @property
    def name(self) -> str:
        return str(self.record["name"])

    @property
    def label(self) -> str:
        """The name, with the space where that says something else."""
        space = str(self.record["space"])
        return self.name if space in self.name else f"{self.name} ({space})"

    @property
    def directions(self) -> list[str]:
        return [str(d["name"]) for d in self.record["directions"]]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """All that a folder of edit-quality holds."""

    record: Record
    entries: Sequence[Entry]

    @property
    def strengths(self) -> np.ndarray:
        return np.asarray(self.record["config"]["strengths"], float)

    @property
    def measures(self) -> list[str]:
        return [name for name in ORDER if any(name in entry.means for entry in self.entries)]

    @property
    def levels(self) -> list[float]:
        """Levels of success at which entries are compared: none without a success, or with strengths of both signs."""
        if "success" not in self.measures or (self.strengths < 0).any() or (np.diff(self.strengths) <= 0).any():
            return []
        return [float(level) for level in self.record["config"]["levels"]]


def read_all(out: Path) -> Quality:
    """Reads a folder of edit-quality.

    Raises:
        LsapError: it is none, or a file in it is missing or damaged.
    """
    record = read_quality(out)
    entries = []
    for one in record["entries"]:
        arrays = read_measures(out, one)
        means = {name: resampled(a) for name, a in arrays.items() if name != "pictures"}
        entries.append(Entry(record=one, arrays=arrays, means=means))
    return Quality(record=record, entries=entries)


def matched(quality: Quality, entry: Entry, measure: str, level: float) -> AtSuccess:
    """A measure of an entry where its success reaches a level."""
    return at_success(entry.means["success"], entry.means[measure], quality.strengths, level)


def differences(quality: Quality) -> list[tuple[float, str, Interval]]:
    """(level, measure, candidate - baseline) where both are there; empty where the two are not named."""
    by_name = {entry.name: entry for entry in quality.entries}
    config = quality.record["config"]
    a, b = (by_name.get(config[role]) for role in ("candidate", "baseline"))
    if a is None or b is None:
        return []
    return [
        (level, name, difference(matched(quality, a, name, level), matched(quality, b, name, level)))
        for level in quality.levels
        for name in quality.measures
        if name not in ("success", "score")
    ]


def verdict(measure: str, found: Interval) -> str:
    """What an interval of a difference says of the candidate."""
    if not math.isfinite(found.low):
        return "not comparable: a level that is not reached"
    if found.low <= 0 <= found.high:
        return "no difference that these images show"
    return "better" if (found.mean > 0) == HIGHER_IS_BETTER[measure] else "worse"


def means(quality: Quality, entry: Entry, measure: str) -> Interval:
    """Over all edits but those of strength 0, which need not be edits."""
    values = entry.arrays[measure][:, quality.strengths != 0]
    return intervals(resampled(values.reshape(-1, 1, values.shape[-1])))[0]


def curves_csv(quality: Quality) -> bytes:
    """A row per entry, direction ("all" is their mean), strength and measure."""
    rows: list[Sequence[Any]] = []
    for entry in quality.entries:
        for name in quality.measures:
            if name not in entry.arrays:
                continue
            table = {"all": entry.means[name]}
            table |= {d: resampled(entry.arrays[name][k : k + 1]) for k, d in enumerate(entry.directions)}
            for direction, found in table.items():
                for strength, i in zip(quality.strengths, intervals(found), strict=True):
                    if math.isfinite(i.mean):
                        rows.append([entry.name, direction, f"{strength:g}", name, i.mean, i.low, i.high, i.n])
    return _csv(["entry", "direction", "strength", "measure", "mean", "low", "high", "edits"], rows)


def matched_csv(quality: Quality) -> bytes:
    """A row per entry, level of success and measure."""
    rows: list[Sequence[Any]] = []
    for entry in quality.entries:
        for level in quality.levels:
            for name in quality.measures:
                found = matched(quality, entry, name, level)
                i = found.measure
                rows.append([entry.name, level, found.strength.mean, name, i.mean, i.low, i.high])
    return _csv(["entry", "success", "strength", "measure", "mean", "low", "high"], rows)


def differences_csv(quality: Quality) -> bytes:
    """A row per level and measure: candidate - baseline."""
    rows = [[level, name, i.mean, i.low, i.high, verdict(name, i)] for level, name, i in differences(quality)]
    return _csv(["success", "measure", "difference", "low", "high", "verdict"], rows)


def summary_text(quality: Quality) -> str:
    """The table that the command prints."""
    names = [name for name in quality.measures if name not in ("success", "score")]
    lines = []
    for level in quality.levels:
        lines.append(f"at {level:.0%} success:")
        lines.append(f"  {'':22}" + "".join(f"  {name:>26}" for name in ("strength", *names)))
        for entry in quality.entries:
            cells = [matched(quality, entry, name, level) for name in names]
            first = _told(cells[0].strength)
            lines.append(
                f"  {entry.label:22}" + "".join(f"  {c:>26}" for c in (first, *(_told(c.measure) for c in cells)))
            )
    for level, name, found in differences(quality):
        config = quality.record["config"]
        who = f"{config['candidate']} - {config['baseline']}"
        lines.append(f"{who} at {level:.0%} success: {name} {_told(found)}: {verdict(name, found)}")
    if "identity" in quality.measures:
        lines.append("mean identity similarity over all edits:")
        for entry in quality.entries:
            missing = int(np.isnan(entry.arrays["identity"]).sum())
            lines.append(f"  {entry.label:22}{_told(means(quality, entry, 'identity')):>24}   {missing} without a face")
    if not quality.levels:
        lines.append("means over all edits:")
        for entry in quality.entries:
            lines.append(f"  {entry.label:22}" + "".join(f"  {n} {_told(means(quality, entry, n))}" for n in names))
    return "\n".join(lines)


def _told(i: Interval) -> str:
    if not math.isfinite(i.mean):
        return "not reached"
    return f"{i.mean:.4g}" + (f" [{i.low:.4g}, {i.high:.4g}]" if math.isfinite(i.low) else "")


def _csv(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    for row in rows:
        writer.writerow([("" if not math.isfinite(v) else repr(float(v))) if isinstance(v, float) else v for v in row])
    return text.getvalue().encode("utf-8")
