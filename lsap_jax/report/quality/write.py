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

from lsap_jax.editing.curves import Resampled, intervals, resampled
from lsap_jax.editing.quality import MEASURES
from lsap_jax.inversion.atomic import write_files
from lsap_jax.metrics.significance import Interval
from lsap_jax.report.fragments import details, settings, text_table
from lsap_jax.report.page import escape, number, page, section
from lsap_jax.report.pictures import LOSSLESS_SIDE, data_uri
from lsap_jax.report.quality.charts import Line, legend, lines_chart
from lsap_jax.report.quality.tables import (
    Entry,
    Quality,
    curves_csv,
    differences,
    differences_csv,
    matched,
    matched_csv,
    means,
    read_all,
    verdict,
)

SIDE = 128  # px, of an embedded picture


def write_quality(out: Path) -> Quality:
    """Writes tables and page; the same folder gives the same bytes.

    Raises:
        LsapError: no folder of edit-quality, a file in it is missing or damaged, or it cannot be written.
    """
    quality = read_all(out)
    name = out.resolve().name
    text = page(f"{name} – quality of edits", body(name, quality), style=("page.css", "quality.css"), script="edit.js")
    files = {out / "curves.csv": curves_csv(quality), out / "report.html": text.encode("utf-8")}
    tables = {
        "matched.csv": matched_csv(quality) if quality.levels else None,
        "differences.csv": differences_csv(quality) if differences(quality) else None,
    }
    for file, data in tables.items():
        if data is None:
            (out / file).unlink(missing_ok=True)
        else:
            files[out / file] = data
    write_files(files)
    return quality


def body(name: str, quality: Quality) -> str:
    """The whole page between its head and its script."""
    parts = [
        ("curves", "Over strength", _curves(quality)),
        ("trade", "Over success", _trade(quality)),
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
    listed = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
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


def _curves(quality: Quality) -> str:
    unit = "strength (steps)" if not quality.record["config"]["toggle"] else "strength (steps to the other side)"
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
    lead = (
        '<p class="lead">Means over images and directions with 95 % bootstrap intervals over images; the dashed line '
        "is the mean of the generator’s own samples.</p>"
    )
    return f'{lead}{_legend(quality)}<div class="tiles wide">{"".join(tiles)}</div>'


def _trade(quality: Quality) -> str:
    if not quality.levels:
        return ""
    tiles = []
    for measure in (m for m in quality.measures if m not in ("success", "score")):
        lines = {e.label: _line(e.means["success"].mean, e.means[measure]) for e in quality.entries}
        tiles.append(_tile(measure, lines_chart(lines, "success", measure, _reference(quality, measure))))
    lead = (
        '<p class="lead">The same measures over the share of edits that have succeeded: what lies higher (for nscd '
        "lower) pays less for the same success.</p>"
    )
    return f'{lead}{_legend(quality)}<div class="tiles wide">{"".join(tiles)}</div>'


def _told(i: Interval, digits: int = 3) -> str:
    if not math.isfinite(i.mean):
        return "not reached"
    ends = f" [{number(i.low, digits)}, {number(i.high, digits)}]" if math.isfinite(i.low) else ""
    return number(i.mean, digits) + ends


def _matched(quality: Quality) -> str:
    parts = []
    names = [m for m in quality.measures if m not in ("success", "score")]
    for level in quality.levels:
        rows = []
        for entry in quality.entries:
            cells = [matched(quality, entry, name, level) for name in names]
            rows.append([entry.label, _told(cells[0].strength), *(_told(c.measure) for c in cells)])
        parts.append(f"<h3>{level:.0%} of the edits succeed</h3>" + text_table(["run", "strength", *names], rows))
    found = differences(quality)
    if found:
        config = quality.record["config"]
        who = f"{config['candidate']} minus {config['baseline']}"
        rows = [[f"{level:.0%}", name, _told(i), verdict(name, i)] for level, name, i in found]
        parts.append(
            f"<h3>{escape(who)}, paired by images</h3>"
            + text_table(["success", "measure", "difference", "the first is"], rows)
        )
    return "".join(parts)


def _published(quality: Quality) -> str:
    if "identity" not in quality.measures:
        return ""
    published = quality.record["config"].get("published") or {}
    rows = []
    for entry in quality.entries:
        missing = int(np.isnan(entry.arrays["identity"]).sum())
        there = (published.get("rows") or {}).get(entry.record["space"])
        rows.append(
            [
                entry.label,
                _told(means(quality, entry, "identity")),
                str(missing),
                "–" if there is None else f"{there:g}",
            ]
        )
    note = ", ".join(str(published[k]) for k in ("source", "note") if published.get(k))
    lead = f'<p class="lead">Published: {escape(note)}.</p>' if note else ""
    return lead + text_table(["run", "mean identity similarity", "edits without a face", "published"], rows)


def _by_direction(quality: Quality) -> str:
    tiles = []
    measures = [m for m in ("success", "preserved", "logit", "identity") if m in quality.measures]
    for k, direction in enumerate(quality.entries[0].directions):
        charts = []
        for measure in measures:
            lines = {
                e.label: _line(quality.strengths, found)
                for e in quality.entries
                if measure in e.arrays
                and k < len(e.directions)
                and np.isfinite((found := resampled(e.arrays[measure][k : k + 1], 400)).mean).any()
            }
            if lines:
                charts.append(lines_chart(lines, "strength", measure, _reference(quality, measure)))
        tiles.append(details(escape(direction), f'<div class="tiles wide">{"".join(charts)}</div>'))
    return _legend(quality) + "".join(tiles)


def _pictures(quality: Quality) -> str:
    shown = quality.entries[0].arrays["pictures"].shape[2]
    if not shown:
        return ""
    parts = []
    heads = "".join(f'<th scope="col">{s:g}</th>' for s in quality.strengths)
    for k, direction in enumerate(quality.entries[0].directions):
        for i in range(shown):
            rows = "".join(_row(entry, k, i) for entry in quality.entries if k < len(entry.directions))
            parts.append(
                f"<h3>{escape(direction)}, {escape(quality.record['ids'][i])}</h3>"
                f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(direction)}">'
                f'<table class="strengths"><thead><tr><th scope="col">run</th>{heads}</tr></thead>'
                f"<tbody>{rows}</tbody></table></div>"
            )
    return "".join(parts)


def _row(entry: Entry, direction: int, image: int) -> str:
    cells = []
    for strength, picture in enumerate(entry.arrays["pictures"][direction, :, image]):
        success = entry.arrays["success"][direction, strength, image] if "success" in entry.arrays else math.nan
        mark = ' class="hit"' if success == 1 else ""
        pixels = ' class="pixels"' if max(picture.shape) <= LOSSLESS_SIDE else ""
        cells.append(f'<td{mark}><img{pixels} src="{data_uri(picture, SIDE)}" alt="" decoding="async"></td>')
    return f'<tr><th scope="row">{escape(entry.label)}</th>{"".join(cells)}</tr>'


def _setup(quality: Quality) -> str:
    record = dict(quality.record)
    record.pop("ids")
    entries: Sequence[Mapping] = record.pop("entries")
    rows = [
        [str(e["name"]), str(d["name"]), str(d["source"]), str(d["sha256"])[:16]]
        for e in entries
        for d in e["directions"]
    ]
    told = text_table(["measure", "what"], [[name, MEASURES[name]] for name in quality.measures])
    return (
        details("Measures", told, opened=True)
        + details("Directions", text_table(["run", "direction", "source", "SHA-256"], rows))
        + details("Provenance", settings(record))
    )
