"""``report.html`` of an edit folder: a row per image with the original, a column per strength, a slider per direction.

Beside another edit folder, of a run in another space say, every image has a row of each.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lsap_jax.editing.edit_record import read_edit
from lsap_jax.editing.identity_kept import FORMULA, identities_kept, metric, without_face
from lsap_jax.errors import LsapError
from lsap_jax.report.fragments import details, settings, text_table
from lsap_jax.report.page import breakable, count, escape, page, section
from lsap_jax.report.pictures import data_uri
from lsap_jax.storage.atomic import write_files
from lsap_jax.storage.results import Record, read_failures, read_image, read_manifest

MAX_IMAGES = 60
MAX_BYTES = 12_000_000  # of embedded pictures
SIDE = 192  # px, of an embedded picture
UNITS = {"step": "steps", "angle": "radians"}
ORIGINAL = ""  # stands for the run's target among the labels; edits of earlier versions have none


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

    def identity(self, id: str, name: str, label: str) -> str:
        """What is said of the identity of a picture; "" where identities are not measured."""
        if "identity" not in self.edit or id not in self.manifest or label == ORIGINAL:
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


def write_edit_report(
    path: str | os.PathLike[str],
    beside: str | os.PathLike[str] | None = None,
    max_images: int = MAX_IMAGES,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Write ``report.html`` into an edit folder, from what lies there.

    Args:
        beside: another edit folder; its rows stand below those of the first, where image and direction are the same.
        max_images: most images whose pictures are embedded, evenly spread over the ids.
        max_bytes: most bytes of embedded pictures.

    Returns:
        The path of the page.

    Raises:
        LsapError: not an edit folder, a damaged one, two folders without a common image, or the page cannot be written.
            Pictures that are missing or have changed do not stop the page; it shows their places empty.
    """
    folders = [_folder(Path(p)) for p in ([path] if beside is None else [path, beside])]
    first = folders[0]
    if beside is not None:
        check_beside(path, first.manifest, beside)
    shown = _shown(folders, max_images, max_bytes)
    name = first.name
    body = _header(name, folders) + _main(folders, shown)
    out = first.path / "report.html"
    text = page(f"{name} – edits", body, style=("page.css", "edit.css"), script="edit.js")
    write_files({out: text.encode("utf-8")})
    return out


def check_beside(path: str | os.PathLike[str], manifest: Mapping[str, Record], beside: str | os.PathLike[str]) -> None:
    """Raises LsapError if `beside` is not an edit folder, or has none of the images of another folder."""
    other = _folder(Path(beside)).manifest
    if manifest and not manifest.keys() & other.keys():
        raise LsapError(
            f"{beside}: has no edits of the images of {path} ({min(manifest)!r}, …); name a folder with edits of "
            "the same images, which have the same ids"
        )


def _folder(path: Path) -> Folder:
    return Folder(path=path, edit=read_edit(path), manifest=read_manifest(path))


Pictures = dict[tuple[int, str, str, str], str | None]  # (folder, id, series, label) -> data: address


def _shown(folders: Sequence[Folder], max_images: int, max_bytes: int) -> dict[str, Pictures]:
    """Pictures by image, of as many images as there is room for, evenly spread."""
    ids = sorted(folders[0].manifest)
    if len(ids) > max_images:
        ids = [ids[i] for i in np.linspace(0, len(ids) - 1, max_images).round().astype(int)] if max_images else []
    first = {id: _pictures(folders, id) for id in ids[:1]}
    each = sum(len(address or "") for address in next(iter(first.values()), {}).values())
    room = max(1, max_bytes // max(each, 1))
    if len(ids) > room:
        ids = [ids[i] for i in np.linspace(0, len(ids) - 1, room).round().astype(int)]
    return {id: first[id] if id in first else _pictures(folders, id) for id in ids}


def _pictures(folders: Sequence[Folder], id: str) -> Pictures:
    found: Pictures = {}
    for k, folder in enumerate(folders):
        if id not in folder.manifest:
            continue
        original = _address(folder, id, "targets") if "targets" in folder.manifest[id]["sha256"] else None
        for series in folder.edit["series"]:
            if series["only"] in (None, id):
                name = series["name"]
                found[k, id, name, ORIGINAL] = original
                for label in series["labels"]:
                    found[k, id, name, label] = _address(folder, id, f"images/{name}/{label}")
    return found


def _address(folder: Folder, id: str, part: str) -> str | None:
    try:
        return data_uri(read_image(folder.path, id, part, manifest=folder.manifest), SIDE)
    except (LsapError, OSError, ValueError):
        return None


def _header(name: str, folders: Sequence[Folder]) -> str:
    first = folders[0]
    generator = first.edit["generator"]
    facts = {
        "space": " beside ".join(str(folder.edit["space"]) for folder in folders),
        "generator": f"{generator['name']}, {generator['img_resolution']} px",
        "run": " beside ".join(str(folder.edit["run"]["name"]) for folder in folders),
        "edits per image": str(max(_edits(first, id) for id in first.manifest) if first.manifest else 0),
    }
    if "masks" in first.edit:
        limited = sum("masks" in record["sha256"] for record in first.manifest.values())
        facts["limited to masks"] = f"{limited} of {count(len(first.manifest), 'image')}, over the original"
    listed = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    links = "".join(f'<a href="#series-{k}">{escape(s)}</a>' for k, s in enumerate(_names(first)))
    failed = len(read_failures(first.path))
    failures = f', <a class="failed" href="#failures">{failed:,} failed</a>' if failed else ""
    return (
        f'<header><div class="inner"><p class="over">Edits of an inversion</p><h1>{escape(name)}</h1>'
        f'<p class="tally"><strong>{count(len(first.manifest), "image")} edited</strong>{failures}</p>'
        f'<dl class="facts">{listed}</dl><nav aria-label="Parts of this page">{links}<a href="#setup">setup</a></nav>'
        "</div></header>"
    )


def _edits(folder: Folder, id: str) -> int:
    return sum(len(s["labels"]) for s in folder.edit["series"] if s["only"] in (None, id))


def _names(folder: Folder) -> list[str]:
    """Names of the series, each once."""
    return list(dict.fromkeys(s["name"] for s in folder.edit["series"]))


def _main(folders: Sequence[Folder], shown: Mapping[str, Pictures]) -> str:
    first = folders[0]
    total = len(first.manifest)
    parts = []
    if len(shown) < total:
        parts.append(
            f'<p class="lead spaced">Pictures of {len(shown):,} of the {total:,} images are embedded, evenly spread; '
            "the folders images and strips hold all of them.</p>"
        )
    parts += [_series(folders, shown, k, name) for k, name in enumerate(_names(first))]
    failures = [(id, str(record.get("reason", ""))) for id, record in read_failures(first.path).items()]
    if failures:
        parts.append(section("failures", "Failures", text_table(["id", "reason"], failures)))
    for folder in folders:
        about = {key: value for key, value in folder.edit.items() if key != "series"}
        title = escape(folder.name)
        parts.append(details(f"{title}: provenance", settings(about)))
        rows = [
            [str(s["name"]), _what_it_does(s), str(s.get("source", "")), str(s["sha256"])[:16]]
            for s in folder.edit["series"]
        ]
        parts.append(details(f"{title}: edits", text_table(["name", "what", "source", "SHA-256"], rows)))
    setup = len(parts) - 2 * len(folders)
    return f"<main>{''.join(parts[:setup])}{section('setup', 'Setup', ''.join(parts[setup:]))}</main>"


def _what_it_does(series: Mapping) -> str:
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


def _series(folders: Sequence[Folder], shown: Mapping[str, Pictures], number: int, name: str) -> str:
    """One direction: its slider, and a table of images by strengths."""
    first = folders[0].series(name)
    assert first is not None
    labels = list(first["labels"])
    ids = [id for id in shown if folders[0].series(name, id) is not None]
    middle = labels.index("0") if "0" in labels else len(labels) // 2
    if first["only"] is not None or "direction" not in first:
        middle = 0
    runs = [k for k, folder in enumerate(folders) if folder.series(name) is not None]
    originals = any(shown[id].get((k, id, name, ORIGINAL)) for id in ids for k in runs)
    heads = "".join(
        [
            '<th scope="col">image</th>',
            '<th scope="col">run</th>' if len(folders) > 1 else "",
            '<th scope="col">original</th>' if originals else "",
            '<th scope="col" class="now">shown</th>',
            *(f'<th scope="col">{escape(label)}</th>' for label in labels),
        ]
    )
    rows = "".join(_image(folders, runs, shown[id], id, name, labels, originals) for id in ids)
    slider = (
        f'<div class="slider"><label><span>{escape(name)}</span><input type="range" min="0" max="{len(labels) - 1}" '
        f'value="{middle}" step="1" data-series="{number}"></label><output>{escape(labels[middle])}</output>'
        '<button type="button" class="play">play</button></div>'
    )
    table = (
        f'<div class="scroll tall" tabindex="0" role="region" aria-label="{escape(name)}"><table class="edits">'
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
            " ".join(escape(text) for text in (*map(_what_it_does, every), str(every[0].get("source", ""))) if text)
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
    originals: bool,
) -> str:
    lines, called = [], _rows(folders)
    for k in runs:
        head = f'<th scope="rowgroup" rowspan="{len(runs)}">{breakable(id)}</th>' if k == runs[0] else ""
        side = f'<td class="still run">{escape(called[k])}</td>' if len(folders) > 1 else ""
        target = _cell(pictures.get((k, id, name, ORIGINAL)), "original") if originals else ""
        original = f'<td class="still">{target}</td>' if originals else ""
        cells = "".join(
            f"<td>{_cell(pictures.get((k, id, name, label)), f'{name} {label}')}"
            f"{_aside(folders[k].identity(id, name, label))}</td>"
            for label in labels
        )
        lines.append(f'<tr>{head}{side}{original}<td class="now"></td>{cells}</tr>')
    return f"<tbody>{''.join(lines)}</tbody>"


def _cell(address: str | None, alt: str) -> str:
    if address is None:
        return '<span class="absent">none</span>'
    pixels = ' class="pixels"' if address.startswith("data:image/png") else ""
    return f'<img{pixels} src="{address}" alt="{escape(alt)}" decoding="async">'


def _aside(text: str) -> str:
    return f'<p class="aside">{escape(text)}</p>' if text else ""
