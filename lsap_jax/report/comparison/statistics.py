"""Non-inferiority tests and published numbers of a comparison as HTML."""

from collections.abc import Mapping

import numpy as np

from lsap_jax.experiments.comparison.tables import Comparison, Test, published_metrics
from lsap_jax.report.fragments import text_table
from lsap_jax.report.page import count, escape, number, section
from lsap_jax.storage.results import mapping


def tests_part(comparison: Comparison) -> str:
    """The tests in words and in numbers, or the reason why there are none."""
    if not comparison.tests:
        text = comparison.untested[:1].upper() + comparison.untested[1:]
        return section("tests", "Non-inferiority", f'<p class="empty">{escape(text)}.</p>')
    asked = comparison.record["config"]["test"]
    level = float(asked["level"])
    pairs = min(test.outcome.n for test in comparison.tests)
    left_out = len(comparison.ids) - pairs
    lead = (
        f"Is {escape(asked['candidate'])} worse than {escape(asked['baseline'])} by less than a margin? One-sided "
        f"tests on {count(pairs, 'pair')} of the same image, {count(left_out, 'image')} left out because some preset "
        "failed or a metric was not finite. "
        "The hypothesis to reject is “worse by the margin or more”; “shown” means that the paired t test and the "
        f"Wilcoxon signed-rank test (the p values in this order) both reject it at {level:g}. "
        "The level is not corrected for the number of rows."
    )
    least = 2.0**-pairs
    warning = ""
    if least >= level:
        warning = (
            f'<p class="aside">With {count(pairs, "pair")} the signed-rank test cannot go below p = '
            f"{number(least, 3)}, so nothing can be shown; use more images.</p>"
        )
    metrics = dict.fromkeys(test.metric for test in comparison.tests)
    words = "".join(f"<li>{sentence(comparison, metric, level)}</li>" for metric in metrics)
    heads = ["metric", "margin", "kind", "mean difference", "t", "p (t)", "Wilcoxon", "p (Wilcoxon)", "pairs"]
    table = text_table(heads, [_numbers(test) for test in comparison.tests])
    aside = "The difference is candidate minus baseline; t and p are of the advantage plus the margin."
    html = f'{warning}<ul class="verdicts">{words}</ul>{table}<p class="aside">{aside}</p>'
    return section("tests", "Non-inferiority", html, lead)


def sentence(comparison: Comparison, metric: str, level: float) -> str:
    """The tests of one metric in words, as HTML."""
    asked, tests = comparison.record["config"]["test"], [t for t in comparison.tests if t.metric == metric]
    first = tests[0]
    verdicts = []
    for test in tests:
        margin = _short(test.outcome.margin)
        if test.margin == "relative":
            margin += f" ({_short(100 * asked['relative'])} % of the mean of {escape(asked['baseline'])})"
        word = '<span class="yes">shown</span>' if test.passed(level) else '<span class="no">not shown</span>'
        verdicts.append(f"{word} at a margin of {margin}, p = {_p(test.outcome.p_t)} and {_p(test.outcome.p_wilcoxon)}")
    return (
        f"<b>{escape(metric)}</b> ({'higher' if first.higher_is_better else 'lower'} is better): "
        f"{escape(asked['candidate'])} {number(first.means[0])}, {escape(asked['baseline'])} {number(first.means[1])}. "
        f"Non-inferiority is {'; '.join(verdicts)}."
    )


def published_part(comparison: Comparison) -> str:
    """A table per source of published numbers, ours beside them; "" where the configuration has none."""
    published = mapping(comparison.record["config"].get("published"))
    parts = [_source(comparison, mapping(source)) for source in published.values()]
    if not parts:
        return ""
    lead = (
        "Published numbers come from other images, and from another generator unless yours is the paper's: they give "
        "an order of magnitude and test nothing."
    )
    return section("published", "Published numbers", "".join(parts), lead)


def _source(comparison: Comparison, source: Mapping) -> str:
    rows = mapping(source.get("rows"))
    metrics = published_metrics(source)
    metrics.sort(key=lambda metric: (metric not in comparison.metrics, metric != "mse", metric))
    order = [entry.preset for entry in comparison.entries]
    names = sorted(rows, key=lambda name: order.index(name) if name in order else len(order))
    heads = ["preset", *(f"{metric}, {whose}" for metric in metrics for whose in ("ours", "published"))]
    table = []
    for name in names:
        cells = [name]
        for metric in metrics:
            ours, theirs = comparison.intervals.get((name, metric)), rows[name].get(metric)
            cells.append(number(ours.mean if ours else None))
            cells.append("–" if theirs is None else number(float(np.mean(theirs))))
        table.append(cells)
    missing = [metric for metric in metrics if metric not in comparison.metrics]
    notes = [str(source.get("note") or "")]
    if missing:
        notes.append(f"No run of this comparison has {', '.join(missing)} (see `lsap-jax evaluate`).")
    note = " ".join(filter(None, notes))
    return (
        f'<h3 class="source">{escape(source.get("source") or "unnamed source")}</h3>{text_table(heads, table)}'
        f'<p class="aside">{escape(note)}</p>'
    )


def _numbers(test: Test) -> list[str]:
    found = test.outcome
    return [
        test.metric,
        _short(found.margin),
        test.margin,
        number(found.difference, 3),
        number(found.t, 3),
        _p(found.p_t),
        f"{found.wilcoxon:g}",
        _p(found.p_wilcoxon),
        str(found.n),
    ]


def _short(value: float) -> str:
    """1e-8 rather than 1e-08."""
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e+")


def _p(value: float) -> str:
    """A p value as text; a dash for NaN."""
    return "–" if value != value else number(value, 3) if value >= 1e-3 else _short(value)
