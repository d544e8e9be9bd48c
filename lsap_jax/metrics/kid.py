"""Kernel distance between two sets of images (Binkowski et al., Demystifying MMD GANs, ICLR 2018), and features for it
without a trained network.

`kid` is the unbiased estimator on any features. `random_features` makes them from fixed random convolutions, which know
nothing of any generator or discriminator; distances in them can be compared with each other, but not with published KID
or FID, which use Inception features.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.pixel_maps import area

FEW = 100  # images of the smaller set, of fewer than which KID means nothing
_CHUNK = 64
_WIDTHS = (32, 64)
_GRID = 4
_SCALES = 3


class Kid(NamedTuple):
    """Unbiased estimate (may be negative) and its standard error."""

    value: float
    stderr: float


class KidSubsets(NamedTuple):
    """Mean and standard deviation of the unbiased estimate over random subsets, the form in which papers report it."""

    mean: float
    std: float
    subsets: int
    subset_size: int


def few(images: int) -> str:
    """What is said beside every KID of sets whose smaller one has so many images; "" where there are enough."""
    return "" if images >= FEW else f"KID of {images} images means nothing; it takes {FEW} or more"


def _check(x: np.ndarray, y: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise LsapError(
            f"KID needs features [N, d] and [M, d], got {x.shape} and {y.shape}; compute both on images of one size"
        )
    if min(len(x), len(y)) < least:
        raise LsapError(f"KID needs at least {least} images on both sides, got {len(x)} and {len(y)}")
    return x, y


def _kernel_rows(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of rows of the polynomial kernel (x·y / d + 1)³, [<= 1024, M] each."""
    for start in range(0, len(x), 1024):
        yield (x[start : start + 1024] @ y.T / x.shape[1] + 1.0) ** 3


class _Sums(NamedTuple):
    """Sums of a kernel matrix: of each row, of each column, and of all squares."""

    rows: np.ndarray
    columns: np.ndarray
    squares: float


def _kernel_sums(x: np.ndarray, y: np.ndarray) -> _Sums:
    rows, columns, squares = [], np.zeros(len(y)), 0.0
    for block in _kernel_rows(x, y):
        rows.append(block.sum(axis=1))
        columns += block.sum(axis=0)
        squares += float(np.vdot(block, block))
    return _Sums(np.concatenate(rows), columns, squares)


def _within_sums(x: np.ndarray) -> _Sums:
    """Sums over pairs of different images of one set."""
    sums, own = _kernel_sums(x, x), ((x * x).mean(axis=1) + 1.0) ** 3
    return _Sums(sums.rows - own, sums.columns - own, sums.squares - float(own @ own))


def _interaction_within(k: _Sums) -> float:
    """Unbiased variance of what is left of the kernel of two images of one set without the effect of each (U-centring,
    Székely and Rizzo 2014); 0 for 3 images, which tell nothing of it.
    """
    n, total = len(k.rows), k.rows.sum()
    left = k.squares - 2 * (k.rows @ k.rows) / (n - 2) + total**2 / ((n - 1) * (n - 2))
    return float(left) / (n * (n - 3)) if n > 3 else 0.0


def _interaction_between(k: _Sums) -> float:
    """The same of an image of either set: the residual of a two-way analysis of variance."""
    m, n, total = len(k.rows), len(k.columns), k.rows.sum()
    left = k.squares - (k.rows @ k.rows) / n - (k.columns @ k.columns) / m + total**2 / (m * n)
    return float(left) / ((m - 1) * (n - 1))


def kid(x: np.ndarray, y: np.ndarray) -> Kid:
    """Unbiased squared MMD between all of x and all of y, with its standard error.

    The error is the delete-one jackknife's over both sets, less what that counts twice: the part of the variance that
    comes of pairs of images (Efron and Stein, The jackknife estimate of variance, 1981). For sets of the same
    distribution there is no other part, and the jackknife alone would be √2 too large. As no part is negative, the
    error is then still about 8 % above the spread of such values.

    Args:
        x: features [N, d], N at least 3.
        y: features [M, d], M at least 3.

    Raises:
        LsapError: the shapes do not agree, or a set is too small.
    """
    x, y = _check(x, y, 3)
    m, n = len(x), len(y)
    own_x, own_y, cross = _within_sums(x), _within_sums(y), _kernel_sums(x, y)
    xx, yy, xy = own_x.rows.sum(), own_y.rows.sum(), cross.rows.sum()
    term_x, term_y = xx / (m * (m - 1)), yy / (n * (n - 1))
    without_x = (xx - 2 * own_x.rows) / ((m - 1) * (m - 2)) + term_y - 2 * (xy - cross.rows) / ((m - 1) * n)
    without_y = term_x + (yy - 2 * own_y.rows) / ((n - 1) * (n - 2)) - 2 * (xy - cross.columns) / (m * (n - 1))
    jackknife = (m - 1) * without_x.var() + (n - 1) * without_y.var()
    pairs_x, pairs_y, pairs = _interaction_within(own_x), _interaction_within(own_y), _interaction_between(cross)
    # What pairs have in the variance, and in the jackknife.
    there = 2 * pairs_x / (m * (m - 1)) + 2 * pairs_y / (n * (n - 1)) + 4 * pairs / (m * n)
    counted = 4 * pairs_x / (m * (m - 2)) + 4 * pairs_y / (n * (n - 2)) + 8 * pairs / (m * n)
    variance = max(jackknife - counted, 0.0) + there
    return Kid(float(term_x + term_y - 2 * xy / (m * n)), float(np.sqrt(max(variance, 0.0))))


def kid_by_image(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What each image of x contributes to `kid(x, y)`: [N] whose mean it is.

    Resampling them, as one does values of images, gives the spread of KID over sets x to first order: where an image
    counts twice among the pairs of x, it does so here. The set y is taken as given.

    Args:
        x, y: features [N, d] and [M, d], N and M at least 3.

    Raises:
        LsapError: the shapes do not agree, or a set is too small.
    """
    x, y = _check(x, y, 3)
    m, n = len(x), len(y)
    own, cross = _within_sums(x).rows / (m - 1), _kernel_sums(x, y).rows / n
    others = _within_sums(y).rows.sum() / (n * (n - 1))
    return np.asarray(2 * (own - cross) - own.mean() + others)


def kid_subsets(x: np.ndarray, y: np.ndarray, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> KidSubsets:
    """KID over random subsets (drawn without replacement within each); subset_size is lowered to the smaller set.

    Subsets overlap, so `std` is no standard error; `kid` has one.
    """
    x, y = _check(x, y, 3)
    size = min(subset_size, len(x), len(y))
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        a, b = x[rng.permutation(len(x))[:size]], y[rng.permutation(len(y))[:size]]
        kaa, kbb, kab = (np.concatenate(list(_kernel_rows(p, q))) for p, q in ((a, a), (b, b), (a, b)))
        within = (kaa.sum() - np.trace(kaa) + kbb.sum() - np.trace(kbb)) / (size * (size - 1))
        values.append(within - 2 * kab.mean())
    return KidSubsets(float(np.mean(values)), float(np.std(values)), subsets, size)


def feature_description(seed: int = 0) -> str:
    """Name of whitened `random_features` for results."""
    return f"random-conv features (seed {seed}): untrained, 2 layers at 3 scales, PCA-whitened on real images"


class Whitening(NamedTuple):
    """Centring and scaling, then projection to unit variance: features [N, d] to [N, k]."""

    mean: np.ndarray
    scale: np.ndarray
    projection: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return ((features - self.mean) / self.scale) @ self.projection


def fit_whitening(reference: np.ndarray, components: int = 256) -> Whitening:
    """Principal components of the features of real images, each scaled to unit variance.

    Without it, what all images share hides their differences: on 64-px cartoon faces, noise of 4 grey levels on 200
    images is lost in the error of KID before and 7 standard errors above zero after.

    Args:
        reference: features [N, d] of real images that are in neither of the sets to compare.
        components: kept; lowered to N // 4.

    Raises:
        LsapError: fewer than 8 images.
    """
    x = np.asarray(reference, np.float64)
    if x.ndim != 2 or len(x) < 8:
        raise LsapError(f"whitening needs features [N, d] of at least 8 images, got shape {x.shape}")
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    # The floors keep directions in which the reference hardly varies from deciding everything.
    scale = deviation + 0.01 * deviation.mean()
    centred = (x - mean) / scale
    k = min(components, len(x) // 4)
    if len(x) < x.shape[1]:  # by the products of images: seconds where the decomposition takes a quarter of a minute
        squares, vectors = np.linalg.eigh(centred @ centred.T)
        singular = np.sqrt(np.maximum(squares[::-1][:k], np.finfo(np.float64).tiny))
        rows = (vectors[:, ::-1][:, :k].T @ centred) / singular[:, None]
    else:
        _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    spread = singular[:k] / np.sqrt(len(x))
    return Whitening(mean, scale, rows[:k].T / (spread + 0.01 * spread[0]))


def _random_weights(channels: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(kernel HWIO, bias) per layer; the legacy generator's stream never changes between numpy versions."""
    draw = np.random.RandomState(seed)
    layers, width = [], channels
    for index, (size, out) in enumerate(zip((5, 3), _WIDTHS, strict=True)):
        kernel = draw.randn(size, size, width, out) * np.sqrt(2.0 / (size * size * width))
        if index == 0:  # edges and texture; flat colour is kept beside the convolutions
            kernel = 2.0 * (kernel - kernel.mean(axis=(0, 1), keepdims=True))
        layers.append((kernel.astype(np.float32), (0.2 * draw.randn(out)).astype(np.float32)))
        width = out
    return layers


def _convolve(x: jax.Array, kernel: jax.Array, bias: jax.Array, padding: str) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=numbers, precision=FULL)
    return jax.nn.relu(y + bias[None, None, None, :])


def _summary(x: jax.Array) -> list[jax.Array]:
    """Means on a grid, and deviations, of [B, H, W, C]."""
    grid = area(x, (min(_GRID, x.shape[1]), min(_GRID, x.shape[2])))
    return [grid.reshape(len(x), -1), x.std(axis=(1, 2))]


@jax.jit
def _features(images: jax.Array, layers: list[tuple[jax.Array, jax.Array]]) -> jax.Array:
    parts = _summary(images)
    for _ in range(_SCALES):
        x = _convolve(images, *layers[0], padding="VALID")
        parts += _summary(x)
        if min(x.shape[1:3]) >= 4:
            x = area(x, (x.shape[1] // 2, x.shape[2] // 2))
        parts += _summary(_convolve(x, *layers[1], padding="SAME"))
        if min(images.shape[1:3]) < 16:
            break
        images = area(images, (images.shape[1] // 2, images.shape[2] // 2))
    return jnp.concatenate(parts, axis=-1)


def random_features(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Fixed random multi-scale convolution features of images, the same on every call; see `feature_description`.

    Args:
        images: [N, H, W, C], uint8 or float in [-1, 1], at least 8 px a side; of one size in all sets to compare.
        seed: of the random weights.

    Returns:
        [N, d] float32.

    Raises:
        LsapError: the images are too small.
    """
    images = np.asarray(images)
    if images.ndim != 4 or min(images.shape[1:3]) < 8 or not len(images):
        raise LsapError(f"random-conv features need images [N, H, W, C] of at least 8 x 8 px, got shape {images.shape}")
    out = []
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        chunk = chunk / np.float32(127.5) - np.float32(1) if chunk.dtype == np.uint8 else np.clip(chunk, -1, 1)
        padded = np.concatenate([chunk, np.zeros((_CHUNK - len(chunk), *chunk.shape[1:]))]).astype(np.float32)
        out.append(np.asarray(random_features_of(jnp.asarray(padded), seed))[: len(chunk)])
    return np.concatenate(out)


def random_features_of(images: jax.Array, seed: int = 0) -> jax.Array:
    """As `random_features`, [B, d], of one batch of float images [B, H, W, C] in [-1, 1]; it can be traced."""
    layers = [(jnp.asarray(k), jnp.asarray(b)) for k, b in _random_weights(images.shape[-1], seed)]
    return _features(images, layers)  # type: ignore[no-any-return]
