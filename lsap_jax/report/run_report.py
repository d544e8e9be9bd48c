"""Build ``report.html`` of a run folder: one page that needs no other file, no network and no server."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison.tables import HIGHER_IS_BETTER
from lsap_jax.report.links import comparison_of, edits_part
from lsap_jax.report.page import page
from lsap_jax.report.pictures import LOSSLESS_SIDE, data_uri, difference
from lsap_jax.report.sections import DIFFERENCE_FACTOR, Card, Contents, Row, body
from lsap_jax.storage.atomic import write_files
from lsap_jax.storage.metrics_table import numbers, read_metrics_table
from lsap_jax.storage.results import Record, read_arrays, read_failures, read_image, read_manifest, read_run

MAX_PICTURES = 200
MAX_BYTES = 10_000_000  # of embedded pictures; with the numbers of thousands of images the page stays under 15 MB
MAX_CURVES = 2000


def write_run_report(
    run_dir: str | os.PathLike[str],
    max_pictures: int = MAX_PICTURES,
    max_bytes: int = MAX_BYTES,
    worst: str | None = None,
) -> Path:
    """Write ``report.html`` into a run folder, from what lies there; also while the run is unfinished.

    All numbers cover every finished image. Pictures are embedded for at most ``max_pictures`` images and ``max_bytes``
    bytes; of a larger run they are taken evenly over the ranking by the first metric, its two ends included, or with
    ``worst`` from its bad end, and the page says so. The loss curves of a run of more than 2,000 images are those of
    2,000, evenly spread. The page links to the comparison that the run is part of, and to the edits that lie beside it.
    The same folders give the same bytes.

    Args:
        run_dir: a folder as ``lsap-jax invert --out`` writes it.
        max_pictures: most images whose pictures are embedded.
        max_bytes: most bytes of embedded pictures.
        worst: a metric; images then come in its order, the worst first.

    Returns:
        The path of the page.

    Raises:
        LsapError: not a run folder, its run.json or manifest is damaged, no image has the metric, or the page cannot be
            written. Pictures and
            curves that are missing or have changed do not stop the page; it shows their places empty.
    """
    run_dir = Path(run_dir)
    run, manifest = read_run(run_dir), read_manifest(run_dir)
    rows = _rows(run_dir, manifest)
    metrics = _metric_names(run, rows)
    if worst is not None and worst not in metrics:
        raise LsapError(f"{run_dir}: no image has the metric {worst!r}; there are {', '.join(metrics) or 'none'}")
    chosen = _spread(rows, metrics) if worst is None else iter(_from_worst(rows, worst))
    cards = _cards(run_dir, manifest, rows, chosen, max_pictures, max_bytes)
    curves, curve_images = _all_curves(run_dir, manifest)
    contents = Contents(
        name=run_dir.resolve().name,
        run=run,
        rows=rows,
        failures=read_failures(run_dir),
        metrics=metrics,
        cards=cards,
        choice=_choice(len(cards), len(rows), metrics, worst),
        curves=curves,
        curve_images=curve_images,
        order=None if worst is None else (worst, worst in HIGHER_IS_BETTER),
        comparison=comparison_of(run_dir),
        edits=edits_part(run_dir),
    )
    path = run_dir / "report.html"
    write_files({path: page(f"{contents.name} – inversion report", body(contents)).encode("utf-8")})
    return path


def _rows(run_dir: Path, manifest: Mapping[str, Record]) -> list[Row]:
    """Finished images in the manifest's order, with the columns that `evaluate` added to metrics.csv."""
    added = read_metrics_table(run_dir)
    return [
        Row(
            id=name,
            metrics=added.get(name, {}) | numbers(record.get("metrics") or {}),
            flags=tuple(map(str, record.get("flags") or ())),
            notes=tuple(map(str, record.get("notes") or ())),
        )
        for name, record in manifest.items()
    ]


def _metric_names(run: Mapping, rows: Sequence[Row]) -> list[str]:
    """Metrics that some image has: those that the run describes in its order, then the others."""
    present = dict.fromkeys(name for row in rows for name in row.metrics)
    described = run.get("metrics")
    first = [name for name in described if name in present] if isinstance(described, Mapping) else []
    return list(dict.fromkeys([*first, *present]))


def _choice(shown: int, total: int, metrics: Sequence[str], worst: str | None) -> str:
    """The sentence that says whose pictures the page holds."""
    if shown == total:
        return "The one finished image is shown." if total == 1 else f"All {total:,} finished images are shown."
    over = f"evenly spread over the ranking by {metrics[0]}, both ends included" if metrics else "evenly spread"
    over = over if worst is None else f"the worst by {worst}"
    return (
        f"Pictures of {shown:,} of the {total:,} finished images are embedded, {over}; the table "
        "and all numbers cover every image, and the folders images and targets of the run hold the other pictures."
    )


def _from_worst(rows: Sequence[Row], metric: str) -> list[int]:
    """Row numbers from the worst value of a metric on; those without one come last."""
    sign = 1 if metric in HIGHER_IS_BETTER else -1
    values = [row.metrics.get(metric, math.nan) for row in rows]
    return sorted(range(len(rows)), key=lambda index: math.inf if math.isnan(v := values[index]) else sign * v)


def _spread(rows: Sequence[Row], metrics: Sequence[str]) -> Iterator[int]:
    """Row numbers, of which the first few always lie evenly over the ranking by the first metric; its ends first."""
    ranking = list(range(len(rows)))
    if metrics:
        values = [row.metrics.get(metrics[0], math.nan) for row in rows]
        ranking.sort(key=lambda index: math.inf if math.isnan(values[index]) else values[index])
    seen = set()
    bits = max(len(rows) - 1, 1).bit_length()
    last = 2**bits - 1
    # van der Corput: reading the counter's bits backwards visits the ends, the middle, the quarters, the eighths …
    for n in (0, last, *range(1, last)):
        place = round(int(format(n, f"0{bits}b")[::-1], 2) / last * (len(rows) - 1))
        if rows and place not in seen:
            seen.add(place)
            yield ranking[place]


def _cards(
    run_dir: Path,
    manifest: Mapping[str, Record],
    rows: Sequence[Row],
    order: Iterator[int],
    max_pictures: int,
    max_bytes: int,
) -> list[Card]:
    cards: list[Card] = []
    spent = 0
    for index in order:
        if len(cards) >= max_pictures:
            break
        card = _card(run_dir, manifest, rows[index].id, index)
        spent += sum(len(address or "") for address in card.pictures.values())
        if cards and spent > max_bytes:
            break
        cards.append(card)
    return sorted(cards, key=lambda card: card.row)


def _card(run_dir: Path, manifest: Mapping[str, Record], name: str, index: int) -> Card:
    target, output = (_picture(run_dir, manifest, name, part) for part in ("targets", "images"))
    gap = None
    if target is not None and output is not None and target.shape == output.shape:
        gap = difference(target, output, DIFFERENCE_FACTOR)
    pictures = {"target": target, "reconstruction": output, "difference": gap}
    return Card(
        row=index,
        pictures={title: None if array is None else data_uri(array) for title, array in pictures.items()},
        pixelated=all(array is None or max(array.shape) <= LOSSLESS_SIDE for array in pictures.values()),
        curve=_curves(run_dir, manifest, name).get("loss"),
    )


def _picture(run_dir: Path, manifest: Mapping[str, Record], name: str, part: str) -> np.ndarray | None:
    """uint8 [H, W, C], or None where the file is missing or is not the one that the run wrote."""
    try:
        return read_image(run_dir, name, part, manifest=manifest)
    except (LsapError, OSError, ValueError):
        return None


def _all_curves(run_dir: Path, manifest: Mapping[str, Record]) -> tuple[dict[str, list[np.ndarray]], int]:
    """The curves [steps] by term, the total first, and how many images they are of."""
    names = list(manifest)
    if len(names) > MAX_CURVES:
        names = [names[i] for i in np.linspace(0, len(names) - 1, MAX_CURVES).round().astype(int).tolist()]
    found = [curves for name in names if (curves := _curves(run_dir, manifest, name))]
    terms = sorted(dict.fromkeys(term for curves in found for term in curves), key=lambda term: term != "loss")
    return {term: [curves[term] for curves in found if term in curves] for term in terms}, len(found)


def _curves(run_dir: Path, manifest: Mapping[str, Record], name: str) -> dict[str, np.ndarray]:
    try:
        arrays = read_arrays(run_dir, name, "curves", manifest=manifest)
    except (LsapError, OSError, ValueError):
        return {}
    return {term: a.astype(np.float32) for term, a in arrays.items() if a.ndim == 1 and a.size}
