"""Fréchet distance between two sets of images in features of FID's Inception v3 (Heusel et al., NeurIPS 2017).

Only what is measured in those features is called FID here: `fid` refuses features of any other length, and there are
no features without the converted weights. `frechet_distance` is the same formula on any features, under its own name.
`lsap_jax.metrics.kid.kid` takes the same features and is unbiased for sets of any size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convert_weights.checkpoint import Checkpoint
from lsap_jax.errors import LsapError
from lsap_jax.networks.inception import FEATURES, RESOLUTION, InceptionNetwork, inception_params
from lsap_jax.pixels import to_uint8
from lsap_jax.storage import weights_file

KIND = "inception"
PUBLIC_FILE = "pt_inception-2015-12-05-6726825d.pth"  # its name ends with the start of its SHA-256
_REMEDY = f"convert {PUBLIC_FILE} of pytorch-fid with `lsap-jax convert`"


class Fid(NamedTuple):
    """Fréchet distance, and what to bear in mind about it ("" where nothing is)."""

    value: float
    note: str


@dataclass(frozen=True, kw_only=True)
class FeatureRecord:
    """What pins the features down, for results.

    Attributes:
        network: the architecture and the layer.
        weights: the public file's name where its SHA-256 says so, else the SHA-256 of the tensors.
        resolution: pixels a side that the network sees.
        resize: how images of another size come there.
        quantisation: what happens to float images before.
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


def _inception(arrays: Mapping[str, np.ndarray], source_sha256: str) -> Inception:
    params = inception_params(arrays)
    public = source_sha256.startswith(Path(PUBLIC_FILE).stem.rsplit("-", 1)[1])
    record = FeatureRecord(weights=PUBLIC_FILE if public else f"tensors of SHA-256 {weights_file.digest(arrays)}")
    return Inception(params=jax.tree.map(jnp.asarray, params), record=record)


def inception_from_checkpoint(checkpoint: Checkpoint) -> Inception:
    """Network of a `convert_weights.Checkpoint` of kind "inception".

    Raises:
        LsapError: the checkpoint holds something else or is incomplete.
    """
    if checkpoint.kind != KIND:
        raise LsapError(f"this file holds {checkpoint.kind!r} weights ({checkpoint.format}), not FID's; {_REMEDY}")
    return _inception(checkpoint.arrays, checkpoint.sha256)


def save_inception(path: str | Path, checkpoint: Checkpoint) -> str:
    """Write the weights as one file for `load_inception`; returns the digest of its tensors.

    Raises:
        LsapError: see `inception_from_checkpoint`; nothing is written then.
    """
    inception_from_checkpoint(checkpoint)
    return weights_file.write_weights(path, KIND, checkpoint.arrays, checkpoint.config, checkpoint.provenance)


def load_inception(path: str | Path | None) -> Inception:
    """Network of a file of `save_inception`, its digest checked, or of the public file converted on the fly.

    Args:
        path: None, for "no weights were given", is refused with the way to them.

    Raises:
        LsapError, ConversionError: there is no such file, it is damaged, incomplete, or holds something else.
    """
    if path is None:
        raise LsapError(
            f"FID needs Inception weights, and a distance in other features is never called FID; {_REMEDY}, or measure "
            "KID in random-conv features"
        )
    if not Path(path).is_file():
        raise LsapError(f"{path}: no such file; {_REMEDY}")
    if not weights_file.is_weights_file(path):
        from convert_weights import read

        return inception_from_checkpoint(read(path))
    kind, arrays, _, provenance = weights_file.read_weights(path)
    if kind != KIND:
        raise LsapError(f"{path}: holds {kind!r} weights, not FID's; {_REMEDY}")
    try:
        return _inception(arrays, str(provenance.get("source_sha256", "")))
    except LsapError as error:
        raise LsapError(f"{path}: {error}") from error


@jax.jit
def _features(params: Mapping[str, Any], levels: jax.Array) -> jax.Array:
    images = levels.astype(jnp.float32) / 127.5 - 1.0
    if images.shape[-1] == 1:
        images = jnp.repeat(images, 3, axis=-1)
    return InceptionNetwork().apply({"params": params}, images)  # type: ignore[return-value]


def inception_features(network: Inception, images: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Features of images, for `fid` and `lsap_jax.metrics.kid.kid`; `network.record` pins them down.

    Args:
        network: of `load_inception`.
        images: [N, H, W, C] with C of 1 (repeated) or 3, uint8, or float in [-1, 1] (rounded to 256 levels: generated
            images are to be what a file of them would be).
        batch_size: images at once; the last batch is padded, so that one program runs them all.

    Returns:
        [N, 2048] float32.

    Raises:
        LsapError: no such images, or floats that are not finite.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise LsapError(f"Inception features need images [N, H, W, 1 or 3], got shape {images.shape}")
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise LsapError(f"Inception features need uint8 images or floats in [-1, 1], got {images.dtype}")
    if batch_size < 1:
        raise LsapError(f"batch_size {batch_size} is not a number of images; give 1 or more")
    size = min(batch_size, len(images))
    out = []
    for start in range(0, len(images), size):
        chunk = _levels(images[start : start + size])
        padded = np.concatenate([chunk, np.zeros((size - len(chunk), *chunk.shape[1:]), np.uint8)])
        out.append(np.asarray(_features(network.params, jnp.asarray(padded)))[: len(chunk)])
    return np.concatenate(out)


def _levels(images: np.ndarray) -> np.ndarray:
    """uint8 images; floats are rounded."""
    try:
        return images if images.dtype == np.uint8 else to_uint8(images)
    except ValueError as error:
        raise LsapError(f"{error}; leave such images out") from error


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] of features [N, d], and a factor F [min(N, d), d] of their sample covariance FᵀF."""
    mean = features.mean(axis=0)
    centred = (features - mean) / np.sqrt(len(features) - 1)
    return mean, np.asarray(np.linalg.qr(centred, mode="r")) if len(centred) > centred.shape[1] else centred


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """|mean a - mean b|² + tr(A + B - 2 (AB)^½) for the sample covariances A and B of two sets, in float64.

    With factors A = FᵀF and B = GᵀG, the eigenvalues of (AB)^½ are the singular values of F Gᵀ. This takes no root of
    a matrix, nor of eigenvalues that rounding has pushed around zero, so that it holds for singular covariances too.

    Args:
        features_a, features_b: [N, d] and [M, d], N and M at least 2.

    Raises:
        LsapError: the shapes do not agree, a set is too small, or a feature is not finite.
    """
    a, b = np.asarray(features_a, np.float64), np.asarray(features_b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise LsapError(f"the Fréchet distance needs features [N, d] and [M, d], got {a.shape} and {b.shape}")
    if min(len(a), len(b)) < 2:
        raise LsapError(f"the Fréchet distance needs at least 2 images on both sides, got {len(a)} and {len(b)}")
    for name, x in (("first", a), ("second", b)):
        if not np.isfinite(x).all():
            raise LsapError(f"features of the {name} set are not finite; leave the images out that they come from")
    (mean_a, f), (mean_b, g) = _moments(a), _moments(b)
    roots = np.linalg.svd(f @ g.T, compute_uv=False).sum()
    return float(np.square(mean_a - mean_b).sum() + np.square(f).sum() + np.square(g).sum() - 2 * roots)


def fid(features_a: np.ndarray, features_b: np.ndarray) -> Fid:
    """Fréchet Inception distance between two sets of `inception_features`.

    It falls with the number of images, so it compares with values of equally large sets only. Sets of no more than 2048
    images have singular covariances: `note` says so.

    Args:
        features_a, features_b: [N, 2048] and [M, 2048], N and M at least 2.

    Raises:
        LsapError: these are not Inception features; see also `frechet_distance`.
    """
    for features in (features_a, features_b):
        if np.ndim(features) != 2 or np.shape(features)[1] != FEATURES:
            raise LsapError(
                f"FID is defined in the {FEATURES} Inception features [N, {FEATURES}], got shape {np.shape(features)}; "
                "a distance in other features is never called FID: use kid, or frechet_distance under its own name"
            )
    value = frechet_distance(features_a, features_b)
    fewest = min(len(features_a), len(features_b))
    if fewest > FEATURES:
        return Fid(value, "")
    return Fid(
        value,
        f"{fewest} images are no more than the {FEATURES} features: the covariance is rank-deficient and the value "
        "strongly biased upwards; compare sets of this size only, and read KID beside it",
    )
