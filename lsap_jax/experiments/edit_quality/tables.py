"""Numbers of an editing protocol: curves over strength, measures at equal success, differences; and as text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lsap_jax.experiments.edit_quality.curves import (
    AtSuccess,
    Resampled,
    at_success,
    difference,
    intervals,
    pooled,
    resampled,
)
from lsap_jax.experiments.edit_quality.folder import read_measures, read_quality
from lsap_jax.metrics.consistency import trimmed
from lsap_jax.metrics.kid import few
from lsap_jax.metrics.significance import Interval, interval_text
from lsap_jax.storage.results import Record, mapping

ORDER = ("success", "preserved", "logit", "nscd", "kid", "fid", "lec", "cycle", "identity", "face", "score")
COMPARED = ("preserved", "logit", "nscd", "kid", "fid", "lec", "cycle", "identity")
LOWER_IS_BETTER = ("nscd", "kid", "fid", "lec", "cycle")
OF_SETS = ("fid",)  # numbers that single images have no part in
FEW = "reached, but too few images to tell an interval"


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
    def setting(self) -> str:
        """The space, with the prior of P_N where there was one."""
        return str(self.record["space"]) + (" P_N" if self.record["prior"] else "")

    @property
    def label(self) -> str:
        """The name, with the space where that says something else."""
        return self.name if self.setting in self.name else f"{self.name} ({self.setting})"

    @property
    def directions(self) -> list[str]:
        return [str(d["direction"]) for d in self.record["directions"]]

    @cached_property
    def by_direction(self) -> dict[str, list[Resampled]]:
        """Measure -> its means over images, of every direction."""
        return {
            name: [averaged(name, values[k : k + 1]) for k in range(len(self.directions))]
            for name, values in self.arrays.items()
            if name != "pictures"
        }


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
        if "success" not in self.measures or not self.record["config"]["toggle"]:
            return []
        return [float(level) for level in self.record["config"]["levels"]]

    @property
    def compared(self) -> list[str]:
        return [name for name in COMPARED if name in self.measures]

    @cached_property
    def matched(self) -> "list[tuple[float, Matched]]":
        """All entries at every level."""
        return [(level, matched(self, self.entries, level)) for level in self.levels]

    @cached_property
    def differences(self) -> "list[Difference]":
        """Of the candidate and the baseline, where both are named."""
        return differences(self)

    @property
    def unknown(self) -> list[str]:
        """Directions without an attribute that the classifier knows: strengths are not toggled, nothing succeeds."""
        known = (self.record.get("attributes") or {}).get("binary") or {}
        return [name for name in self.entries[0].directions if name not in known]


def read_all(out: Path) -> Quality:
    """Reads a folder of edit-quality.

    Raises:
        LsapError: not a folder of edit-quality, or a file in it is missing or damaged.
    """
    record = read_quality(out)
    entries = []
    for one in record["entries"]:
        arrays = read_measures(out, one)
        if "lec" in arrays:
            arrays["lec"] = trimmed(arrays["lec"])
        means = {name: averaged(name, a) for name, a in arrays.items() if name != "pictures"}
        entries.append(Entry(record=one, arrays=arrays, means=means))
    return Quality(record=record, entries=entries)


def averaged(measure: str, values: np.ndarray) -> Resampled:
    """`resampled` values [D, S, N] of a measure; what is a number of a set has no interval."""
    found = resampled(values)
    return found._replace(images=1) if measure in OF_SETS else found


def kid_note(quality: Quality) -> str:
    """What is said beside every KID of edits; "" where there is none, or enough images on both sides."""
    if "kid" not in quality.measures:
        return ""
    real = mapping(quality.record.get("real"))
    sides = [mapping(real.get(name)) for name in ("with_attribute", "without_attribute")]
    counts = [side[name] for side in sides for name in quality.entries[0].directions if side.get(name)]
    return few(min([len(quality.record["ids"]), *counts]))


class Matched(NamedTuple):
    """Entries where their edits along the same directions have reached a level of success.

    Attributes:
        directions: that reach it in all of these entries.
        doubtful: that reach it in all of these entries, but in some of them by too few of the resamples.
        reached, unsure: entry -> how many directions reach it there, and by too few of the resamples.
        strength, measures: entry -> (measure ->) mean over the directions.
    """

    directions: list[str]
    doubtful: list[str]
    reached: dict[str, int]
    unsure: dict[str, int]
    strength: dict[str, AtSuccess]
    measures: dict[str, dict[str, AtSuccess]]


def matched(quality: Quality, entries: Sequence[Entry], level: float) -> Matched:
    """Every measure of entries at a level of success, over the directions that all of them have there."""
    names = quality.entries[0].directions
    successes = {e.name: e.by_direction["success"] for e in entries}
    strengths = quality.strengths
    at = {
        e.name: [at_success(s, _constant(s, strengths), strengths, level) for s in successes[e.name]] for e in entries
    }
    there = [k for k in range(len(names)) if all(at[e.name][k].reached or at[e.name][k].doubtful for e in entries)]
    common = [k for k in there if all(at[e.name][k].reached for e in entries)]
    return Matched(
        directions=[names[k] for k in common],
        doubtful=[names[k] for k in there if k not in common],
        reached={name: sum(one.reached for one in found) for name, found in at.items()},
        unsure={name: sum(one.doubtful for one in found) for name, found in at.items()},
        strength={name: pooled([found[k] for k in common]) for name, found in at.items()},
        measures={
            e.name: {
                measure: pooled(
                    [at_success(successes[e.name][k], e.by_direction[measure][k], strengths, level) for k in common]
                )
                for measure in quality.compared
                if measure in e.arrays
            }
            for e in entries
        },
    )


def _constant(like: Resampled, values: np.ndarray) -> Resampled:
    """Known values over strengths as a measure without spread."""
    draws, without = (np.broadcast_to(values, part.shape) for part in (like.draws, like.without))
    return like._replace(mean=values, draws=draws, without=without)


class Difference(NamedTuple):
    """Candidate minus baseline of a measure over directions: at a level of success, or at the greatest strength.

    Attributes:
        doubtful: directions that both reach, but by too few resamples.
    """

    where: str
    measure: str
    found: AtSuccess
    directions: list[str]
    doubtful: Sequence[str] = ()


def differences(quality: Quality) -> list[Difference]:
    """Of the candidate and the baseline, where both are named."""
    by_name = {entry.name: entry for entry in quality.entries}
    config = quality.record["config"]
    a, b = (by_name.get(config[role]) for role in ("candidate", "baseline"))
    if a is None or b is None:
        return []
    found = []
    for level in quality.levels:
        both = matched(quality, [a, b], level)
        for name in quality.compared:
            one, other = (both.measures[e.name].get(name) for e in (a, b))
            if one is not None and other is not None:
                where, both_have = f"{level:.0%} success", difference(one, other)
                found.append(Difference(where, name, both_have, both.directions, both.doubtful))
    for name in quality.compared:
        if name in a.means and name in b.means:
            ends = difference(at_strength(a.means[name], -1), at_strength(b.means[name], -1))
            found.append(Difference(f"strength {quality.strengths[-1]:g}", name, ends, a.directions))
    return found


def at_strength(found: Resampled, index: int) -> AtSuccess:
    """A measure at one of the strengths, in the form that is compared."""
    return AtSuccess(float(found.mean[index]), found.draws[:, index], found.without[:, index], found.images)


def verdict(one: Difference) -> str:
    """Whether the candidate is better or worse, going by the interval of the difference."""
    found = one.found.interval
    if not one.directions:
        return f"not comparable: {FEW if one.doubtful else 'no direction reaches this level in both'}"
    if not math.isfinite(found.mean):
        return f"not comparable: {one.measure} is missing"
    if not math.isfinite(found.low):
        return "not comparable: one image, so no interval"
    if found.low <= 0 <= found.high:
        return "no difference that these images show"
    return "better" if (found.mean > 0) == (one.measure not in LOWER_IS_BETTER) else "worse"


def means(entry: Entry, measure: str) -> Interval:
    """Over all edits, all directions and strengths, 0 included."""
    values = entry.arrays[measure]
    return intervals(averaged(measure, values.reshape(-1, 1, values.shape[-1])))[0]


def missing(entry: Entry) -> str:
    """What identities lack: edits in which no face was found, and targets without one."""
    face = entry.arrays["face"]
    without = int(np.isnan(face).all(axis=(0, 1)).sum())
    return f"{int((face == 0).sum())} edits without a face, {without} targets without one"


def summary_text(quality: Quality) -> str:
    """The tables that the command prints."""
    lines = []
    total = len(quality.entries[0].directions)
    for level, found in quality.matched:
        lines.append(f"at {level:.0%} success, over {', '.join(found.directions) or 'no direction that all reach'}:")
        heads = ("directions", "strength", *quality.compared)
        lines.append(f"  {'':22}" + "".join(f"  {head:>24}" for head in heads))
        for entry in quality.entries:
            cells = [
                f"{found.reached[entry.name]} of {total} reach it",
                interval_text(found.strength[entry.name].interval),
            ]
            cells += compared_texts(quality, found, entry)
            aside = f"  ({unsure(found, entry)})" if unsure(found, entry) else ""
            lines.append(f"  {entry.label:22}" + "".join(f"  {cell:>24}" for cell in cells) + aside)
    config = quality.record["config"]
    for one in quality.differences:
        who = f"{config['candidate']} - {config['baseline']} at {one.where}, {len(one.directions)} directions"
        lines.append(f"{who}: {one.measure} {interval_text(one.found.interval)}: {verdict(one)}")
    lines.append("means over all edits:")
    names = [name for name in quality.measures if name not in ("success", "score")]
    for entry in quality.entries:
        cells = [f"{n} {interval_text(means(entry, n))}" for n in names if n in entry.arrays]
        aside = f"  ({missing(entry)})" if "face" in entry.arrays else ""
        lines.append(f"  {entry.label:22}  " + "  ".join(cells) + aside)
    lines += [note] if (note := kid_note(quality)) else []
    return "\n".join(lines)


def compared_texts(quality: Quality, found: Matched, entry: Entry) -> list[str]:
    """What is compared of an entry, as text; a dash for a measure that it lacks."""
    own = found.measures[entry.name]
    return [interval_text(own[name].interval) if name in own else "–" for name in quality.compared]


def unsure(found: Matched, entry: Entry) -> str:
    """A remark about directions that reach a level in too few of the resamples; "" if there are none."""
    count = found.unsure[entry.name]
    return f"{count} more {FEW}" if count else ""
