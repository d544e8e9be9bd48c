"""Small pieces of HTML that reports share: tables of texts, folded parts, settings. Every text is escaped here."""

import json
from collections.abc import Mapping, Sequence

from lsap_jax.report.page import breakable, escape


def text_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; the first cell of a row is its head."""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    lines = "".join(
        f'<tr><th scope="row">{breakable(name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for name, *cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(", ".join(heads))}"><table class="text">'
        f"<thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def facts_list(facts: Mapping[str, object], links: Mapping[str, str] | None = None) -> str:
    """What the head of a page tells: names with values, and names with links, which are HTML; what is None or empty is
    left out.
    """
    told = {name: escape(value) for name, value in facts.items() if value not in (None, "")}
    shown = {**told, **{name: html for name, html in (links or {}).items() if html}}
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{html}</dd></div>" for name, html in shown.items())


def failures_table(failures: Mapping[str, Mapping]) -> str:
    """The images that could not be done, each with its reason and where it comes from; "" without any.

    Args:
        failures: of `lsap_jax.storage.results.read_failures`.
    """
    if not failures:
        return ""
    rows = [
        (id, str(r.get("reason") or "no reason recorded"), str(r.get("input") or "–")) for id, r in failures.items()
    ]
    return text_table(["id", "reason", "input"], rows)


def details(title: str, html: str, opened: bool = False) -> str:
    """A part that unfolds; title and content are HTML."""
    return f"<details{' open' if opened else ''}><summary>{title}</summary>{html}</details>"


def settings(tree: Mapping) -> str:
    """Nested settings as dotted keys, the way they are given on the command line."""
    found = leaves(tree)
    rows = "".join(f"<div><dt>{breakable(key)}</dt><dd>{escape(as_text(value))}</dd></div>" for key, value in found)
    return f'<dl class="settings">{rows}</dl>' if rows else '<p class="empty">Nothing recorded.</p>'


def leaves(value: object, prefix: str = "") -> list[tuple[str, object]]:
    """(dotted key, value) of nested settings, in their order."""
    if isinstance(value, Mapping) and value:
        start = f"{prefix}." if prefix else ""
        return [leaf for key, inner in value.items() for leaf in leaves(inner, f"{start}{key}")]
    return [(prefix, value)]


def as_text(value: object) -> str:
    """A setting for people; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
