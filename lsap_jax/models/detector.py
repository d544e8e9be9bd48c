"""The face detector: MTCNN's three networks with their weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax

from lsap_jax.errors import LsapError
from lsap_jax.networks.bounds import checked
from lsap_jax.networks.mtcnn import NETWORKS


@dataclass(frozen=True, kw_only=True)
class Detector:
    """MTCNN's weights: `params` of the three networks, and the SHA-256 of the tensors."""

    params: Mapping[str, Any]
    sha256: str


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Names of the networks in a file."""

    networks: tuple[Literal["pnet", "rnet", "onet"], ...]


def detector_config(header: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the networks in a file.

    Raises:
        LsapError: one of the three networks is missing.
    """
    there = checked(DetectorConfig, header).networks
    if set(there) != set(NETWORKS):
        raise LsapError(f"holds {' and '.join(there)} alone, detection needs {', '.join(NETWORKS)}")
    return there


def detector_of(params: Mapping[str, Any], provenance: Mapping[str, Any]) -> Detector:
    """The detector from the parts of a file."""
    return Detector(params=jax.device_put(params), sha256=str(provenance["sha256"]))
