"""``report.html`` of an edit folder: a row per image with the original, a column per strength, a slider per direction.

Beside another edit folder, of a run in another space say, every image has a row of each.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lsap_jax.editing.edit_record import read_edit
from lsap_jax.errors import LsapError
from lsap_jax.report.edit_table import ORIGINAL, PARTNER, Folder, Pictures, series_part, what_it_does
from lsap_jax.report.fragments import details, facts_list, failures_table, settings, text_table
from lsap_jax.report.links import beside, link
from lsap_jax.report.page import count, escape, page, section
from lsap_jax.report.pictures import data_uri
from lsap_jax.report.preset import preset_of
from lsap_jax.storage.atomic import write_files
from lsap_jax.storage.results import Record, read_failures, read_image, read_manifest

MAX_IMAGES = 60
MAX_BYTES = 12_000_000  # of embedded pictures
SIDE = 192  # px, of an embedded picture


def write_edit_report(
    path: str | os.PathLike[str],
    beside: str | os.PathLike[str] | None = None,
    max_images: int = MAX_IMAGES,
    max_bytes: int = MAX_BYTES,
    worst: str | None = None,
) -> Path:
    """Write ``report.html`` into an edit folder, from what lies there.

    Args:
        beside: another edit folder; its rows stand below those of the first, where image and direction are the same.
        max_images: most images whose pictures are embedded, evenly spread over the ids.
        max_bytes: most bytes of embedded pictures.
        worst: "identity": images come in the order of their mean identity, the least first, where it is measured.

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
    ids = sorted(first.manifest) if worst is None else from_worst(first, worst)
    shown = _shown(folders, ids, max_images, max_bytes, spread=worst is None)
    name = first.name
    body = _header(name, folders) + _main(folders, shown, worst)
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


def from_worst(folder: Folder, metric: str) -> list[str]:
    """Ids by how much of the identity all edits of the image keep, the least first; those without a face come last.

    Raises:
        LsapError: it is not measured, or another metric is asked for, which edits do not have.
    """
    if metric != "identity" or "identity" not in folder.edit:
        has = "only identity" if "identity" in folder.edit else "no metric (`lsap-jax edit --identity` measures one)"
        raise LsapError(f"--worst={metric}: the edits in {folder.path} have {has}")
    kept = {
        id: [value for name, value in record["metrics"].items() if name.startswith("identity/")]
        for id, record in folder.manifest.items()
    }
    return sorted(kept, key=lambda id: (np.mean(kept[id]) if kept[id] else np.inf, id))


def _shown(
    folders: Sequence[Folder], ids: Sequence[str], max_images: int, max_bytes: int, spread: bool
) -> dict[str, Pictures]:
    """Pictures by image, of as many images as there is room for: evenly spread, or the first ones."""

    def chosen(ids: Sequence[str], most: int) -> Sequence[str]:
        if len(ids) <= most or not most or not spread:
            return ids[:most]
        return [ids[i] for i in np.linspace(0, len(ids) - 1, most).round().astype(int)]

    ids = chosen(ids, max_images)
    first = {id: _pictures(folders, id) for id in ids[:1]}
    each = sum(len(address or "") for address in next(iter(first.values()), {}).values())
    ids = chosen(ids, max(1, max_bytes // max(each, 1)))
    return {id: first[id] if id in first else _pictures(folders, id) for id in ids}


def _pictures(folders: Sequence[Folder], id: str) -> Pictures:
    found: Pictures = {}
    for k, folder in enumerate(folders):
        if id not in folder.manifest:
            continue
        original = _address(folder, id, "targets") if folder.has(id, "targets") else None
        for series in folder.edit["series"]:
            if series["only"] in (None, id):
                name = series["name"]
                found[k, id, name, ORIGINAL] = original
                if folder.has(id, other := f"partners/{name}"):
                    found[k, id, name, PARTNER] = _address(folder, id, other)
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
        "preset": " beside ".join(dict.fromkeys(filter(None, (preset_of(folder.edit["run"]) for folder in folders)))),
        "edits per image": str(max(_edits(first, id) for id in first.manifest) if first.manifest else 0),
    }
    if "masks" in first.edit:
        limited = sum("masks" in record["sha256"] for record in first.manifest.values())
        facts["limited to masks"] = f"{limited} of {count(len(first.manifest), 'image')}, over the original"
    listed = facts_list(facts, {"run": " beside ".join(_run_link(folder, first.path) for folder in folders)})
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


def _run_link(folder: Folder, page: Path) -> str:
    """The name of a folder's run, which leads to its page where there is one."""
    run = folder.edit["run"]
    way = run.get("folder")
    address = beside(page, folder.path / way) if isinstance(way, str) and way else None
    return link(address, str(run["name"]))


def _main(folders: Sequence[Folder], shown: Mapping[str, Pictures], worst: str | None) -> str:
    first = folders[0]
    total = len(first.manifest)
    parts = []
    if len(shown) < total:
        parts.append(
            f'<p class="lead spaced">Pictures of {len(shown):,} of the {total:,} images are embedded, '
            f"{'evenly spread' if worst is None else f'the worst by {worst}'}; "
            "the folders images and strips hold all of them.</p>"
        )
    parts += [series_part(folders, shown, k, name) for k, name in enumerate(_names(first))]
    if failures := failures_table(read_failures(first.path)):
        parts.append(section("failures", "Failures", failures))
    for folder in folders:
        about = {key: value for key, value in folder.edit.items() if key != "series"}
        title = escape(folder.name)
        parts.append(details(f"{title}: provenance", settings(about)))
        rows = [
            [str(s["name"]), what_it_does(s), str(s.get("source", "")), str(s["sha256"])[:16]]
            for s in folder.edit["series"]
        ]
        parts.append(details(f"{title}: edits", text_table(["name", "what", "source", "SHA-256"], rows)))
    setup = len(parts) - 2 * len(folders)
    return f"<main>{''.join(parts[:setup])}{section('setup', 'Setup', ''.join(parts[setup:]))}</main>"
