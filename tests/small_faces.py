"""Stand-ins for face networks and for the detector, so that any picture can have a face or none."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lsap_jax.faces.detect import Faces, nobody
from lsap_jax.metrics.identity import IdentityMeter
from lsap_jax.models.detector import Detector
from lsap_jax.models.embedder import _FACTS, _NETWORKS, DLIB, Embedder, EmbedderRecord

FACE = Faces(
    np.array([[1, 1, 16, 16]], np.float32),
    np.array([0.99], np.float32),
    np.array([[[5, 6], [11, 6], [8, 9], [6, 12], [10, 12]]], np.float32),
)


def embedder(patch: pytest.MonkeyPatch, kind: str) -> Embedder:
    """A network whose vectors are the mean colours of what it is given."""
    features = _NETWORKS[kind].features

    def of_levels(embedder: Embedder, levels: np.ndarray) -> np.ndarray:
        side = embedder.record.resolution
        assert kind == "arcface" or levels.shape[1:] == (side, side, 3)
        means = np.asarray(levels, np.float32).mean(axis=(1, 2))
        return np.pad(means / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-9), ((0, 0), (0, features - 3)))

    patch.setattr("lsap_jax.models.embedder._of_levels", of_levels)
    record = EmbedderRecord(name=kind, trained_on="", weights="", source_sha256="", **_FACTS[kind])
    return Embedder(params={}, record=record)


def meter(
    patch: pytest.MonkeyPatch, has_face: Callable[[np.ndarray], bool] = lambda picture: True, weights: str = ""
) -> IdentityMeter:
    """dlib's network, stood in for, of `FACE` in every uint8 picture [16, 16, 3] that has one."""
    patch.setattr(
        "lsap_jax.faces.detect.detect", lambda _, pictures: [FACE if has_face(p) else nobody() for p in pictures]
    )
    network = embedder(patch, DLIB)
    network = network.replace(record=replace(network.record, weights=weights))
    return IdentityMeter(embedder=network, detector=Detector(params={}, sha256="0" * 64))
