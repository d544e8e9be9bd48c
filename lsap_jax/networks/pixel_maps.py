"""Maps over pixels: torch's bicubic and bilinear resizing, exact box averages, and means under a mask.

Resizing is separable and linear; its weights are numpy constants of the shapes. Nothing here gathers, so gradients are
free of scatters and the same on every run.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.view import square, viewed

_A = -0.75  # torch's cubic coefficient; Catmull-Rom (jax.image) has -0.5


def _cubic_taps(t: np.ndarray) -> np.ndarray:
    """Keys' kernel at distances 1 + t, t, 1 - t, 2 - t, for t [...] in [0, 1): weights [..., 4]."""

    def near(d: np.ndarray) -> np.ndarray:
        return ((_A + 2) * d - (_A + 3)) * d * d + 1

    def far(d: np.ndarray) -> np.ndarray:
        return ((d - 5) * d + 8) * d * _A - 4 * _A

    return np.stack([far(1 + t), near(t), near(1 - t), far(2 - t)], axis=-1)


def cubic_matrix(source: int, size: int) -> np.ndarray:
    """Weights [size, source] of torch's 1-D bicubic: half-pixel centres, edges clamped, no antialiasing."""
    # torch computes positions in float32; in float64, uneven ratios would differ in the sixth digit.
    position = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(source / size) - np.float32(0.5)
    base = np.floor(position).astype(int)
    taps = _cubic_taps(position - base)
    matrix = np.zeros((size, source))
    for k in range(4):
        np.add.at(matrix, (np.arange(size), np.clip(base + k - 1, 0, source - 1)), taps[:, k])
    return matrix


def area_matrix(source: int, size: int) -> np.ndarray:
    """Weights [size, source] of 1-D averages over output cells, partly covered samples by their share."""
    edges = np.arange(size + 1) * (source / size)
    samples = np.arange(source)
    overlap = np.minimum(edges[1:, None], samples + 1) - np.maximum(edges[:-1, None], samples)
    return np.maximum(overlap, 0) * (size / source)


def _apply(x: jax.Array, matrix: np.ndarray, axis: int) -> jax.Array:
    weights = jnp.asarray(matrix, x.dtype)
    formula = "oh,bhwc->bowc" if axis == 1 else "ow,bhwc->bhoc"
    return jnp.einsum(formula, weights, x, precision=FULL)


def _cubic_stride(x: jax.Array, factor: int, axis: int) -> jax.Array:
    """`cubic_matrix` for an integer factor of reduction: all outputs have the same taps, so four slices do."""
    if factor % 2:
        return jax.lax.slice_in_dim(
            x, factor // 2, None, stride=factor, axis=axis
        )  # lands on samples: one tap of weight 1
    count = x.shape[axis] // factor
    first = factor // 2 - 2  # the leftmost tap; -1 for a factor of 2, where one sample is repeated at each edge
    if first < 0:
        x = jnp.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(4)], mode="edge")
        first += 1
    total: jax.Array | float = 0.0
    for k, weight in enumerate(_cubic_taps(np.asarray(0.5))):
        start = first + k
        total = total + float(weight) * jax.lax.slice_in_dim(
            x, start, start + factor * (count - 1) + 1, stride=factor, axis=axis
        )
    return jnp.asarray(total)


def bicubic(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Resize as `torch.nn.functional.interpolate(mode="bicubic", align_corners=False, antialias=False)`.

    This is how the F/Z+ and BDInvert authors bring a reconstruction to LPIPS' resolution; it aliases, and it overshoots
    the input's range.

    Args:
        images: [B, H, W, C] float, any range.
        size: (height, width).

    Returns:
        [B, height, width, C].
    """
    for axis, target in zip((1, 2), size, strict=True):
        source = images.shape[axis]
        if source == target:
            continue
        if source % target == 0:
            images = _cubic_stride(images, source // target, axis)
        else:
            images = _apply(images, cubic_matrix(source, target), axis)
    return images


def bilinear_matrix(source: int, size: int) -> np.ndarray:
    """Weights [size, source] of torch's 1-D bilinear: half-pixel centres, edges clamped, no antialiasing."""
    # torch computes positions in float32; in float64, uneven ratios would differ in the sixth digit.
    position = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(source / size) - np.float32(0.5)
    position = np.maximum(position, 0)
    base = np.minimum(position.astype(int), source - 1)
    share = position - base
    matrix = np.zeros((size, source))
    np.add.at(matrix, (np.arange(size), base), 1 - share)
    np.add.at(matrix, (np.arange(size), np.minimum(base + 1, source - 1)), share)
    return matrix


def bilinear(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """`torch.nn.functional.interpolate(mode="bilinear", align_corners=False)` of [B, H, W, C], which aliases.

    Args:
        size: (height, width).
    """
    for axis, target in zip((1, 2), size, strict=True):
        if images.shape[axis] != target:
            images = _apply(images, bilinear_matrix(images.shape[axis], target), axis)
    return images


def area(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Box average of [B, H, W, C] to `size` (height, width); as torch's mode="area" where the factors are integers."""
    for axis, target in zip((1, 2), size, strict=True):
        source = images.shape[axis]
        if source == target:
            continue
        if source % target == 0:
            shape = images.shape
            images = images.reshape(*shape[:axis], target, source // target, *shape[axis + 1 :])
            images = jnp.mean(images, axis + 1)
        else:
            images = _apply(images, area_matrix(source, target), axis)
    return images


def lanczos(images: jax.Array, size: int) -> jax.Array:
    """Images [B, R, R, C] as [B, size, size, C] by the antialiased Lanczos filter of three lobes.

    BDInvert's code resizes with Pillow, through uint8; this differs from it by the rounding, and stays differentiable.
    """
    return viewed(images, square(size))


def weighted_mean(values: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Mean per image [B] of a map [B, h, w], weighted by a mask of the same shape in [0, 1]; 0 for an empty mask."""
    if mask is None:
        return jnp.mean(values, (1, 2))
    weight = jnp.sum(mask, (1, 2))
    return jnp.sum(values * mask, (1, 2)) / jnp.where(weight > 0, weight, 1.0)
