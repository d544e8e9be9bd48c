"""FID's Inception v3 with its weights, and the record that defines its features."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from lsap_jax.networks.bounds import Text
from lsap_jax.networks.inception import FEATURES, RESOLUTION

PUBLIC_FILE = "pt_inception-2015-12-05-6726825d.pth"  # its name ends with the start of its SHA-256


@dataclass(frozen=True, kw_only=True)
class InceptionConfig:
    """The network comes in one size; a file names it."""

    name: Text = "inception_v3_fid"


@dataclass(frozen=True, kw_only=True)
class FeatureRecord:
    """The facts that define the features, for results.

    Attributes:
        network: the architecture and the layer.
        weights: the public file's name where its SHA-256 says so, else the SHA-256 of the tensors.
        resolution: pixels a side that the network sees.
        resize: how images of another size are resized.
        quantisation: how float images are quantised first.
        range: of the network's input.
    """

    network: str = f"Inception v3 of FID (TensorFlow, 2015-12-05), pool_3, {FEATURES} features"
    weights: str
    resolution: int = RESOLUTION
    resize: str = "bilinear, half-pixel centres, no antialiasing, of float pixels"
    quantisation: str = "floats to 256 levels: floor(127.5 x + 128), clipped"
    range: str = "[-1, 1]: levels / 127.5 - 1"


@dataclass(frozen=True, kw_only=True)
class Inception:
    """FID's network with its weights: `params` of `InceptionNetwork`, and the record of its features."""

    params: Mapping[str, Any]
    record: FeatureRecord


def inception_of(params: Mapping[str, Any], provenance: Mapping[str, Any]) -> Inception:
    """The network from the parts of a file."""
    public = str(provenance.get("source_sha256", "")).startswith(Path(PUBLIC_FILE).stem.rsplit("-", 1)[1])
    record = FeatureRecord(weights=PUBLIC_FILE if public else f"tensors of SHA-256 {provenance['sha256']}")
    return Inception(params=jax.device_put(params), record=record)
