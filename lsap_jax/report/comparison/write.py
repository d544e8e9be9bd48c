"""All that a comparison writes beside its runs, from what lies in its folder.

    comparison.csv   a row per preset: means, intervals, seconds per image
    per_image.csv    a row per image and preset
    tests.csv        a row per non-inferiority test
    published.csv    a row per preset: our means beside published ones, where the configuration has any
    grid.png         targets beside their reconstructions
    report.html      all of it on one page

Only the times may differ between two machines.
"""

from pathlib import Path

from lsap_jax.experiments.comparison.curves import median_curves
from lsap_jax.experiments.comparison.files import csv_files
from lsap_jax.experiments.comparison.tables import Comparison, read_all
from lsap_jax.report.comparison.picture import caption_names, draw, read_lines
from lsap_jax.report.comparison.sections import body
from lsap_jax.report.page import page
from lsap_jax.storage.atomic import write_files
from lsap_jax.storage.file_bytes import png_bytes


def write_comparison(out: Path, begun: bool = False) -> Comparison:
    """Writes tables, picture and page of a comparison whose runs are over, or with `begun` of those that have begun;
    the same folder gives the same bytes.

    Raises:
        LsapError: no comparison, a run of it is missing or damaged, or the folder cannot be written. Pictures and
            curves that are missing or have changed do not stop the page; it shows their places empty.
    """
    comparison = read_all(out, begun)
    lines = read_lines(out, comparison)
    name = out.resolve().name
    text = page(
        f"{name} – comparison",
        body(name, comparison, lines, median_curves(out, comparison)),
        style=("page.css", "comparison.css"),
        script="comparison.js",
    )
    files = {out / file: data for file, data in csv_files(comparison).items()}
    files[out / "report.html"] = text.encode("utf-8")
    if lines:
        files[out / "grid.png"] = png_bytes(draw(lines, caption_names(comparison)))
    else:
        (out / "grid.png").unlink(missing_ok=True)
    write_files(files)
    return comparison
