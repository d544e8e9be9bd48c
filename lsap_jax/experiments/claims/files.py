"""The table of methods and the verdict on a claim, as CSV files and as Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lsap_jax.experiments.claims.columns import NOTES, Methods, Rows, deciding, notes, table
from lsap_jax.experiments.claims.ranks import SIDES, Ranks, ranked
from lsap_jax.experiments.claims.seeds import spread
from lsap_jax.experiments.claims.verdict import Finding, Verdict
from lsap_jax.experiments.comparison.tables import BYTES
from lsap_jax.experiments.csv_table import csv_table
from lsap_jax.metrics.significance import Interval


def methods_csv(methods: Methods) -> bytes:
    """A row per method: every column's number and the ends of its interval, and what is to be known of its KID."""
    rows = table(methods)
    heads = list(dict.fromkeys(head for row in rows.values() for head in row))
    names = [f"{head}{part}" for head in heads for part in ("", " low", " high")]
    noted = [head for head in NOTES if head in heads]
    cells = []
    for preset, row in rows.items():
        found = [row.get(head) for head in heads]
        numbers = [v for one in found for v in ((one.mean, one.low, one.high) if one else (None,) * 3)]
        cells.append([preset, *numbers, *(NOTES[head](methods, preset) if head in row else "" for head in noted)])
    return csv_table(["method", *names, *(f"{head} note" for head in noted)], cells)


def ranks_csv(ranks: Ranks, methods: Sequence[str]) -> bytes:
    """A row per method."""
    sides = [ranks.places.get(side, {}) for side in SIDES]
    rows = [[name, *(own.get(name) for own in sides), _word(name in ranks.frontier)] for name in methods]
    return csv_table(["method", *SIDES, "frontier"], rows)


def claims_csv(verdicts: Mapping[str, Verdict]) -> bytes:
    """A row per part of each claim."""
    rows = [
        [name, one.statement, _word(one.confirmed), part, _word(holds)]
        for name, one in verdicts.items()
        for part, holds in one.parts.items()
    ]
    return csv_table(["claim", "statement", "confirmed", "part", "holds"], rows)


def verdict_csv(verdict: Verdict) -> bytes:
    """A row per finding."""
    heads = ["part", "measure", "candidate", "baseline", "difference", "low", "high", "p_t", "p_wilcoxon"]
    rows = [
        [one.part, one.measure, *one.means, one.difference.mean, one.difference.low, one.difference.high]
        + [*(one.p or (None, None)), *(_word(one.apart), one.outcome, str(one.holds).lower())]
        for one in verdict.findings
    ]
    return csv_table([*heads, "seeds_apart", "outcome", "holds"], rows)


def markdown(
    methods: Methods, verdicts: Sequence[Verdict], settings: Mapping[str, Any], unjudged: Sequence[str] = ()
) -> str:
    """The table, the seeds, the ranks, and the verdicts with their findings.

    Args:
        unjudged: a line about each claim that cannot be judged.
    """
    rows = table(methods)
    heads = list(dict.fromkeys(head for row in rows.values() for head in row))
    lines = [_line(["method", *heads]), "|---" * (len(heads) + 1) + "|"]
    lines += [_line([f"`{name}`", *(_cell(row.get(head)) for head in heads)]) for name, row in rows.items()]
    for name in ("candidate", "baseline"):
        if len(seeds := settings[name]) > 1 and all(seed in rows for seed in seeds):
            lines.append(_line([f"{name}: mean (least–greatest) of {len(seeds)} seeds", *_seeds(rows, seeds, heads)]))
    parts = ["\n".join(lines), _about(methods, rows), _ranks(ranked(deciding(methods, rows)), list(rows))]
    for verdict in verdicts:
        parts += [_told(verdict), _findings(verdict.findings)]
    return "\n\n".join(part for part in [*parts, *unjudged] if part) + "\n"


def _ranks(ranks: Ranks, methods: Sequence[str]) -> str:
    first = next(iter(ranks.places.values()), None)
    if first is None:
        return ""
    lines = [_line(["method", *ranks.places, "on the frontier"]), "|---" * (len(ranks.places) + 2) + "|"]
    for name in sorted(methods, key=lambda name: first.get(name, math.inf)):
        places = [_place(own.get(name)) for own in ranks.places.values()]
        lines.append(_line([f"`{name}`", *places, _word(name in ranks.frontier)]))
    told = "; ".join(f"{side} by {', '.join(heads)}" for side, heads in ranks.columns.items())
    rule = "a rank is that of the sum of the ranks in these columns"
    frontier = "on the frontier is a method that no other beats in reconstruction and editing"
    return "\n".join(lines) + f"\n\nRanks, 1 the best: {told}; {rule}; {frontier}."


def _place(rank: float | None) -> str:
    return "–" if rank is None else f"{rank:g}"


def _about(methods: Methods, rows: Rows) -> str:
    text = f"{len(methods.comparison.common)} images. Brackets are 95 % intervals; seconds are without compilation."
    if any(BYTES in entry.sets for entry in methods.comparison.entries):
        text += " Bytes are those of the files of codes and refinement; seconds of a refined row are the refinement's"
        text += ", those in all have the codes' added."
    if methods.quality is not None:
        if methods.strength is not None:
            text += f" Success, preservation, logit of edits, LEC and cycle at strength {methods.strength:g}"
            text += f", over {', '.join(methods.quality.entries[0].directions)}."
        if (logit := methods.quality.record["genuine"].get("logit")) is not None:
            text += f" The generator's own samples have a mean logit of {_short(logit)}."
    if (found := methods.matched) is not None:
        over = ", ".join(found.directions) or "no direction that all methods reach"
        text += f" Equal success is {methods.success:.0%}, over {over}; directions are those that reach it"
        text += ", and methods without any are not compared there." if 0 in found.reached.values() else "."
    void = notes(methods, rows)
    return " ".join([text, *(f"{head}: {note}." for head, own in void.items() for note in own)])


def _told(verdict: Verdict) -> str:
    words = {part: "yes" if holds else "no" for part, holds in verdict.parts.items()}
    words |= {part: "not measured" for part in verdict.unmeasured}
    parts = "; ".join(f"{part}: {word}" for part, word in words.items())
    return f'"{verdict.statement}" is **{"confirmed" if verdict.confirmed else "not confirmed"}** ({parts}).'


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    lines = ["| part | measure | candidate | baseline | difference | p (t, Wilcoxon) | seeds apart | outcome |"]
    lines.append("|---" * 8 + "|")
    for one in findings:
        p = "–" if one.p is None else f"{one.p[0]:.2g}, {one.p[1]:.2g}"
        means = [_short(value) for value in one.means]
        cells = [one.part, one.measure, *means, _cell(one.difference), p, _word(one.apart) or "–", one.outcome]
        lines.append(_line(cells))
    return "\n".join(lines)


def _seeds(rows: Rows, seeds: Sequence[str], heads: Sequence[str]) -> list[str]:
    means = {seed: {head: found.mean for head, found in rows[seed].items()} for seed in seeds}
    cells = []
    for head in heads:
        if not all(head in means[seed] for seed in seeds):
            cells.append("–")
            continue
        mean, least, greatest = spread(means, seeds, head)
        cells.append(f"{_short(mean)} ({_short(least)}–{_short(greatest)})")
    return cells


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(found: Interval | None) -> str:
    if found is None or math.isnan(found.mean):
        return "–"
    ends = f" [{_short(found.low)}, {_short(found.high)}]" if math.isfinite(found.low) else ""
    return f"{_short(found.mean)}{ends}"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _word(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"
