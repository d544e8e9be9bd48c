"""grid.png: targets beside their reconstructions in every preset, as Fig. 2 of arXiv 2307.08995 shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison.tables import Comparison
from lsap_jax.report.page import number
from lsap_jax.storage.labelled_grid import labelled_grid
from lsap_jax.storage.results import read_image


@dataclass(frozen=True, kw_only=True)
class Line:
    """One target and what became of it.

    Attributes:
        id: of the image.
        target: uint8 [R, R, C], None where the file is missing or has changed.
        pictures: the same by preset.
        metrics: by name, by preset.
    """

    id: str
    target: np.ndarray | None
    pictures: Mapping[str, np.ndarray | None]
    metrics: Mapping[str, Mapping[str, float]]


def chosen(comparison: Comparison) -> list[str]:
    """Ids of the images shown: as many as the configuration says, evenly spread over the order of the images, its ends
    included.
    """
    count = min(comparison.record["config"]["grid"], len(comparison.common))
    places = np.linspace(0, len(comparison.common) - 1, count).round().astype(int).tolist()
    return [comparison.common[place] for place in places]


def read_lines(out: Path, comparison: Comparison) -> list[Line]:
    """The rows of the picture, read from the runs of a comparison in `out`."""
    entries = [entry for entry in comparison.entries if entry.manifest]
    lines = []
    for id in chosen(comparison):
        pictures = {entry.preset: _picture(out / entry.folder, entry.manifest, id, "images") for entry in entries}
        targets = (_picture(out / entry.folder, entry.manifest, id, "targets") for entry in entries)
        metrics = {entry.preset: entry.metrics[id] for entry in entries}
        target = next((target for target in targets if target is not None), None)
        lines.append(Line(id=id, target=target, pictures=pictures, metrics=metrics))
    return lines


def caption_names(comparison: Comparison) -> list[str]:
    """Metrics under each reconstruction: the perceptual distance where there is one, and the MSE."""
    return [name for name in (comparison.distance, "mse") if name in comparison.metrics]


def draw(lines: Sequence[Line], names: Sequence[str]) -> np.ndarray:
    """The picture: a row per target, a column per preset, metrics under each reconstruction.

    Args:
        lines: at least one.
        names: of the metrics.

    Returns:
        uint8 [H, W, 3].
    """
    presets = list(lines[0].pictures)
    rows = [
        [(line.target, line.id), *((line.pictures[p], caption(line.metrics[p], names)) for p in presets)]
        for line in lines
    ]
    return labelled_grid(["target", *presets], rows, f"under each reconstruction: {' / '.join(names)}")


def caption(metrics: Mapping[str, float], names: Sequence[str]) -> str:
    """0.0531 / 0.00479"""
    return " / ".join(number(metrics.get(name), 3) for name in names)


def _picture(folder: Path, manifest: Mapping, id: str, part: str) -> np.ndarray | None:
    """uint8 [H, W, C], or None where the file is missing or is not the one that the run wrote."""
    try:
        return read_image(folder, id, part, manifest=manifest)
    except (LsapError, OSError, ValueError):
        return None
