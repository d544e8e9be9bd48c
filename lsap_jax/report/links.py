"""Links between pages that lie beside each other: a run, its edits, and the comparison or measurement it is part of."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from lsap_jax.editing.edit_record import EDIT, read_edit
from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison.plan import EDITS
from lsap_jax.experiments.comparison.runs import LAYOUT, read_comparison
from lsap_jax.report.fragments import facts_list
from lsap_jax.report.page import escape
from lsap_jax.storage.atomic import write_files

PAGE = "report.html"
_START, _END = "<!--edits-->", "<!--/edits-->"  # around the links to edits; escaped texts cannot hold them
MOST_LOOKED_AT = 500  # entries of the folder that a run lies in


def beside(folder: Path, other: Path, file: str = PAGE) -> str | None:
    """The address of a file in another folder, seen from a page in this one; None where it is not there."""
    try:
        if not (other / file).is_file():
            return None
        return quote((Path(os.path.relpath(other.resolve(), folder.resolve())) / file).as_posix())
    except (OSError, ValueError):
        return None


def link(address: str | None, text: str) -> str:
    """HTML of a link, or of the text alone."""
    return escape(text) if address is None else f'<a href="{escape(address)}">{escape(text)}</a>'


def edits_of(run: Path) -> Iterator[tuple[str, str]]:
    """(name, address) of the pages of a run's edits, seen from the run, of those that lie beside it."""
    here = run.resolve()
    for folder in _folders(here.parent):
        if (folder / EDIT.file).is_file() and (address := beside(run, folder)) is not None:
            try:
                way = read_edit(folder)["run"].get("folder")
            except LsapError:
                continue
            if isinstance(way, str) and way and (folder / way).resolve() == here:
                yield folder.name, address


def edits_part(run: Path) -> str:
    """HTML of the links to a run's edits, in the head of its page."""
    links = ", ".join(link(address, name) for name, address in edits_of(run))
    return f"{_START}{facts_list({}, {'edits': links})}{_END}"


def link_edits(run: Path) -> None:
    """Renews the links to edits in the page of a run, and nothing else of it. Without a page, or where it cannot be
    written, the run stays as it is.
    """
    page = run / PAGE
    try:
        before, start, rest = page.read_text("utf-8").partition(_START)
        _, end, after = rest.partition(_END)
        if start and end:
            write_files({page: f"{before}{edits_part(run)}{after}".encode()})
    except (OSError, ValueError, LsapError):
        return


def comparison_of(run: Path) -> tuple[str, str] | None:
    """(name, address) of the page of the comparison that a run is part of, seen from the run."""
    here = run.resolve()
    if not (here.parent / LAYOUT.file).is_file():
        return None
    try:
        folders = [one["folder"] for one in read_comparison(here.parent)["presets"]]
    except LsapError:
        return None
    return (here.parent.name, f"../{PAGE}") if here.name in folders else None


def comparison_above(quality: Path) -> tuple[str, str] | None:
    """The same of the edits of a comparison, which lie in its folder."""
    here = quality.resolve()
    inside = here.name == EDITS and (here.parent / LAYOUT.file).is_file()
    return (here.parent.name, f"../{PAGE}") if inside else None


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            found = [entry.path for _, entry in zip(range(MOST_LOOKED_AT), entries, strict=False) if entry.is_dir()]
    except OSError:
        return []
    return sorted(map(Path, found))
