"""What a comparison and the edits of its runs tell of each method, as one table of columns."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison.tables import BYTES, Comparison, kid_note
from lsap_jax.experiments.comparison.tables import Entry as Compared
from lsap_jax.experiments.edit_quality.curves import intervals
from lsap_jax.experiments.edit_quality.tables import Entry, Matched, Quality, matched
from lsap_jax.experiments.edit_quality.tables import kid_note as kid_note_of_edits
from lsap_jax.metrics.significance import Interval

Rows = Mapping[str, Mapping[str, Interval]]

NORMAL = 1.96  # half the width of a 95 % interval in standard errors


@dataclass(frozen=True, kw_only=True)
class Methods:
    """Some methods of a comparison, with their edits.

    Attributes:
        quality: the edits, or None where there are none.
        presets: the methods, in order.
        strength, success: at which edits are compared; without a strength at success alone.
    """

    comparison: Comparison
    quality: Quality | None
    presets: Sequence[str]
    strength: float | None
    success: float

    def compared(self, preset: str) -> Compared:
        """The entry of the comparison; LsapError where it has none."""
        for entry in self.comparison.entries:
            if entry.preset == preset:
                return entry
        names = ", ".join(entry.preset for entry in self.comparison.entries)
        raise LsapError(f"claim: {preset!r} is not among the presets: {names}")

    def edited(self, preset: str) -> Entry | None:
        """The entry of the edits, if they were measured."""
        entries = self.quality.entries if self.quality else ()
        return next((entry for entry in entries if entry.name == preset), None)

    @cached_property
    def matched(self) -> Matched | None:
        """The edits of all these methods at the level of success, over the directions that reach it in all of them, but
        for methods in which none does: one that cannot be edited would leave nothing to compare the others by.
        """
        entries = [entry for preset in self.presets if (entry := self.edited(preset)) is not None]
        if self.quality is None or not self.quality.levels or not entries:
            return None
        found = matched(self.quality, entries, self.success)
        able = [entry for entry in entries if found.reached[entry.name]]
        if not able or len(able) == len(entries):
            return found
        return matched(self.quality, able, self.success)._replace(reached=found.reached, unsure=found.unsure)

    @property
    def place(self) -> int | None:
        """Index of the strength among those measured."""
        if self.quality is None or self.strength is None:
            return None
        found = np.flatnonzero(self.quality.strengths == self.strength)
        if not len(found):
            raise LsapError(f"claim.strength={self.strength:g}: is not among the strengths of the edits; choose one")
        return int(found[0])


Column = Callable[[Methods, str], Interval | None]


def _number(value: float | None, error: float = math.nan) -> Interval | None:
    if value is None:
        return None
    return Interval(mean=value, low=value - NORMAL * error, high=value + NORMAL * error, n=1)


def _metric(name: str) -> Column:
    return lambda methods, preset: methods.comparison.intervals.get((preset, name))


def _distance(methods: Methods, preset: str) -> Interval | None:
    distance = methods.comparison.distance
    return None if distance is None else methods.comparison.intervals.get((preset, distance))


def _genuine(methods: Methods, preset: str) -> Interval | None:
    return _number(methods.compared(preset).sets.get("nscd_genuine"))


def _kid(methods: Methods, preset: str) -> Interval | None:
    sets = methods.compared(preset).sets
    return _number(sets.get("kid"), sets.get("kid_stderr", math.nan))


def _seconds(methods: Methods, preset: str) -> Interval | None:
    times = methods.compared(preset).times
    return None if times is None else _number(times.compiled_per_image)


def _seconds_in_all(methods: Methods, preset: str) -> Interval | None:
    """Of both stages of what is refined."""
    own = methods.compared(preset)
    stages = [own, *(entry for entry in methods.comparison.entries if own.first and entry.folder == own.first)]
    seconds = [entry.times.compiled_per_image if entry.times else None for entry in stages]
    return None if None in seconds else _number(sum(filter(None, seconds)))


def _bytes(methods: Methods, preset: str) -> Interval | None:
    return _number(methods.compared(preset).sets.get(BYTES))


def _at_strength(measure: str) -> Column:
    def of(methods: Methods, preset: str) -> Interval | None:
        entry, place = methods.edited(preset), methods.place
        if entry is None or place is None or measure not in entry.means:
            return None
        return intervals(entry.means[measure])[place]

    return of


def _at_success(measure: str) -> Column:
    def of(methods: Methods, preset: str) -> Interval | None:
        found = methods.matched
        own = {} if found is None else found.measures.get(preset, {})
        return own[measure].interval if measure in own else None

    return of


def _reached(methods: Methods, preset: str) -> Interval | None:
    found = methods.matched
    return None if found is None or preset not in found.reached else _number(found.reached[preset])


# Head -> the number of a method, with its interval where there is one.
COLUMNS: Mapping[str, Column] = {
    "MSE": _metric("mse"),
    "perceptual distance": _distance,
    "SSIM on [0, 1]": _metric("ssim01"),
    "MS-SSIM": _metric("ms_ssim"),
    "NSCD": _metric("nscd"),
    "NSCD of samples": _genuine,
    "logit": _metric("logit"),
    "KID": _kid,
    "s per image": _seconds,
    "s in all": _seconds_in_all,
    "bytes per image": _bytes,
    "success": _at_strength("success"),
    "preserved": _at_strength("preserved"),
    "logit of edits": _at_strength("logit"),
    "LEC": _at_strength("lec"),
    "cycle": _at_strength("cycle"),
    "directions": _reached,
    "preserved at equal success": _at_success("preserved"),
    "logit at equal success": _at_success("logit"),
    "KID at equal success": _at_success("kid"),
    "FID at equal success": _at_success("fid"),
    "LEC at equal success": _at_success("lec"),
    "cycle at equal success": _at_success("cycle"),
    "identity at equal success": _at_success("identity"),
}


# Head -> what makes a method's number mean nothing, to be said beside it; "" is nothing.
NOTES: Mapping[str, Callable[[Methods, str], str]] = {
    "KID": lambda methods, preset: kid_note(methods.compared(preset)),
    "KID at equal success": lambda methods, _: "" if methods.quality is None else kid_note_of_edits(methods.quality),
}


def table(methods: Methods) -> dict[str, dict[str, Interval]]:
    """Preset -> head -> number, for the columns that some method has."""
    rows = {
        preset: {
            head: found
            for head, of in COLUMNS.items()
            if (found := of(methods, preset)) is not None and not math.isnan(found.mean)
        }
        for preset in methods.presets
    }
    heads = [head for head in COLUMNS if any(head in row for row in rows.values())]
    return {preset: {head: row[head] for head in heads if head in row} for preset, row in rows.items()}


def notes(methods: Methods, rows: Rows) -> dict[str, list[str]]:
    """Head -> what is to be said beside its numbers, for those of which something is."""
    found = {
        head: dict.fromkeys(note for name, row in rows.items() if head in row and (note := note_of(methods, name)))
        for head, note_of in NOTES.items()
    }
    return {head: list(own) for head, own in found.items() if own}


def deciding(methods: Methods, rows: Rows) -> dict[str, dict[str, Interval]]:
    """The rows without the columns that by their notes mean nothing, which must not rank a method."""
    void = notes(methods, rows)
    return {name: {head: value for head, value in row.items() if head not in void} for name, row in rows.items()}
