"""Fréchet distance between two sets of images in features of FID's Inception v3 (Heusel et al., NeurIPS 2017).

Only what is measured in those features is called FID here: `fid` refuses features of any other length, and there are
no features without the converted weights. `frechet_distance` is the same formula on any features, under its own name.
`lsap_jax.metrics.kid.kid` takes the same features and is unbiased for sets of any size.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.models.inception import Inception
from lsap_jax.networks.inception import FEATURES, InceptionNetwork
from lsap_jax.pixels import to_uint8


class Fid(NamedTuple):
    """Fréchet distance, and a remark about its reliability ("" if there is nothing to say)."""

    value: float
    note: str


@jax.jit
def inception_features_of(params: Mapping[str, Any], levels: jax.Array) -> jax.Array:
    """As `inception_features`, [B, 2048], of one batch of uint8 images [B, H, W, 1 or 3]; it can be traced."""
    images = levels.astype(jnp.float32) / 127.5 - 1.0
    if images.shape[-1] == 1:
        images = jnp.repeat(images, 3, axis=-1)
    return InceptionNetwork().apply({"params": params}, images)  # type: ignore[return-value]


def inception_features(network: Inception, images: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Features of images, for `fid` and `lsap_jax.metrics.kid.kid`; `network.record` pins them down.

    Args:
        network: of `load(path, "inception")`.
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
        out.append(np.asarray(inception_features_of(network.params, jnp.asarray(padded)))[: len(chunk)])
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
