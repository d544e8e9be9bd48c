"""index.html and faces.png of the demo: what came of it at a glance, and the way to every page."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lsap_jax.report.fragments import text_table
from lsap_jax.report.labelled_grid import labelled_grid
from lsap_jax.report.page import escape, number, page, section
from lsap_jax.report.pictures import data_uri
from lsap_jax.storage.atomic import write_files
from lsap_jax.storage.pictures import png_bytes
from lsap_jax.storage.results import read_image, read_manifest

METRICS = ("mse", "psnr", "ssim")
FACES = 6
SIDE = 1200  # of the picture in the page


def write_demo_page(
    out: Path, runs: Mapping[str, Path], edits: Path, shown: Sequence[tuple[str, str, str]], pages: Mapping[str, str]
) -> Path:
    """Write faces.png and index.html.

    Args:
        out: folder of the demo.
        runs: run folders by space, the first one's images are shown.
        edits: folder of the edits of the first run.
        shown: (series, label, what it is called) of the edits in the picture.
        pages: title -> address, relative to `out`, of the pages to go to.

    Returns:
        The path of index.html.
    """
    first = next(iter(runs.values()))
    ids = sorted(read_manifest(first))
    chosen = [ids[i] for i in np.linspace(0, len(ids) - 1, min(FACES, len(ids))).round().astype(int)]
    parts = [
        (first, "targets", "target"),
        (first, "images", "reconstruction"),
        *((edits, f"images/{series}/{label}", text) for series, label, text in shown),
    ]
    faces = labelled_grid(
        chosen, [[(read_image(folder, id, part), text) for id in chosen] for folder, part, text in parts]
    )
    links = "".join(f'<p><a href="{escape(address)}">{escape(title)}</a></p>' for title, address in pages.items())
    rows = [[space, *(number(value, 3) for value in means(folder))] for space, folder in runs.items()]
    alt = f"targets, reconstructions and edits of {len(chosen)} faces"
    picture = f'<img class="whole" src="{data_uri(faces, SIDE)}" alt="{alt}">'
    body = (
        f'<header><div class="inner"><p class="over">lsap_jax demo</p><h1>{len(ids)} images, inverted and edited</h1>'
        f"</div></header><main>{section('pages', 'Pages', links)}"
        f"{section('faces', 'Faces', picture, 'Evenly chosen, not selected.')}"
        f"{section('metrics', 'Means', text_table(['space', *METRICS], rows))}</main>"
    )
    index = out / "index.html"
    write_files({out / "faces.png": png_bytes(faces), index: page("lsap_jax demo", body).encode("utf-8")})
    return index


def means(folder: Path) -> list[float]:
    """Mean MSE, PSNR and SSIM of a run, NaN where no image is done."""
    records = read_manifest(folder).values()
    return [sum(r["metrics"][name] for r in records) / len(records) if records else math.nan for name in METRICS]
