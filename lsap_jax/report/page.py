"""The shell of a self-contained page: template, style and script of this folder, and the escaping of all between."""

import base64
import hashlib
import html
from collections.abc import Sequence
from importlib import resources
from string import Template


def page(title: str, body: str, style: Sequence[str] = ("page.css",), script: str = "page.js") -> str:
    """A whole HTML page around ``body`` (already escaped) that loads nothing from outside.

    ``style`` and ``script`` are names of files that lie beside this module.

    The Content-Security-Policy admits embedded pictures and this package's own script (by its digest) and nothing else,
    so that even markup that slipped through the escaping could neither run nor phone home.
    """
    code = asset(script)
    digest = base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii")
    return Template(asset("page.html")).substitute(
        title=escape(title),
        style="".join(map(asset, style)),
        body=body,
        script=code,
        script_digest=f"sha256-{digest}",
    )


def asset(name: str) -> str:
    """Text of a file that lies beside this module, also from inside a wheel."""
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def escape(value: object) -> str:
    """Text for HTML content and quoted attributes; what UTF-8 cannot hold shows as an escape."""
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode("utf-8"), quote=True)


def breakable(value: object) -> str:
    """Escaped text that is broken after the separators of ids and dotted keys rather than elsewhere."""
    text = escape(value)
    for separator in "/._":  # none of them occurs in an entity
        text = text.replace(separator, f"{separator}<wbr>")
    return text


def section(anchor: str, title: str, body: str, lead: str = "") -> str:
    """A titled part of the page; ``lead`` is an introductory sentence, ``body`` and ``lead`` are HTML."""
    lead = f'<p class="lead">{lead}</p>' if lead else ""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{lead}{body}</section>'


def number(value: float | None, digits: int = 4) -> str:
    """A value with ``digits`` significant digits; a dash for None."""
    if value is None:
        return "–"
    text = f"{value:#.{digits}g}"
    return text.rstrip(".")


def count(n: int, noun: str) -> str:
    """'1 image', '1,200 images'."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
