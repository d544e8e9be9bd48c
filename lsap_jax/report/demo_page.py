"""index.html and faces.png of the demo: what came of it at a glance, and the way to every page."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lsap_jax.report.fragments import text_table
from lsap_jax.report.page import escape, number, page, section
from lsap_jax.report.pictures import data_uri
from lsap_jax.storage.atomic import write_files
from lsap_jax.storage.labelled_grid import Cell, labelled_grid
from lsap_jax.storage.pictures import png_bytes
from lsap_jax.storage.results import read_image, read_manifest

METRICS = ("mse", "psnr", "ssim")
FACES = 6
SIDE = 1200  # of the picture in the page


def write_demo_page(
    out: Path, runs: Mapping[str, Path], best: str, edits: Path, shown: Mapping[str, Sequence[str]],
    pages: Mapping[str, str],
) -> Path:  # fmt: skip
    """Write faces.png and index.html.

    Args:
        out: folder of the demo.
        runs: run folders by name.
        best: name of the run whose images are shown.
        edits: folder of its edits.
        shown: series -> its labels, of the edits in the picture.
        pages: title -> address, relative to `out`, of the pages to go to.

    Returns:
        The path of index.html.
    """
    run = runs[best]
    ids = sorted(read_manifest(run))
    chosen = [ids[i] for i in np.linspace(0, len(ids) - 1, min(FACES, len(ids))).round().astype(int)]
    rows: list[list[Cell]] = [
        [(read_image(run, id, part), text) for id in chosen] for part, text in (("targets", "target"), ("images", best))
    ]
    rows += [
        [strongest(edits, id, series, (labels[0], labels[-1])) for id in chosen] for series, labels in shown.items()
    ]
    faces = labelled_grid(chosen, rows)
    links = "".join(f'<p><a href="{escape(address)}">{escape(title)}</a></p>' for title, address in pages.items())
    table = [[name, *(number(value, 3) for value in means(folder))] for name, folder in runs.items()]
    alt = f"targets, reconstructions and edits of {len(chosen)} faces"
    picture = f'<img class="whole" src="{data_uri(faces, SIDE)}" alt="{alt}">'
    body = (
        f'<header><div class="inner"><p class="over">lsap_jax demo</p><h1>{len(ids)} images, inverted and edited</h1>'
        f"</div></header><main>{section('pages', 'Pages', links)}"
        f"{section('faces', 'Faces', picture, 'Evenly chosen. Of each edit the side that changes the face more.')}"
        f"{section('metrics', 'Means', text_table(['run', *METRICS], table))}</main>"
    )
    index = out / "index.html"
    write_files({out / "faces.png": png_bytes(faces), index: page("lsap_jax demo", body).encode("utf-8")})
    return index


def strongest(edits: Path, id: str, series: str, labels: Sequence[str]) -> Cell:
    """The one of these edits of an image that changes it most: who is blond already gets dark hair."""
    own = read_image(edits, id, f"images/{series}/0").astype(float)
    pictures = {label: read_image(edits, id, f"images/{series}/{label}") for label in labels}
    label = max(pictures, key=lambda label: float(np.abs(pictures[label] - own).mean()))
    return pictures[label], f"{series.replace('_', ' ')} {label}"


def means(folder: Path) -> list[float]:
    """Mean MSE, PSNR and SSIM of a run, NaN where no image is done."""
    records = read_manifest(folder).values()
    return [sum(r["metrics"][name] for r in records) / len(records) if records else math.nan for name in METRICS]
