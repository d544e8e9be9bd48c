"""What mkdocs.yml calls to make the site of what is here: the README as its first page, the reference of commands and
of Python from the code, links to files outside this folder led to the repository, and a check of all links.
"""

import html
import inspect
import logging
import posixpath
import re
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#]+)")
log = logging.getLogger("mkdocs.hooks")


def relinked(markdown: str, folder: str, repository: str) -> str:
    """Text of a file in that folder of the project, with links as the site needs them.

    A link into docs/ is one to a page or picture of the site; one to another file is one into the repository.
    """

    def led(link: re.Match) -> str:
        path = posixpath.normpath(posixpath.join(folder, link[1]))
        inside = path.removeprefix("docs/")
        return inside if inside != path else f"{repository}/blob/main/{path}"

    return LINK.sub(led, markdown)


def commands_page() -> str:
    """Markdown of all commands: what `--help` says, its flags as a table."""
    from lsap_jax.cli import COMMANDS

    lines = ["# Commands", "", "What `lsap-jax COMMAND --help` says, of all commands.", ""]
    for name, what in COMMANDS.items():
        module = import_module(f"lsap_jax.cli.{name.replace('-', '_')}")
        values = module.flags()
        lines += [f"## lsap-jax {name}", "", f"{what[0].upper()}{what[1:]}.", ""]
        lines += ["```text", inspect.cleandoc(module.__doc__ or ""), "```", "", "| flag | default | |", "|---|---|---|"]
        for flag in (values[key] for key in sorted(values, key=lambda key: key == "debug")):
            shown = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
            default = "" if flag.default in (None, False, "", []) else f"`{flag.default}`"
            lines.append(f"| `{shown}` | {default} | {cell(flag.help)} |")
        lines.append("")
    return "\n".join(lines)


def cell(text: str) -> str:
    """Plain text in a table of Markdown."""
    return re.sub(r"([\\`*_{}\[\]|#])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def python_page() -> str:
    """Markdown of the public names: what mkdocstrings replaces by their signatures and docstrings."""
    import lsap_jax

    names = [name for name in lsap_jax.__all__ if not name.startswith("_")]
    return "\n\n".join(["# Python", *(f"::: lsap_jax.{name}" for name in names), ""])


PAGES: dict[str, Callable[[str], str]] = {
    "index.md": partial(relinked, (ROOT / "README.md").read_text(encoding="utf-8"), ""),
    "commands.md": lambda repository: commands_page(),
    "python.md": lambda repository: python_page(),
}


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that are made."""
    from mkdocs.structure.files import File

    for path, text in PAGES.items():
        files.append(File.generated(config, path, content=text(config.repo_url.rstrip("/"))))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Leads the links of a page in docs/."""
    made = page.file.src_uri in PAGES
    return markdown if made else relinked(markdown, "docs", config.repo_url.rstrip("/"))


class Page(HTMLParser):
    """The anchors of a page, and the addresses that it links to."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value)
            elif name in ("href", "src") and value and tag != "base":
                self.links.add(value)


def broken_links(site: Path, base: str) -> list[str]:
    """Links of a built site, which will lie at the address `base`, to pages, files and anchors that are not in it."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        here = urljoin(base, path.relative_to(site).as_posix())
        for link in sorted(page.links):
            there = urljoin(here, link)
            if not there.startswith(base):
                continue
            parts = urlsplit(there.removeprefix(base))
            target = site / unquote(parts.path)
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or target in pages and unquote(parts.fragment) not in {"", *pages[target].anchors}:
                broken.append(f"{path.relative_to(site)}: {link}")
    return broken


def on_post_build(config: Any) -> None:
    """Warns, which `--strict` makes an error, of links that lead nowhere in the site."""
    for line in broken_links(Path(config.site_dir), config.site_url):
        log.warning("link that leads nowhere: %s", line)
