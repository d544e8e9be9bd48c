"""All that `lsap-jax edit-quality` writes beside the measures, from what lies in its folder.

curves.csv       a row per run, direction, strength and measure
matched.csv      measures where equally many edits have succeeded
differences.csv  candidate and baseline at equal success
report.html      all of it on one page, with pictures
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lsap_jax.experiments.edit_quality.curves import Resampled, fewer_draws, intervals, strengths_until_peak
from lsap_jax.experiments.edit_quality.files import csv_files
from lsap_jax.experiments.edit_quality.quality import MEASURES
from lsap_jax.experiments.edit_quality.tables import (
    LOWER_IS_BETTER,
    Entry,
    Quality,
    compared_texts,
    kid_note,
    means,
    missing,
    read_all,
    unsure,
    verdict,
)
from lsap_jax.metrics.significance import interval_text
from lsap_jax.report.fragments import details, facts_list, settings, text_table
from lsap_jax.report.links import comparison_above, link
from lsap_jax.report.page import escape, page, section
from lsap_jax.report.pictures import LOSSLESS_SIDE, data_uri
from lsap_jax.report.quality.charts import Line, legend, lines_chart
from lsap_jax.storage.atomic import write_files

SIDE = 128  # px, of an embedded picture
STEPS, TOGGLED = "strength (steps)", "strength (steps to the other side)"


def write_quality(out: Path) -> Quality:
    """Writes tables and page; the same folder gives the same bytes.

    Raises:
        LsapError: no folder of edit-quality, a file in it is missing or damaged, or it cannot be written.
    """
    quality = read_all(out)
    name = out.resolve().name
    text = page(
        f"{name} – quality of edits",
        body(name, quality, comparison_above(out)),
        style=("page.css", "quality.css"),
        script="edit.js",
    )
    files = {out / "report.html": text.encode("utf-8")}
    for file, data in csv_files(quality).items():
        if data is None:
            (out / file).unlink(missing_ok=True)
        else:
            files[out / file] = data
    write_files(files)
    return quality


def body(name: str, quality: Quality, comparison: tuple[str, str] | None = None) -> str:
    """The whole page between its head and its script; `comparison` is what its edits are of, as `comparison_above`."""
    parts = [
        ("curves", "Over strength", _curves(quality)),
        ("matched", "At equal success", _matched(quality)),
        ("published", "Identity and the published numbers", _published(quality)),
        ("directions", "By direction", _by_direction(quality)),
        ("pictures", "Pictures", _pictures(quality)),
        ("setup", "Setup", _setup(quality)),
    ]
    shown = [(anchor, title, html) for anchor, title, html in parts if html]
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in shown)
    record = quality.record
    edits = len(record["ids"]) * len(quality.entries[0].directions) * int((quality.strengths != 0).sum())
    missed = sum(record["unfinished"].values())
    facts = {
        "generator": f"{record['generator']['name']}, {record['generator']['img_resolution']} px",
        "images": f"{len(record['ids'])} that every run has" + (f" ({missed} results left out)" if missed else ""),
        "edits per run": f"{edits:,}",
        "directions": len(quality.entries[0].directions),
    }
    listed = facts_list(facts, {"comparison": "" if comparison is None else link(comparison[1], comparison[0])})
    entries = len(quality.entries)
    head = (
        f'<header><div class="inner"><p class="over">Quality of edits</p><h1>{escape(name)}</h1>'
        f'<p class="tally"><strong>{"1 entry" if entries == 1 else f"{entries} entries"}</strong></p>'
        f'<dl class="facts">{listed}</dl><nav aria-label="Parts of this page">{links}</nav></div></header>'
    )
    return f"{head}<main>{''.join(section(anchor, title, html) for anchor, title, html in shown)}</main>"


def _line(x: np.ndarray, found: Resampled) -> Line:
    ends = intervals(found)
    return Line(x, found.mean, np.array([i.low for i in ends]), np.array([i.high for i in ends]))


def _legend(quality: Quality) -> str:
    return legend([entry.label for entry in quality.entries])


def _reference(quality: Quality, measure: str) -> float | None:
    value = quality.record["genuine"].get(measure)
    return None if value is None else float(value)


def _tile(title: str, chart: str, aside: str = "") -> str:
    aside = f'<p class="aside">{escape(aside)}</p>' if aside else ""
    return f'<article class="tile"><h3>{escape(title)}</h3>{chart}{aside}</article>'


def _unit(quality: Quality, direction: str) -> str:
    """What a strength of a direction means."""
    toggled = quality.record["config"]["toggle"] and direction not in quality.unknown
    return TOGGLED if toggled else STEPS


def _curves(quality: Quality) -> str:
    directions = quality.entries[0].directions
    units = {_unit(quality, direction) for direction in directions}
    unit = units.pop() if len(units) == 1 else "strength (steps, of some to the other side)"
    tiles = [
        _tile(
            measure,
            lines_chart(
                {e.label: _line(quality.strengths, e.means[measure]) for e in quality.entries if measure in e.means},
                unit,
                measure,
                _reference(quality, measure),
            ),
            MEASURES[measure],
        )
        for measure in quality.measures
    ]
    accuracy = (quality.record.get("attributes") or {}).get("accuracy") or {}
    judged = ", ".join(f"{name} {share:.0%}" for name, share in accuracy.items())
    judge = f" The classifier is right about held-out images as follows: {escape(judged)}." if judged else ""
    config, unknown = quality.record["config"], quality.unknown
    if unknown and (config["toggle"] or quality.record.get("attributes")):
        judge += f" No classifier knows {escape(', '.join(unknown))}: there is no success"
        judge += ", and strengths are plain steps." if config["toggle"] else "."
    lead = (
        '<p class="lead">Means over images and directions with 95 % bootstrap intervals over images; the dashed line '
        f"is the mean of the generator’s own samples.{judge}</p>"
    )
    return f'{lead}{_kid(quality)}{_legend(quality)}<div class="tiles wide">{"".join(tiles)}</div>'


def _matched(quality: Quality) -> str:
    parts = []
    total = len(quality.entries[0].directions)
    for level, found in quality.matched:
        rows = [
            [
                entry.label,
                "; ".join(filter(None, (f"{found.reached[entry.name]} of {total}", unsure(found, entry)))),
                interval_text(found.strength[entry.name].interval),
                *compared_texts(quality, found, entry),
            ]
            for entry in quality.entries
        ]
        over = ", ".join(found.directions) or "no direction that all runs reach"
        parts.append(
            f"<h3>{level:.0%} of the edits succeed: over {escape(over)}</h3>"
            + text_table(["run", "directions that reach it", "strength", *quality.compared], rows)
        )
    if not parts:
        return ""
    if quality.differences:
        config = quality.record["config"]
        rows = [
            [
                one.where,
                ", ".join(one.directions) or "none",
                one.measure,
                interval_text(one.found.interval),
                verdict(one),
            ]
            for one in quality.differences
        ]
        who = f"{config['candidate']} minus {config['baseline']}"
        parts.append(
            f"<h3>{escape(who)}, paired by images</h3>"
            + text_table(["at", "directions that both reach", "measure", "difference", "the first is"], rows)
        )
    lower = ", ".join(name for name in quality.compared if name in LOWER_IS_BETTER) or "none of these"
    lead = (
        '<p class="lead">Each direction at the strength where its success curve first reaches the level; means over '
        "directions. A direction counts where the curves of 97.5 % of the resampled sets of images reach it, too: else "
        f"there are too few images for an interval. For {lower} lower is better, for the others higher.</p>"
    )
    return lead + _kid(quality) + "".join(parts)


def _kid(quality: Quality) -> str:
    note = kid_note(quality)
    return f'<p class="lead caution">{escape(note)}.</p>' if note else ""


def _published(quality: Quality) -> str:
    if "identity" not in quality.measures:
        return ""
    published = quality.record["config"].get("published") or {}
    rows = []
    for entry in quality.entries:
        there = (published.get("rows") or {}).get(entry.setting)
        mean = interval_text(means(entry, "identity"))
        rows.append([entry.label, mean, missing(entry), "–" if there is None else f"{there:g}"])
    note = ", ".join(str(published[k]) for k in ("source", "note") if published.get(k))
    lead = f'<p class="lead">Means over all edits, strength 0 included. Published: {escape(note)}.</p>' if note else ""
    return lead + text_table(["run", "mean identity similarity", "missing", "published"], rows)


def _by_direction(quality: Quality) -> str:
    tiles = []
    for k, direction in enumerate(quality.entries[0].directions):
        over: dict[str, dict[str, Resampled]] = {
            measure: {
                e.label: found
                for e in quality.entries
                if measure in e.arrays and np.isfinite((found := fewer_draws(e.by_direction[measure][k])).mean).any()
            }
            for measure in quality.measures
            if measure != "score"
        }
        charts = [
            _tile(
                measure,
                lines_chart(
                    {n: _line(quality.strengths, f) for n, f in lines.items()},
                    _unit(quality, direction),
                    measure,
                    _reference(quality, measure),
                ),
            )
            for measure, lines in over.items()
            if lines
        ]
        if quality.levels and over["success"]:
            charts += [
                _tile(
                    f"{measure} over success",
                    lines_chart(
                        {
                            n: _until_peak(over["success"][n], f)
                            for n, f in over[measure].items()
                            if n in over["success"]
                        },
                        "success, up to its peak",
                        measure,
                        _reference(quality, measure),
                    ),
                )
                for measure in quality.compared
            ]
        tiles.append(details(escape(direction), f'<div class="tiles wide">{"".join(charts)}</div>'))
    return _legend(quality) + "".join(tiles)


def _until_peak(success: Resampled, measure: Resampled) -> Line:
    """A measure over success: what lies higher (for nscd lower) pays less for the same success."""
    line = _line(success.mean, measure)
    return Line(*(values[: strengths_until_peak(success)] for values in line))


def _pictures(quality: Quality) -> str:
    shown = min(quality.record["config"]["shown"], *(e.arrays["pictures"].shape[2] for e in quality.entries))
    if not shown:
        return ""
    parts = []
    heads = "".join(f'<th scope="col">{s:g}</th>' for s in quality.strengths)
    for k, direction in enumerate(quality.entries[0].directions):
        for i in range(shown):
            rows = "".join(_row(entry, k, i, quality.strengths) for entry in quality.entries)
            starts = [e.arrays["success"][k, :, i] for e in quality.entries if "success" in e.arrays]
            left_out = quality.levels and all(np.isnan(values).all() for values in starts)
            aside = ": on neither side, left out" if left_out else ""
            parts.append(
                f"<h3>{escape(direction)}, {escape(quality.record['ids'][i])}{aside}</h3>"
                f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(direction)}">'
                f'<table class="strengths"><thead><tr><th scope="col">run</th>{heads}</tr></thead>'
                f"<tbody>{rows}</tbody></table></div>"
            )
    framed = "A frame is around edits that succeed: the classifier sees the attribute on the side asked for."
    return (f'<p class="lead">{framed}</p>' if "success" in quality.measures else "") + "".join(parts)


def _row(entry: Entry, direction: int, image: int, strengths: np.ndarray) -> str:
    cells, name = [], entry.directions[direction]
    for k, picture in enumerate(entry.arrays["pictures"][direction, :, image]):
        success = entry.arrays["success"][direction, k, image] if "success" in entry.arrays else math.nan
        mark = ' class="hit"' if success == 1 else ""
        pixels = ' class="pixels"' if max(picture.shape) <= LOSSLESS_SIDE else ""
        outcome = "" if math.isnan(success) else ": succeeded" if success == 1 else ": did not succeed"
        alt = escape(f"{name} {strengths[k]:g}{outcome}")
        cells.append(f'<td{mark}><img{pixels} src="{data_uri(picture, SIDE)}" alt="{alt}" decoding="async"></td>')
    return f'<tr><th scope="row">{escape(entry.label)}</th>{"".join(cells)}</tr>'


def _setup(quality: Quality) -> str:
    record = dict(quality.record)
    record.pop("ids")
    entries: Sequence[Mapping] = record.pop("entries")
    rows = [
        [str(e["name"]), str(d["direction"]), str(d["source"]), str(d["sha256"])[:16]]
        for e in entries
        for d in e["directions"]
    ]
    measures = text_table(["measure", "what"], [[name, MEASURES[name]] for name in quality.measures])
    return (
        details("Measures", measures, opened=True)
        + details("Directions", text_table(["run", "direction", "source", "SHA-256"], rows))
        + details("Provenance", settings(record))
    )
