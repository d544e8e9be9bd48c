"""How far a reconstruction is from its target in pixels: MSE, PSNR, SSIM, MS-SSIM, one value per image.

`mse`, `psnr`, `ssim` and `ms_ssim` take float images in [-1, 1], clip them, and do not quantise. `METRICS` is the table
of them, with what pins each down in results.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.networks.pixel_maps import area

WINDOW = 11  # pixels a side, of SSIM
_COMMON = {"range": "[-1, 1], clipped", "resolution": "the generator's", "quantisation": "none"}

_REFERENCE = "gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1)"

# Wang, Simoncelli and Bovik 2003; they sum to 1.0001, and published values are made with them as they are.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def _clip(images: jax.Array) -> jax.Array:
    return jnp.clip(jnp.asarray(images, jnp.float32), -1.0, 1.0)


def mse(a: jax.Array, b: jax.Array) -> jax.Array:
    """Mean squared error [B] of images [B, H, W, C] in [-1, 1]."""
    return jnp.mean(jnp.square(_clip(a) - _clip(b)), (1, 2, 3))


def psnr(a: jax.Array, b: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio [B] in dB of images [B, H, W, C] in [-1, 1]: 10·log10(4 / MSE), inf if identical."""
    return 10.0 * jnp.log10(4.0 / mse(a, b))


def ssim(a: jax.Array, b: jax.Array) -> jax.Array:
    """Structural similarity [B] of images [B, H, W, C] in [-1, 1], as `METRICS["ssim"]` says.

    SSIM depends on the origin of the intensities, so this is lower than the same images' SSIM on 0 to 255; see
    `ssim01`.

    Raises:
        LsapError: the images are smaller than the window.
    """
    return structural_similarity(_clip(a), _clip(b), data_range=2.0)


def ssim01(a: jax.Array, b: jax.Array) -> jax.Array:
    """Structural similarity [B] of images [B, H, W, C] in [-1, 1] taken to [0, 1], comparable with published ones."""
    return structural_similarity(_clip(a) * 0.5 + 0.5, _clip(b) * 0.5 + 0.5, data_range=1.0)


def gaussian_window(sigma: float = 1.5, truncate: float = 3.5) -> np.ndarray:
    """1-D Gaussian weights as in scipy's gaussian_filter; 11 taps by default."""
    radius = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


class _Windowed(NamedTuple):
    """Moments of two images under every window that fits, [B, h, w, C] each."""

    mean_a: jax.Array
    mean_b: jax.Array
    variances: jax.Array  # of a plus of b
    covariance: jax.Array


def _windowed(a: jax.Array, b: jax.Array, taps: np.ndarray, correction: float = 1.0) -> _Windowed:
    """Moments under the separable window `taps`, second ones times `correction`."""
    # Covariances do not change with the origin, and around each image's middle they lose fewer digits.
    middle = 0.5 * (jnp.mean(a, (1, 2), keepdims=True) + jnp.mean(b, (1, 2), keepdims=True))
    x, y = a - middle, b - middle
    # Side by side, as one array: apart, CPUs take 5 to 8 times as long and the compiler twice.
    smooth = jnp.concatenate([x, y, x * x, y * y, x * y], axis=-1)
    for axis in (1, 2):
        length = smooth.shape[axis] - len(taps) + 1
        smooth = sum(
            (float(w) * jax.lax.slice_in_dim(smooth, i, i + length, axis=axis) for i, w in enumerate(taps)),
            jnp.zeros(()),
        )
    mx, my, xx, yy, xy = jnp.split(smooth, 5, axis=-1)
    vx, vy, vxy = (correction * v for v in (xx - mx * mx, yy - my * my, xy - mx * my))
    return _Windowed(mx + middle, my + middle, vx + vy, vxy)


def _check_window(name: str, shape: tuple[int, ...], n: int) -> None:
    if min(shape[1:3]) < n:
        raise LsapError(
            f"{name} needs images of at least {n} x {n} px, got {shape[1]} x {shape[2]}; leave this metric out"
        )


@partial(jax.jit, static_argnames=("data_range", "uniform", "k1", "k2"))
def structural_similarity(
    a: jax.Array, b: jax.Array, *, data_range: float, uniform: int | None = None, k1: float = 0.01, k2: float = 0.03
) -> jax.Array:
    """SSIM of Wang et al. (IEEE TIP 2004) as scikit-image computes it, for intensities on any scale.

    Args:
        a, b: [B, H, W, C].
        data_range: largest minus smallest possible intensity.
        uniform: side of a uniform window with sample covariance (scikit-image's default is 7); None for the paper's
            Gaussian window with population covariance.

    Returns:
        [B]: mean over the pixels whose window fits, and over channels.

    Raises:
        LsapError: the images are smaller than the window.
    """
    taps = gaussian_window() if uniform is None else np.full(uniform, 1.0 / uniform)
    n = len(taps)
    _check_window("SSIM", a.shape, n)
    ux, uy, v, vxy = _windowed(a, b, taps, 1.0 if uniform is None else n**2 / (n**2 - 1))
    c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    values = ((2 * ux * uy + c1) * (2 * vxy + c2)) / ((ux * ux + uy * uy + c1) * (v + c2))
    return jnp.mean(values, (1, 2, 3))


def ms_ssim_weights(side: int) -> tuple[float, ...]:
    """Exponents of the scales that fit images whose smaller side has so many pixels, finest first.

    All 5 as published, or fewer that sum to 1.
    """
    fitting = tuple(w for k, w in enumerate(MS_SSIM_WEIGHTS) if side > 10 * 2**k)
    return fitting if fitting == MS_SSIM_WEIGHTS else tuple(w / sum(fitting) for w in fitting)


def _halved(x: jax.Array) -> jax.Array:
    """2 x 2 averages of [B, H, W, C]; an odd last row or column is repeated first."""
    x = jnp.pad(x, [(0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)], mode="edge")
    return area(x, (x.shape[1] // 2, x.shape[2] // 2))


@jax.jit
def ms_ssim(a: jax.Array, b: jax.Array) -> jax.Array:
    """Multi-scale structural similarity [B] of images [B, H, W, C] in [-1, 1] taken to [0, 1].

    As `METRICS["ms_ssim"]` says: images of 160 px and less have fewer than the 5 scales of published tables.

    Raises:
        LsapError: the images are smaller than the window.

    References: Wang, Simoncelli and Bovik, Multiscale structural similarity for image quality assessment (Asilomar
    2003).
    """
    x, y = _clip(a) * 0.5 + 0.5, _clip(b) * 0.5 + 0.5
    taps = gaussian_window()
    _check_window("MS-SSIM", x.shape, len(taps))
    c1, c2 = 0.01**2, 0.03**2
    weights = ms_ssim_weights(min(x.shape[1:3]))
    product = jnp.ones(())
    for scale, weight in enumerate(weights):
        ux, uy, v, vxy = _windowed(x, y, taps)
        values = (2 * vxy + c2) / (v + c2)
        if scale == len(weights) - 1:
            values = values * ((2 * ux * uy + c1) / (ux * ux + uy * uy + c1))
        else:
            x, y = _halved(x), _halved(y)
        product = product * jnp.maximum(jnp.mean(values, (1, 2)), 0.0) ** weight
    return jnp.mean(product, 1)


class Metric(NamedTuple):
    """A row of `METRICS`.

    Attributes:
        value: (images, targets), both [B, H, W, C] in [-1, 1], to one value per image.
        description: what pins it down, for results.
        least: pixels a side of the smallest images that it is for.
    """

    value: Callable[[jax.Array, jax.Array], jax.Array]
    description: Mapping[str, str]
    least: int = 1


_SSIM = {
    **_COMMON,
    "formula": "Wang et al. 2004, Gaussian window 11 x 11, sigma 1.5, population covariance, K1 0.01, K2 0.03, on "
    "[-1, 1] with data range 2; mean over pixels whose window fits, then over channels",
    "reference": f"skimage.metrics.structural_similarity(a, b, data_range=2, {_REFERENCE}",
}
_SSIM01 = {
    **_COMMON,
    "formula": "as ssim, but on (x + 1) / 2 with data range 1, as in published tables (intensities from 0 to 255)",
    "reference": f"skimage.metrics.structural_similarity((a + 1) / 2, (b + 1) / 2, data_range=1, {_REFERENCE}",
}
_MS_SSIM = {
    **_COMMON,
    "formula": "Wang et al. 2003, exponents 0.0448, 0.2856, 0.3001, 0.2363, 0.1333 from fine to coarse, Gaussian "
    "window 11 x 11, sigma 1.5, K1 0.01, K2 0.03, on (x + 1) / 2 with data range 1; per scale the mean over pixels "
    "whose window fits, negative means as 0; 2 x 2 averages between scales, an odd last row or column repeated; "
    "product over scales, then mean over channels",
    "scales": "5 above 160 px a side; below, the leading ones that fit (4 above 80 px, 3 above 40, 2 above 20, 1 "
    "else) with their exponents divided by their sum: comparable among images of one size only",
    "reference": "pytorch_msssim.ms_ssim((a + 1) / 2, (b + 1) / 2, data_range=1, size_average=False), where the "
    "sides are above 160 px and divide by 16",
}

METRICS: dict[str, Metric] = {
    "mse": Metric(value=mse, description={**_COMMON, "formula": "mean over pixels and channels of (a - b)²"}),
    "psnr": Metric(
        value=psnr, description={**_COMMON, "formula": "10·log10(4 / MSE) dB, infinite for identical images"}
    ),
    "ssim": Metric(value=ssim, least=WINDOW, description=_SSIM),
    "ssim01": Metric(value=ssim01, least=WINDOW, description=_SSIM01),
    "ms_ssim": Metric(value=ms_ssim, least=WINDOW, description=_MS_SSIM),
}
