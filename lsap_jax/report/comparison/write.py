"""All that a comparison writes beside its runs, from what lies in its folder.

    comparison.csv   a row per preset: means, intervals, seconds per image
    per_image.csv    a row per image and preset
    tests.csv        a row per non-inferiority test
    grid.png         targets beside their reconstructions
    report.html      all of it on one page

Only the times may differ between two machines.
"""

from pathlib import Path

import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison.tables import (
    Comparison,
    Entry,
    comparison_csv,
    per_image_csv,
    read_all,
    tests_csv,
)
from lsap_jax.report.comparison.picture import caption_names, draw, read_lines
from lsap_jax.report.comparison.sections import CURVE, body
from lsap_jax.report.page import page
from lsap_jax.storage.atomic import write_files
from lsap_jax.storage.file_bytes import png_bytes
from lsap_jax.storage.results import read_arrays

MOST_CURVES = 200


def write_comparison(out: Path) -> Comparison:
    """Writes tables, picture and page of a comparison whose runs are over; the same folder gives the same bytes.

    Raises:
        LsapError: no comparison, a run of it is missing or damaged, or the folder cannot be written. Pictures and
            curves that are missing or have changed do not stop the page; it shows their places empty.
    """
    comparison = read_all(out)
    lines = read_lines(out, comparison)
    curves = {e.preset: curve for e in comparison.entries if (curve := median_curve(out, comparison, e)) is not None}
    name = out.resolve().name
    text = page(
        f"{name} – comparison",
        body(name, comparison, lines, curves),
        style=("page.css", "comparison.css"),
        script="comparison.js",
    )
    files = {
        out / "comparison.csv": comparison_csv(comparison),
        out / "per_image.csv": per_image_csv(comparison),
        out / "tests.csv": tests_csv(comparison),
        out / "report.html": text.encode("utf-8"),
    }
    if lines:
        files[out / "grid.png"] = png_bytes(draw(lines, caption_names(comparison)))
    else:
        (out / "grid.png").unlink(missing_ok=True)
    write_files(files)
    return comparison


def median_curve(out: Path, comparison: Comparison, entry: Entry) -> np.ndarray | None:
    """Median loss curve [steps + 1] of a preset over the common images, at most 200 of them, evenly spread; NaN where
    none is finite, None without a single curve.
    """
    ids = comparison.common if entry.manifest else ()
    if len(ids) > MOST_CURVES:
        ids = tuple(ids[i] for i in np.linspace(0, len(ids) - 1, MOST_CURVES).round().astype(int))
    curves = []
    for id in ids:
        try:
            curve = read_arrays(out / entry.folder, id, "curves", manifest=entry.manifest)[CURVE]
        except (LsapError, OSError, ValueError, KeyError):
            continue
        curves.append(curve.astype(np.float64))
    if not curves:
        return None
    table = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    table[~np.isfinite(table)] = np.nan
    found, some = np.full(table.shape[1], np.nan), ~np.isnan(table).all(axis=0)
    found[some] = np.nanmedian(table[:, some], axis=0)  # which warns about a column without a single value
    return found
