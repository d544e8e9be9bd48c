"""The part of a page of edits that is one series: a slider, and a table of images by strengths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from lsap_jax.editing.animation import FORMATS
from lsap_jax.editing.identity_kept import FORMULA, identities_kept, metric, without_face
from lsap_jax.report.fragments import text_table
from lsap_jax.report.page import breakable, escape, section
from lsap_jax.storage.parts import file_of
from lsap_jax.storage.results import Record

UNITS = {"step": "steps", "angle": "radians"}
ORIGINAL, PARTNER = "", "/"  # stand for targets among the labels, which are names of files
Pictures = dict[tuple[int, str, str, str], str | None]  # (folder, id, series, label) -> data: address


@dataclass(frozen=True, kw_only=True)
class Folder:
    """An edit folder as the page needs it."""

    path: Path
    edit: Record
    manifest: Mapping[str, Record]

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def label(self) -> str:
        return f"{self.edit['run']['name']} ({self.edit['space']})"

    def has(self, id: str, part: str) -> bool:
        """Whether a file of an image is there, as the manifest says."""
        return id in self.manifest and part in self.manifest[id]["sha256"]

    def film(self, id: str, name: str) -> str:
        """Address of the animation of an image along a series, seen from the page; "" if there is none."""
        part = next((f"{kind}/{name}" for kind, _ in FORMATS.values() if self.has(id, f"{kind}/{name}")), "")
        return quote(file_of(id, part)) if part else ""

    def identity(self, id: str, name: str, label: str) -> str:
        """What is said of the identity of a picture; "" where identities are not measured."""
        if "identity" not in self.edit or id not in self.manifest or label in (ORIGINAL, PARTNER):
            return ""
        value = self.manifest[id]["metrics"].get(metric(name, label))
        return "no face" if value is None else f"identity {value:.2f}"

    def every(self, name: str) -> list[Record]:
        """All series of a name: one, or of several images one each."""
        return [one for one in self.edit["series"] if one["name"] == name]

    def series(self, name: str, id: str | None = None) -> Record | None:
        """The series of a name that is for this image (or for any)."""
        for one in self.edit["series"]:
            if one["name"] == name and (id is None or one["only"] in (None, id)):
                return dict(one)
        return None


def what_it_does(series: Mapping) -> str:
    """What a series does, in a sentence."""
    if "direction" in series:
        unit = UNITS.get(str(series["unit"]), str(series["unit"]))
        if series["absolute"]:
            unit = f"the coordinate to reach ({series['absolute']})"
        layers = "all layers" if series["layers"] is None else f"layers {series['layers']}"
        scale = "" if series["scale"] == 1 or unit == "radians" else f", each {series['scale']:.4g} long"
        return f"Strengths in {unit}{scale}; {layers}."
    if "interpolate" in series:
        a, b = series["interpolate"]
        return f"From {a} (0) to {b} (1)."
    a, b = series["mix"]
    return f"{a} with layers of {b}."


def series_part(folders: Sequence[Folder], shown: Mapping[str, Pictures], number: int, name: str) -> str:
    """One direction: its slider, and a table of images by strengths."""
    first = folders[0].series(name)
    assert first is not None
    labels = list(first["labels"])
    ids = [id for id in shown if folders[0].series(name, id) is not None]
    middle = labels.index("0") if "0" in labels else len(labels) // 2
    if first["only"] is not None or "direction" not in first:
        middle = 0
    runs = [k for k, folder in enumerate(folders) if folder.series(name) is not None]
    originals, partners = (
        any(shown[id].get((k, id, name, what)) for id in ids for k in runs) for what in (ORIGINAL, PARTNER)
    )
    heads = "".join(
        [
            '<th scope="col">image</th>',
            '<th scope="col">run</th>' if len(folders) > 1 else "",
            '<th scope="col">original</th>' if originals else "",
            '<th scope="col" class="now">shown</th>',
            *(f'<th scope="col">{escape(label)}</th>' for label in labels),
            '<th scope="col" class="still">the other original</th>' if partners else "",
        ]
    )
    rows = "".join(_image(folders, runs, shown[id], id, name, labels, (originals, partners)) for id in ids)
    columns = len(labels) + originals + partners + (1 if len(folders) > 1 else 0)
    slider = (
        f'<div class="slider"><label><span>{escape(name)}</span><input type="range" min="0" max="{len(labels) - 1}" '
        f'value="{middle}" step="1" data-series="{number}"></label><output>{escape(labels[middle])}</output>'
        '<button type="button" class="play">play</button></div>'
    )
    table = (
        f'<div class="scroll tall" tabindex="0" role="region" aria-label="{escape(name)}">'
        f'<table class="edits" style="--columns:{columns}">'
        f"<thead><tr>{heads}</tr></thead>{rows}</table></div>{_identities(folders, runs, name)}"
    )
    lead = _lead([folders[k] for k in runs], name)
    if len(runs) < len(folders):
        lead += f" {escape(folders[1].name)} has no edits of this name."
    return section(f"series-{number}", name, slider + table if rows else '<p class="empty">No pictures.</p>', lead)


def _identities(folders: Sequence[Folder], runs: Sequence[int], name: str) -> str:
    """How much of identities the edits of one direction keep, over all images, where that is measured."""
    found, called = [], _rows(folders)
    for k in runs:
        kept = [one for one in identities_kept(folders[k].edit, folders[k].manifest) if one.series == name]
        if kept:
            network, missing = folders[k].edit["identity"]["network"], without_face(folders[k].manifest)
            lead = f"Mean identity similarity of {called[k]}: {FORMULA}, by {network}. Reconstructions without a face: "
            table = text_table(["", *(one.label for one in kept)], [["identity", *(one.text for one in kept)]])
            found.append(f'<p class="aside">{escape(lead)}{missing}.</p>{table}')
    return "".join(found)


def _lead(folders: Sequence[Folder], name: str) -> str:
    """What was done, once, or of each folder where that differs."""
    told = []
    for folder in folders:
        every = folder.every(name)  # of several images, towards the same one
        told.append(
            " ".join(escape(text) for text in (*map(what_it_does, every), str(every[0].get("source", ""))) if text)
        )
    if len(set(told)) == 1:
        return told[0]
    return "<br>".join(f"{escape(row)}: {text}" for row, text in zip(_rows(folders), told, strict=True))


def _rows(folders: Sequence[Folder]) -> list[str]:
    """What the rows of each folder are called: its run and space, where these are the same the folder itself."""
    labels = [folder.label for folder in folders]
    return labels if len(set(labels)) == len(labels) else [f"{folder.name}: {folder.label}" for folder in folders]


def _image(
    folders: Sequence[Folder],
    runs: Sequence[int],
    pictures: Pictures,
    id: str,
    name: str,
    labels: Sequence[str],
    originals: tuple[bool, bool],
) -> str:
    """The rows of an image; `originals` says whether the table has a column of its own, and of other originals."""
    lines, called = [], _rows(folders)
    for k in runs:
        films = "".join(_film(folders[k].film(id, name)) for k in runs[:1])
        head = f'<th scope="rowgroup" rowspan="{len(runs)}">{breakable(id)}{films}</th>' if k == runs[0] else ""
        side = f'<td class="still run">{escape(called[k])}</td>' if len(folders) > 1 else ""
        original, other = (
            f'<td class="still">{_cell(pictures.get((k, id, name, what)), alt)}</td>' if there else ""
            for what, alt, there in zip((ORIGINAL, PARTNER), ("original", "the other original"), originals, strict=True)
        )
        cells = "".join(
            f"<td>{_cell(pictures.get((k, id, name, label)), f'{name} {label}')}"
            f"{_aside(folders[k].identity(id, name, label))}</td>"
            for label in labels
        )
        lines.append(f'<tr>{head}{side}{original}<td class="now"></td>{cells}{other}</tr>')
    return f"<tbody>{''.join(lines)}</tbody>"


def _cell(address: str | None, alt: str) -> str:
    if address is None:
        return '<span class="absent">none</span>'
    pixels = ' class="pixels"' if address.startswith("data:image/png") else ""
    return f'<img{pixels} src="{address}" alt="{escape(alt)}" decoding="async">'


def _film(address: str) -> str:
    return f'<a class="film" href="{escape(address)}">film</a>' if address else ""


def _aside(text: str) -> str:
    return f'<p class="aside">{escape(text)}</p>' if text else ""
