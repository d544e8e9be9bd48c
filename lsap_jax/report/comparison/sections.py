"""The parts of a comparison's page as HTML; every text that comes from outside is escaped here."""

import math
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import numpy as np

from lsap_jax.experiments.comparison.curves import CURVE
from lsap_jax.experiments.comparison.plan import EDITS
from lsap_jax.experiments.comparison.tables import Comparison, Entry, best, published_means, ranking
from lsap_jax.report.comparison.charts import ends, intervals_chart, multiples
from lsap_jax.report.comparison.picture import Line, caption_names
from lsap_jax.report.comparison.statistics import published_part, tests_part
from lsap_jax.report.fragments import as_text, details, facts_list, leaves, settings, text_table
from lsap_jax.report.links import PAGE, link
from lsap_jax.report.page import breakable, count, escape, number, section
from lsap_jax.report.pictures import LOSSLESS_SIDE, data_uri
from lsap_jax.storage.results import Record, mapping


def body(name: str, comparison: Comparison, lines: Sequence[Line], curves: Mapping[str, np.ndarray]) -> str:
    """The whole page between its head and its script.

    Args:
        name: of the folder.
        lines: of the picture.
        curves: median loss curve [steps + 1] by preset.
    """
    parts = [
        ("results", "Results", _results(comparison)),
        ("images", "Images", _images(comparison, lines)),
        ("order", "Order by MSE", _order(comparison)),
        ("tests", "Non-inferiority", tests_part(comparison)),
        ("published", "Published numbers", published_part(comparison)),
        ("loss", "Loss", _loss(curves)),
        ("setup", "Setup", _setup(comparison)),
    ]
    shown = [(anchor, title, html) for anchor, title, html in parts if html]
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in shown)
    return f"{_head(name, comparison, links)}<main>{''.join(html for _, _, html in shown)}</main>"


def _head(name: str, comparison: Comparison, links: str) -> str:
    record, order = comparison.record, ranking(comparison)
    generator = mapping(record.get("generator"))
    runs = [entry.run for entry in comparison.entries]
    facts = {
        "generator": f"{generator.get('name')}, {generator.get('img_resolution')}×{generator.get('img_resolution')}",
        "presets": len(runs),
        "steps": _one(run.get("steps") for run in runs),
        "perceptual": _one(mapping(run.get("perceptual")).get("network") for run in runs),
        "seed": _one(run.get("seed") for run in runs),
        "lowest mean mse": order[0].preset if order else None,
    }
    edits = link(f"{EDITS}/{PAGE}", "their quality") if mapping(record.get("config")).get("edits") else ""
    listed = facts_list(facts, {"edits": edits})
    failed = {id for entry in comparison.entries for id in entry.failed}
    tally = f"<strong>{count(len(comparison.common), 'image')} done</strong> by every preset"
    if failed:
        tally += f', <a class="failed" href="#results">{len(failed):,} of {len(comparison.ids):,} failed in some</a>'
    return (
        f'<header><div class="inner"><p class="over">Comparison of latent spaces</p><h1>{escape(name)}</h1>'
        f'<p class="tally">{tally}</p><dl class="facts">{listed}</dl>'
        f'<nav aria-label="Parts of this page">{links}</nav></div></header>'
    )


def _results(comparison: Comparison) -> str:
    winners = {metric: best(comparison, metric) for metric in comparison.metrics}
    heads = ["preset", *(f"{escape(metric)}{_mark(comparison, metric)}" for metric in comparison.metrics)]
    heads += ["s / image", "steps alone", "images"]
    top = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{head.split("<")[0].strip()}</button>'
        f"{head[len(head.split('<')[0]) :]}</th>"
        for head in heads
    )
    rows = "".join(_row(comparison, entry, winners) for entry in comparison.entries)
    table = (
        '<div class="scroll" tabindex="0" role="region" aria-label="Means of every preset"><table id="table">'
        f"<thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    lead = (
        f"Means over the {count(len(comparison.common), 'image')} that every preset finished, the best of each column "
        "in colour, with 95 % bootstrap intervals (studentised). A preset links to its own report. Seconds per "
        "image are wall-clock, with compilation, loading and saving; “steps alone” leaves these out."
    )
    return section("results", "Results", table, lead)


def _row(comparison: Comparison, entry: Entry, winners: Mapping[str, set[str]]) -> str:
    cells = []
    for metric in comparison.metrics:
        found = comparison.intervals.get((entry.preset, metric))
        if found is None:
            cells.append('<td data-value="NaN">–</td>')
            continue
        top = entry.preset in winners[metric]
        mean = f"<b>{number(found.mean)}</b>" if top else number(found.mean)
        spread = f"{number(found.low, 3)} – {number(found.high, 3)}" if math.isfinite(found.low) else "no interval"
        best_class = ' class="best"' if top else ""
        value = repr(found.mean).replace("inf", "Infinity")
        cells.append(f'<td{best_class} data-value="{value}">{mean}<span class="interval">{spread}</span></td>')
    times = entry.times
    for seconds in (times.per_image, times.stepping_per_image) if times else (None, None):
        cells.append(f'<td data-value="{"NaN" if seconds is None else repr(seconds)}">{number(seconds, 3)}</td>')
    images = str(len(entry.manifest))
    if entry.failed:
        images += f'<span class="interval failed">{len(entry.failed):,} failed</span>'
    address = f"{quote(entry.folder)}/report.html"
    label = f'<a href="{escape(address)}">{breakable(entry.preset)}</a>'
    return f'<tr><th scope="row">{label}</th>{"".join(cells)}<td data-value="{len(entry.manifest)}">{images}</td></tr>'


def _mark(comparison: Comparison, metric: str) -> str:
    """A note beside a metric that was also the loss, of all presets or of some."""
    also = [e.preset for e in comparison.entries if mapping(e.described.get(metric)).get("also_loss")]
    if not also:
        return ""
    of = "" if len(also) == len(comparison.entries) else f" of {', '.join(also)}"
    return f'<span class="mark">also the loss{escape(of)}</span>'


def _images(comparison: Comparison, lines: Sequence[Line]) -> str:
    if not lines:
        return ""
    heads = "".join(f'<th scope="col">{breakable(name)}</th>' for name in ["target", *lines[0].pictures])
    rows = "".join(_line(comparison, line) for line in lines)
    zoom = (
        '<dialog id="zoom" aria-label="Enlarged pictures"><div class="bar">'
        '<button type="button" data-step="-1">← preset</button><button type="button" data-step="1">preset →</button>'
        '<button type="button" data-step="0">close</button></div><h3></h3><div class="pair"></div></dialog>'
    )
    shown = f"{len(lines)} of {len(comparison.common):,} images are shown, evenly spread over their order"
    if len(lines) == len(comparison.common):
        shown = "All images are shown"
    lead = (
        f"Targets and their reconstructions, under each: {escape(' / '.join(caption_names(comparison)))}; the lowest "
        f"of a row in bold. {shown}; grid.png is the same as one picture."
    )
    table = (
        '<div class="scroll" tabindex="0" role="region" aria-label="Targets and reconstructions">'
        f'<table id="pictures" class="grid" style="--columns:{len(lines[0].pictures) + 1}">'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>{zoom}"
    )
    return section("images", "Images", table, lead)


def _line(comparison: Comparison, line: Line) -> str:
    names = caption_names(comparison)
    lowest = {}
    for name in names:
        values = [metrics[name] for metrics in line.metrics.values() if name in metrics]
        lowest[name] = min(values) if len(values) > 1 else math.nan
    cells = []
    for preset, picture in line.pictures.items():
        metrics = line.metrics[preset]
        texts = [(number(metrics.get(name), 3), metrics.get(name) == lowest[name]) for name in names]
        below = " / ".join(f"<b>{text}</b>" if top else text for text, top in texts)
        cells.append(f"<td>{_button(picture, f'{line.id} in {preset}')}<p>{below}</p></td>")
    target = f'{_button(line.target, f"target {line.id}")}<span class="name">{breakable(line.id)}</span>'
    return f'<tr><th scope="row">{target}</th>{"".join(cells)}</tr>'


def _button(array: np.ndarray | None, label: str) -> str:
    if array is None:
        return '<span class="absent">missing or changed</span>'
    kind = ' class="pixels"' if max(array.shape) <= LOSSLESS_SIDE else ""
    return f'<button type="button"><img{kind} src="{data_uri(array)}" alt="{escape(label)}" decoding="async"></button>'


def _order(comparison: Comparison) -> str:
    rows = [(entry.preset, comparison.intervals[entry.preset, "mse"]) for entry in ranking(comparison)]
    published = published_means(comparison, "mse")
    chart = intervals_chart(rows, published, "mse")
    if not chart:
        return ""
    lead = "Mean MSE and its 95 % interval, the lowest first."
    if any(name in published for name, _ in rows):
        lead += " Diamonds are published means, of other images and another generator unless yours are the paper's."
    return section("order", "Order by MSE", f'<div class="panel">{chart}</div>', lead)


def _loss(curves: Mapping[str, np.ndarray]) -> str:
    tiles = []
    for preset, svg in multiples(curves, CURVE).items():
        if svg:
            first, final = ends(curves[preset])
            aside = f'<p class="aside">{number(first, 3)} → {number(final, 3)}</p>'
            tiles.append(f'<article class="tile"><h3>{breakable(preset)}</h3>{svg}{aside}</article>')
    if not tiles:
        return ""
    lead = f"Median {CURVE} of the unclipped image over the steps, all on the same axes; the other presets in grey."
    return section("loss", "Loss", f'<div class="tiles small">{"".join(tiles)}</div>', lead)


def _setup(comparison: Comparison) -> str:
    parts = []
    differing = differences([mapping(entry.run.get("config")) for entry in comparison.entries])
    if differing:
        heads = ["key", *(entry.preset for entry in comparison.entries)]
        parts.append(details("Where the presets differ", text_table(heads, differing), opened=True))
    described: dict[str, Record] = {}
    for entry in comparison.entries:
        for metric, about in entry.described.items():
            if metric in comparison.metrics:
                described.setdefault(metric, {k: v for k, v in mapping(about).items() if k != "also_loss"})
    columns = list(dict.fromkeys(key for about in described.values() for key in about))
    if described:
        table = [(name, *(as_text(about.get(key)) for key in columns)) for name, about in described.items()]
        parts.append(details("Metrics", text_table(["metric", *columns], table)))
    record = {key: value for key, value in comparison.record.items() if key not in ("ids", "presets", "config")}
    parts.append(details("Provenance", settings(record)))
    config = {key: value for key, value in mapping(comparison.record.get("config")).items() if key != "published"}
    parts.append(details("Configuration of the comparison", settings(config)))
    return section("setup", "Setup", "".join(parts))


def differences(configs: Sequence[Mapping]) -> list[tuple[str, ...]]:
    """(dotted key, value of each configuration as text) of the keys that are not the same in all."""
    flat = [dict(leaves(config)) for config in configs]
    keys = dict.fromkeys(key for config in flat for key in config)
    rows = [(key, *(as_text(config.get(key)) for config in flat)) for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]


def _one(values: object) -> str:
    """A fact that all runs share, or all that there are."""
    return ", ".join(dict.fromkeys(as_text(value) for value in values))  # type: ignore[attr-defined]
