"""How much of identities the edits of a folder have kept: metrics of each image in its manifest and metrics.csv, and
their means.

| metric                | value                                                                                      |
|-----------------------|--------------------------------------------------------------------------------------------|
| face                  | whether a face was found in the reconstruction, 1 or 0; missing where none is looked for   |
| identity/SERIES/LABEL | cosine of the face embeddings of reconstruction and edit; missing where either has no face |

The network and the detector are recorded under "identity" in edit.json.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lsap_jax.metrics.significance import Interval, bootstrap_interval, interval_text
from lsap_jax.storage.results import Record

FACE = "face"
FORMULA = "cosine of the face embeddings of reconstruction and edit, the largest face of each"


def metric(series: str, label: str) -> str:
    """The name of an edit's similarity."""
    return f"identity/{series}/{label}"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Identities kept by the edits of one series and label.

    Attributes:
        interval: the mean over images with its 95 % studentised bootstrap interval; None where no image has a value.
        missing: edits in which no face was found, of reconstructions that have one.
    """

    series: str
    label: str
    interval: Interval | None
    missing: int

    @property
    def text(self) -> str:
        """The mean with its interval, and what is missing."""
        found = "–" if self.interval is None else interval_text(self.interval)
        return found + (f" ({self.missing} without a face)" if self.missing else "")


def identities_kept(edit: Record, manifest: Mapping[str, Record]) -> list[Kept]:
    """Means over images, in the order of the series; empty where identities are not measured.

    Args:
        edit: what edit.json holds.
        manifest: of the edit folder.
    """
    if "identity" not in edit:
        return []
    places: dict[tuple[str, str], list[str]] = {}
    for one in edit["series"]:
        ids = [id for id in manifest if one["only"] in (None, id)]
        for label in one["labels"]:
            places.setdefault((one["name"], label), []).extend(ids)
    return [_kept(*place, [manifest[id]["metrics"] for id in ids]) for place, ids in places.items()]


def _kept(series: str, label: str, metrics: list[Mapping[str, float]]) -> Kept:
    name = metric(series, label)
    values = [one[name] for one in metrics if name in one]
    return Kept(
        series=series,
        label=label,
        interval=bootstrap_interval(np.array(values)) if values else None,
        missing=sum(one.get(FACE) == 1 and name not in one for one in metrics),
    )


def without_face(manifest: Mapping[str, Record]) -> int:
    """The number of images in whose reconstruction no face was found: their edits are in no mean."""
    return sum(record["metrics"].get(FACE) == 0 for record in manifest.values())
