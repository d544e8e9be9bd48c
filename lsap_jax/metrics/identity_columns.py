"""Identities of reconstructions: columns of metrics.csv, which name the network, and their summary for evaluation.json.

| column                      | network                     | value                                                  |
|-----------------------------|-----------------------------|--------------------------------------------------------|
| identity_NETWORK            | any of `EMBEDDERS`          | cosine of the embeddings of target and reconstruction  |
| identity_NETWORK_distance   | dlib's                      | Euclidean distance of them                             |
| face                        | where a detector is used    | whether a face was found in the reconstruction, 1 or 0 |
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lsap_jax.metrics.identity import IdentityMeter, kept
from lsap_jax.metrics.significance import Interval, bootstrap_interval
from lsap_jax.models.embedder import DLIB, EMBEDDERS, Images
from lsap_jax.networks.dlib_resnet import SAME_PERSON

FORMULAS = {
    "identity": "cosine of the face embeddings of target and reconstruction, the largest face of each; an image has "
    "none unless a face is found in both",
    "distance": "Euclidean distance of the same embeddings; by dlib's documentation, two faces less than "
    f"{SAME_PERSON} apart are one person's",
    "face": "1 if a face is found in the reconstruction, 0 if not; an image has none where the target has no face",
}


def columns(network: str) -> dict[str, str]:
    """Measure -> its column, by a network of `EMBEDDERS`."""
    distance = {"distance": f"identity_{network}_distance"} if network == DLIB else {}
    return {"identity": f"identity_{network}", **distance, "face": "face"}


SIMILARITIES = frozenset(columns(network)["identity"] for network in EMBEDDERS)
COLUMNS = frozenset(column for network in EMBEDDERS for column in columns(network).values())


def _of(meter: IdentityMeter) -> dict[str, str]:
    """The `columns` that a meter measures."""
    found = columns(meter.embedder.record.name)
    return {measure: column for measure, column in found.items() if measure != "face" or meter.detector is not None}


def measure_identities(
    meter: IdentityMeter, targets: Images, reconstructions: Images, batch_size: int = 32
) -> dict[str, np.ndarray]:
    """Column -> its values [N]; NaN where an image has none.

    Args:
        targets, reconstructions: N images each, as for `lsap_jax.models.embedder.embed`.

    Raises:
        LsapError: see `lsap_jax.metrics.identity.face_embeddings`.
    """
    before, after = (meter.faces(images, batch_size) for images in (targets, reconstructions))
    values = {**kept(before, after), "distance": np.linalg.norm(before.astype(np.float64) - after, axis=1)}
    return {column: values[measure] for measure, column in _of(meter).items()}


def describe_identities(meter: IdentityMeter) -> dict[str, dict[str, Any]]:
    """Column -> its formula, and what it is measured with, for results."""
    return {column: {"formula": FORMULAS[measure], **meter.described} for measure, column in _of(meter).items()}


def summarise_identities(meter: IdentityMeter, found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What evaluation.json says of columns of all images.

    Args:
        found: column -> [N], NaN where an image has none; a column that no image has may be missing.

    Returns:
        {"network", "compared", "intervals", "targets_without_face", "reconstructions_without_face"}: how many images
        have a face in both, and column -> [low, high] of the 95 % studentised bootstrap interval of the mean, or None
        for fewer than two images. For dlib's network also "same_person": how many are less than `SAME_PERSON` apart.
    """
    of, count = _of(meter), len(next(iter(found.values())))
    values = {measure: found.get(column, np.full(count, math.nan)) for measure, column in of.items()}
    compared = np.isfinite(values["identity"])
    intervals = {
        of[measure]: _ends(bootstrap_interval(values[measure][compared])) if compared.any() else None
        for measure in of
        if measure != "face"
    }
    same = {"same_person": int((values["distance"] < SAME_PERSON).sum())} if "distance" in of else {}
    face = values.get("face", np.ones(count))
    return {
        "network": meter.embedder.record.network,
        "compared": int(compared.sum()),
        "intervals": intervals,
        **same,
        "targets_without_face": int(np.isnan(face).sum()),
        "reconstructions_without_face": int((face == 0).sum()),
    }


def _ends(interval: Interval) -> list[float] | None:
    return None if math.isnan(interval.low) else [interval.low, interval.high]
