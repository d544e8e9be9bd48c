"""How far a reconstruction is from its target in pixels: MSE, PSNR, SSIM, one value per image.

`mse`, `psnr` and `ssim` take float images in [-1, 1], clip them, and do not quantise. `DESCRIPTIONS` pins each of them
for results.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.networks.reduction import average

_COMMON = {"range": "[-1, 1], clipped", "resolution": "the generator's", "quantisation": "none"}

_REFERENCE = "gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1)"

DESCRIPTIONS: dict[str, dict[str, str]] = {
    "mse": {**_COMMON, "formula": "mean over pixels and channels of (a - b)²"},
    "psnr": {**_COMMON, "formula": "10·log10(4 / MSE) dB, infinite for identical images"},
    "ssim": {
        **_COMMON,
        "formula": "Wang et al. 2004, Gaussian window 11 x 11, sigma 1.5, population covariance, K1 0.01, K2 0.03, on "
        "[-1, 1] with data range 2; mean over pixels whose window fits, then over channels",
        "reference": f"skimage.metrics.structural_similarity(a, b, data_range=2, {_REFERENCE}",
    },
    "ssim01": {
        **_COMMON,
        "formula": "as ssim, but on (x + 1) / 2 with data range 1, as in published tables (intensities from 0 to 255)",
        "reference": f"skimage.metrics.structural_similarity((a + 1) / 2, (b + 1) / 2, data_range=1, {_REFERENCE}",
    },
}


def _clip(images: jax.Array) -> jax.Array:
    return jnp.clip(jnp.asarray(images, jnp.float32), -1.0, 1.0)


def mse(a: jax.Array, b: jax.Array) -> jax.Array:
    """Mean squared error [B] of images [B, H, W, C] in [-1, 1]."""
    return average(jnp.square(_clip(a) - _clip(b)), (1, 2, 3))


def psnr(a: jax.Array, b: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio [B] in dB of images [B, H, W, C] in [-1, 1]: 10·log10(4 / MSE), inf if identical."""
    return 10.0 * jnp.log10(4.0 / mse(a, b))


def ssim(a: jax.Array, b: jax.Array) -> jax.Array:
    """Structural similarity [B] of images [B, H, W, C] in [-1, 1], as `DESCRIPTIONS["ssim"]` says.

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
    """1-D Gaussian weights as scipy's gaussian_filter has them; 11 taps by default."""
    radius = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return weights / weights.sum()


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
    if min(a.shape[1:3]) < n:
        raise LsapError(
            f"SSIM needs images of at least {n} x {n} px, got {a.shape[1]} x {a.shape[2]}; leave this metric out"
        )
    correction = 1.0 if uniform is None else n**2 / (n**2 - 1)

    def smooth(x: jax.Array) -> jax.Array:
        for axis in (1, 2):
            length = x.shape[axis] - n + 1
            x = sum(
                (float(w) * jax.lax.slice_in_dim(x, i, i + length, axis=axis) for i, w in enumerate(taps)),
                jnp.zeros(()),
            )
        return x

    # Covariances do not change with the origin, and around each image's middle they lose fewer digits.
    middle = 0.5 * (average(a, (1, 2), keepdims=True) + average(b, (1, 2), keepdims=True))
    x, y = a - middle, b - middle
    mx, my = smooth(x), smooth(y)
    vx = correction * (smooth(x * x) - mx * mx)
    vy = correction * (smooth(y * y) - my * my)
    vxy = correction * (smooth(x * y) - mx * my)
    ux, uy = mx + middle, my + middle
    c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    values = ((2 * ux * uy + c1) * (2 * vxy + c2)) / ((ux * ux + uy * uy + c1) * (vx + vy + c2))
    return average(values, (1, 2, 3))
