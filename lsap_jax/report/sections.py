"""The parts of a run's report as HTML; every text that comes from the run is escaped here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lsap_jax.experiments.comparison.tables import HIGHER_IS_BETTER
from lsap_jax.report.charts import band, histogram, sparkline
from lsap_jax.report.fragments import as_text, details, facts_list, failures_table, settings, text_table
from lsap_jax.report.links import link
from lsap_jax.report.page import breakable, count, escape, number, section
from lsap_jax.report.preset import preset_of
from lsap_jax.storage.results import Record, mapping

DIFFERENCE_FACTOR = 4


@dataclass(frozen=True, kw_only=True)
class Row:
    """One finished image: its id, its metrics by name, and what was noted about it."""

    id: str
    metrics: Mapping[str, float]
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the gallery shows of a row: pictures as ``data:`` addresses (None if missing), and the loss."""

    row: int
    pictures: Mapping[str, str | None]
    pixelated: bool
    curve: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that a report shows, read and chosen beforehand.

    Attributes:
        order: (metric, whether it rises) by which images stand at first; None is by id.
        comparison: (name, address) of the page of the comparison that the run is part of.
        edits: HTML of links to the pages of its edits.
    """

    name: str
    run: Mapping
    rows: Sequence[Row]
    failures: Mapping[str, Record]
    metrics: Sequence[str]
    cards: Sequence[Card]
    choice: str
    curves: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)
    curve_images: int = 0
    order: tuple[str, bool] | None = None
    comparison: tuple[str, str] | None = None
    edits: str = ""


def body(contents: Contents) -> str:
    """The whole page between its head and its script."""
    parts = [
        ("metrics", "Metrics", _metrics(contents)),
        ("images", "Images", _images(contents)),
        ("loss", "Loss", _loss(contents)),
        ("failures", "Failures", _failures(contents)),
        ("setup", "Setup", _setup(contents)),
    ]
    shown = [(anchor, title, html) for anchor, title, html in parts if html]
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in shown)
    return f"{_head(contents, links)}<main>{''.join(html for _, _, html in shown)}</main>"


def _head(contents: Contents, links: str) -> str:
    run = contents.run
    generator = mapping(run.get("generator"))
    resolution = generator.get("img_resolution")
    model = str(generator.get("name") or generator.get("path") or "not recorded")
    facts = {
        "preset": preset_of(run),
        "space": run.get("space"),
        "steps": run.get("steps"),
        "f starts at": run.get("f_start"),
        "generator": model + (f", {resolution}×{resolution}" if resolution else ""),
        "perceptual": mapping(run.get("perceptual")).get("network") or run.get("perceptual"),
        "refinement": mapping(run.get("refinement")).get("method"),
        "seed": run.get("seed"),
    }
    for name in contents.metrics:
        values = _finite(contents.rows, name)
        facts[f"mean {name}"] = number(float(values.mean())) if len(values) else "–"
    above = "" if contents.comparison is None else link(contents.comparison[1], contents.comparison[0])
    listed = facts_list(facts, {"comparison": above}) + contents.edits
    failed = f"{len(contents.failures):,} failed"
    if contents.failures:
        failed = f'<a class="failed" href="#failures">{failed}</a>'
    return (
        f'<header><div class="inner"><p class="over">Inversion report</p><h1>{escape(contents.name)}</h1>'
        f'<p class="tally"><strong>{len(contents.rows):,} done</strong>, {failed}</p>'
        f'<dl class="facts">{listed}</dl><nav aria-label="Parts of this page">{links}</nav></div></header>'
    )


def _metrics(contents: Contents) -> str:
    tiles = []
    for name in contents.metrics:
        values = _finite(contents.rows, name)
        missing = len(contents.rows) - len(values)
        aside = f'<p class="aside">{count(missing, "image")} without a finite value</p>' if missing else ""
        if not len(values):
            tiles.append(f'<article class="tile"><h3>{_metric_name(contents, name)}</h3>{aside}</article>')
            continue
        tiles.append(
            f'<article class="tile"><h3>{_metric_name(contents, name)}</h3><p class="figures">'
            f'<span><b>{number(float(values.mean()))}</b> <i class="key mean"></i>mean</span> '
            f'<span><b>{number(float(np.median(values)))}</b> <i class="key median"></i>median</span></p>'
            f"{histogram(values, name)}{aside}</article>"
        )
    if not tiles:
        return ""
    lead = f"Over {count(len(contents.rows), 'finished image')}. “Setup” says how each metric is computed."
    return section("metrics", "Metrics", f'<div class="tiles compact">{"".join(tiles)}</div>', lead)


def _images(contents: Contents) -> str:
    if not contents.rows:
        return section("images", "Images", '<p class="empty">No image of this run is finished yet.</p>')
    columns, first = enumerate(["id", *contents.metrics], -1), contents.metrics[0] if contents.metrics else "id"
    options = "".join(f'<option value="{index}"{_worst_side(name)}>{escape(name)}</option>' for index, name in columns)
    toolbar = (
        '<div class="toolbar" role="search"><label class="grow"><span>Filter</span><input id="filter" type="search" '
        'placeholder="id, flag, or mse&gt;0.01" autocomplete="off" spellcheck="false"></label>'
        f'<label><span>Sort by</span><select id="sort">{options}</select></label>'
        '<button id="direction" type="button" aria-label="Direction of sorting: ascending">↑</button>'
        f'<button id="worst" type="button" title="by the metric chosen, or {escape(first)}">worst first</button>'
        '<p id="matches" role="status"></p></div>'
    )
    cards = "".join(_card(contents, card) for card in contents.cards)
    lead = (
        f"Target, reconstruction, and their absolute difference in grey levels × {DIFFERENCE_FACTOR}, clipped. "
        f"{escape(contents.choice)}"
    )
    start = ""
    if contents.order is not None:
        start = f' data-sort="{contents.metrics.index(contents.order[0])}" data-up="{str(contents.order[1]).lower()}"'
    gallery = (
        f'<div id="gallery" class="gallery"{start}>{cards}</div>'
        '<p class="more"><button id="more" type="button" hidden></button></p>'
    )
    zoom = (
        '<dialog id="zoom" aria-label="Enlarged image"><div class="bar">'
        '<button type="button" data-step="-1">← previous</button>'
        '<button type="button" data-step="1">next →</button><button type="button" data-step="0">close</button></div>'
        '<div class="body"></div></dialog>'
    )
    return section("images", "Images", f"{toolbar}{gallery}{_table(contents)}{zoom}", lead)


def _worst_side(name: str) -> str:
    """Says where a metric is worst: the script sorts by the others from the greatest on."""
    return ' data-worst="low"' if name in HIGHER_IS_BETTER else ""


def _card(contents: Contents, card: Card) -> str:
    row = contents.rows[card.row]
    figures = []
    for title, address in card.pictures.items():
        kind = ' class="pixels"' if card.pixelated else ""
        picture = f'<img{kind} src="{address}" alt="{escape(f"{title} of {row.id}")}" decoding="async">'
        if address is None:
            picture = '<span class="absent">missing or changed</span>'
        caption = f"{title} × {DIFFERENCE_FACTOR}" if title == "difference" else title
        figures.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
    values = "".join(f"<div><dt>{escape(n)}</dt><dd>{number(row.metrics.get(n))}</dd></div>" for n in contents.metrics)
    spark = sparkline(card.curve, "loss over the steps") if card.curve is not None else ""
    spark = f'<div class="course"><span>loss</span>{spark}</div>' if spark else ""
    return (
        f'<article class="card" id="image-{card.row}" data-row="{card.row}">'
        f'<h3><button type="button" class="open">{breakable(row.id)}</button></h3>'
        f'<div class="triptych">{"".join(figures)}</div><dl class="values">{values}</dl>{spark}'
        f"{_remarks(row)}</article>"
    )


def _table(contents: Contents) -> str:
    remarks = any(row.flags or row.notes for row in contents.rows)
    shown = {card.row for card in contents.cards}
    heads = "".join(
        f'<th scope="col" aria-sort="none"><button type="button" data-column="{index}">{escape(name)}</button></th>'
        for index, name in enumerate(["id", *contents.metrics], -1)
    )
    rows = []
    for index, row in enumerate(contents.rows):
        label = f'<a href="#image-{index}">{breakable(row.id)}</a>' if index in shown else breakable(row.id)
        # The script sorts by these unrounded values; what is not finite sorts last.
        values = " ".join("NaN" if (v := row.metrics.get(n)) is None else repr(float(v)) for n in contents.metrics)
        cells = "".join(f"<td>{number(row.metrics.get(n))}</td>" for n in contents.metrics)
        rows.append(
            f'<tr data-values="{values}"><th scope="row">{label}</th>{cells}'
            f"{f'<td class=remarks>{_remarks(row)}</td>' if remarks else ''}</tr>"
        )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Metrics of every finished image"><table id="table">'
        f"<thead><tr>{heads}{'<th scope=col>flags and notes</th>' if remarks else ''}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="pages" hidden><button id="back" type="button">← back</button><span id="page"></span>'
        '<button id="forth" type="button">forth →</button></p>'
    )


def _loss(contents: Contents) -> str:
    charts = []
    for name, curves in contents.curves.items():
        svg, sentence = band(curves, name)
        aside = f'<p class="aside">{escape(sentence)}</p>'
        charts.append(f'<article class="tile"><h3>{escape(name)}</h3>{svg}{aside}</article>')
    if not charts:
        return ""
    of = "" if contents.curve_images == len(contents.rows) else f" of {len(contents.rows):,}"
    lead = f"Each term over the steps: median (line) and 10–90 % band over {count(contents.curve_images, 'image')}{of}."
    if contents.curve_images == 1:
        lead = "Each term over the steps."
    return section("loss", "Loss", f'<div class="tiles">{"".join(charts)}</div>', lead)


def _failures(contents: Contents) -> str:
    if not contents.failures:
        return ""
    table = failures_table(contents.failures)
    if len(contents.failures) > 30:
        table = f"<details><summary>All {len(contents.failures):,} failures</summary>{table}</details>"
    return section("failures", "Failures", table, "These images could not be inverted; all others are unaffected.")


def _setup(contents: Contents) -> str:
    run = dict(contents.run)
    config, metrics = run.pop("config", None), mapping(run.pop("metrics", None))
    described = {name: mapping(value) or {"description": value} for name, value in metrics.items()}
    columns = list(dict.fromkeys(key for value in described.values() for key in value))
    parts = []
    if described:
        heads = [key.replace("_", " ") for key in ["metric", *columns]]
        table = [(name, *(as_text(value.get(key)) for key in columns)) for name, value in described.items()]
        parts.append(details("Metrics", text_table(heads, table)))
    parts.append(details("Provenance", settings(run), opened=True))
    if config:
        parts.append(details("Configuration", settings(config)))
    return section("setup", "Setup", "".join(parts))


def _remarks(row: Row) -> str:
    flags = "".join(f'<span class="flag">{escape(flag)}</span>' for flag in row.flags)
    notes = f'<span class="note">{escape("; ".join(row.notes))}</span>' if row.notes else ""
    return f'<p class="remarks">{flags}{notes}</p>' if flags or notes else ""


def _metric_name(contents: Contents, name: str) -> str:
    also_loss = mapping(mapping(contents.run.get("metrics")).get(name)).get("also_loss")
    return escape(name) + (' <span class="mark">also the loss</span>' if also_loss else "")


def _finite(rows: Sequence[Row], name: str) -> np.ndarray:
    values = (row.metrics.get(name) for row in rows)
    return np.array([value for value in values if value is not None and math.isfinite(value)], float)
