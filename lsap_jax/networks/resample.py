"""FIR resampling (NVIDIA's `upfirdn2d` family) as shifted, strided adds.

A 2-D filter is a short sum of separable ones (its singular value decomposition; one term for the usual [1, 3, 3, 1]), and a separable filter
is a few shifted adds per axis, done per output phase so that inserted zeros are never multiplied. On CPUs this is up to 1.7 times as fast as a
depthwise convolution; XLA fuses it on accelerators.

All arrays are [B, H, W, C]. Filters are static: numpy arrays, 1-D (separable taps) or 2-D, summing to 1 unless stated.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

Factor = int | tuple[int, int]  # of both axes, or (x, y)
Padding = tuple[int, int, int, int]  # left (x0), right (x1), top (y0), bottom (y1); negative crops


def setup_filter(taps: Sequence, normalize: bool = True, gain: float = 1.0, flip: bool = False) -> np.ndarray:
    """Filter from taps as `upfirdn2d.setup_filter` makes it, but always kept in the given number of dimensions.

    Args:
        taps: 1-D taps of a separable filter or a 2-D filter.
        normalize: scale to sum 1.
        gain: magnitude of the 2-D filter (its square root goes into each 1-D pass).
        flip: reverse the filter.
    """
    f = np.asarray(taps, np.float64)
    if f.ndim not in (1, 2):
        raise ValueError(f"a resampling filter has one or two dimensions, not {f.ndim}")
    if normalize:
        f = f / f.sum()
    f = f * gain ** (f.ndim / 2)
    return f[(slice(None, None, -1),) * f.ndim] if flip else f


def separable_terms(f: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(row taps, column taps) pairs whose outer products sum to the 2-D filter `f`; a 1-D `f` is its own pair."""
    f = np.asarray(f, np.float64)
    if f.ndim == 1:
        return [(f, f)]
    u, s, vt = np.linalg.svd(f)
    rank = int((s > 1e-7 * s[0]).sum())
    return [(u[:, k] * math.sqrt(s[k]), vt[k] * math.sqrt(s[k])) for k in range(rank)]


def _filter_axis(x: jax.Array, taps: np.ndarray, up: int, down: int, pad: tuple[int, int], axis: int) -> jax.Array:
    """Zero-stuff by `up`, pad, convolve with `taps` and keep every `down`-th sample, along one axis."""
    n, k = x.shape[axis], len(taps)
    length = (n * up + pad[0] + pad[1] - k) // down + 1
    if length < 1:
        raise ValueError(f"a filter of {k} taps does not fit {n} samples with padding {pad}")
    phases = up // math.gcd(up, down)  # output samples p, p + phases, ... see the same taps
    outputs = []
    for phase in range(phases):
        count = -(-(length - phase) // phases)
        total = None
        for t in range(k):
            # Output sample j reads the stuffed sample j * down + t - pad[0]; true convolution reverses the taps.
            position = phase * down + t - pad[0]
            if position % up or taps[k - 1 - t] == 0:
                continue
            start, stride = position // up, phases * down // up
            term = _strided(x, start, stride, count, axis) * np.float32(taps[k - 1 - t]).astype(x.dtype)
            total = term if total is None else total + term
        shape = list(x.shape)
        shape[axis] = count
        outputs.append(jnp.zeros(shape, x.dtype) if total is None else total)
    if phases == 1:
        return outputs[0]
    longest = outputs[0].shape[axis]
    outputs = [_strided(o, 0, 1, longest, axis) for o in outputs]
    merged = jnp.stack(outputs, axis + 1)
    shape = list(x.shape)
    shape[axis] = longest * phases
    return jax.lax.slice_in_dim(merged.reshape(shape), 0, length, axis=axis)


def _strided(x: jax.Array, start: int, stride: int, count: int, axis: int) -> jax.Array:
    """x[start], x[start + stride], ... (count samples) along `axis`; samples outside are 0."""
    n = x.shape[axis]
    last = start + (count - 1) * stride
    low, high = max(0, -start), max(0, last - (n - 1))
    if low or high:
        config = [(0, 0, 0)] * x.ndim
        config[axis] = (low, high, 0)
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), config)
    return jax.lax.slice_in_dim(x, start + low, last + low + 1, stride=stride, axis=axis)


def upfirdn2d(
    x: jax.Array,
    f: np.ndarray,
    *,
    up: Factor = 1,
    down: Factor = 1,
    padding: Padding = (0, 0, 0, 0),
    gain: float = 1.0,
    flip_filter: bool = False,
) -> jax.Array:
    """Upsample with zeros, pad or crop, filter (true convolution), downsample.

    Args:
        x: [B, H, W, C].
        f: static filter, 1-D or 2-D.
        up, down: integer factors of both axes, or (x, y). Every sample is followed by up - 1 zeros, the last one included.
        padding: (x0, x1, y0, y1), counted after upsampling; negative values crop.
        gain: magnitude of the result.
        flip_filter: correlate instead of convolve.

    Returns:
        [B, (H·up + y0 + y1 - fh) // down + 1, (W·up + x0 + x1 - fw) // down + 1, C].
    """
    x0, x1, y0, y1 = padding
    (up_x, up_y), (down_x, down_y) = _pair(up), _pair(down)
    total = None
    for rows, columns in separable_terms(f):
        if flip_filter:
            rows, columns = rows[::-1], columns[::-1]
        root = math.sqrt(gain)
        y = _filter_axis(x, rows * root, up_y, down_y, (y0, y1), 1)
        y = _filter_axis(y, columns * root, up_x, down_x, (x0, x1), 2)
        total = y if total is None else total + y
    assert total is not None
    return total


def _pair(factor: Factor) -> tuple[int, int]:
    return (factor, factor) if isinstance(factor, int) else factor


def filter_size(f: np.ndarray) -> tuple[int, int]:
    """(width, height) of a filter in taps."""
    return f.shape[-1], f.shape[0]


def upsample2d(x: jax.Array, f: np.ndarray, up: int = 2, *, flip_filter: bool = False, gain: float = 1.0) -> jax.Array:
    """Upsample [B, H, W, C] by `up`, keeping the brightness (gain up²)."""
    fw, fh = filter_size(f)
    padding = ((fw + up - 1) // 2, (fw - up) // 2, (fh + up - 1) // 2, (fh - up) // 2)
    return upfirdn2d(x, f, up=up, padding=padding, gain=gain * up * up, flip_filter=flip_filter)


def downsample2d(
    x: jax.Array, f: np.ndarray, down: int = 2, *, flip_filter: bool = False, gain: float = 1.0
) -> jax.Array:
    """Downsample [B, H, W, C] by `down`."""
    fw, fh = filter_size(f)
    padding = ((fw - down + 1) // 2, (fw - down) // 2, (fh - down + 1) // 2, (fh - down) // 2)
    return upfirdn2d(x, f, down=down, padding=padding, gain=gain, flip_filter=flip_filter)


def filter2d(x: jax.Array, f: np.ndarray, *, flip_filter: bool = False, gain: float = 1.0) -> jax.Array:
    """Filter [B, H, W, C] at its own size."""
    fw, fh = filter_size(f)
    return upfirdn2d(x, f, padding=(fw // 2, (fw - 1) // 2, fh // 2, (fh - 1) // 2), gain=gain, flip_filter=flip_filter)


def conv2d_resample(
    x: jax.Array,
    w: jax.Array,
    f: np.ndarray | None = None,
    *,
    up: int = 1,
    down: int = 1,
    padding: int | Padding = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
) -> jax.Array:
    """Convolution with optional up- or downsampling around it, in the cheapest equivalent order.

    Args:
        x: [B, H, W, Cin].
        w: [kh, kw, Cin / groups, Cout].
        f: static filter; None is the identity.
        up, down: integer factors; at most one of them above 1 in StyleGAN2, both are allowed.
        padding: of the convolution, counted at the upsampled resolution; one number or (x0, x1, y0, y1).
        flip_weight: correlate (as frameworks do); False is a true convolution.
    """
    f = np.ones((1, 1)) if f is None else np.asarray(f)
    fw, fh = filter_size(f)
    kh, kw = w.shape[:2]
    px0, px1, py0, py1 = (padding,) * 4 if isinstance(padding, int) else padding
    if up > 1:
        px0, px1 = px0 + (fw + up - 1) // 2, px1 + (fw - up) // 2
        py0, py1 = py0 + (fh + up - 1) // 2, py1 + (fh - up) // 2
    if down > 1:
        px0, px1 = px0 + (fw - down + 1) // 2, px1 + (fw - down) // 2
        py0, py1 = py0 + (fh - down + 1) // 2, py1 + (fh - down) // 2
    if up == down == 1:  # without resampling the filter is not applied
        f = np.ones((1, 1))
    if kh == kw == 1 and up == 1:  # pointwise: filter first, where there are fewer samples left to convolve
        if down > 1:
            x = upfirdn2d(x, f, down=down, padding=(px0, px1, py0, py1), flip_filter=flip_filter)
        return conv2d(x, w, groups=groups, flip_weight=flip_weight)
    if kh == kw == 1 and down == 1:
        x = conv2d(x, w, groups=groups, flip_weight=flip_weight)
        return upfirdn2d(x, f, up=up, padding=(px0, px1, py0, py1), gain=up * up, flip_filter=flip_filter)
    if up > 1:  # the kernel over stuffed zeros, its full support; then the filter
        x = conv2d(x, w, up=up, padding=(kh - 1, kw - 1), groups=groups, flip_weight=flip_weight)
        # The stuffed signal ends at its last sample here, so the filter's padding replaces the up - 1 zeros that would follow it.
        inner = (px0 - (kw - 1), px1 - (kw - up), py0 - (kh - 1), py1 - (kh - up))
        x = upfirdn2d(x, f, padding=inner, gain=up * up, flip_filter=flip_filter)
        return x if down == 1 else upfirdn2d(x, f, down=down, flip_filter=flip_filter)
    if down > 1:
        x = upfirdn2d(x, f, padding=(px0, px1, py0, py1), flip_filter=flip_filter)
        return conv2d(x, w, stride=down, groups=groups, flip_weight=flip_weight)
    if f.size == 1 and px0 == px1 >= 0 and py0 == py1 >= 0:
        return conv2d(x, w, padding=(py0, px0), groups=groups, flip_weight=flip_weight)
    x = upfirdn2d(x, f, padding=(px0, px1, py0, py1), flip_filter=flip_filter)
    return conv2d(x, w, groups=groups, flip_weight=flip_weight)


def conv2d(
    x: jax.Array,
    w: jax.Array,
    *,
    stride: int = 1,
    up: int = 1,
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
    flip_weight: bool = True,
) -> jax.Array:
    """Plain convolution, [B, H, W, Cin] with [kh, kw, Cin / groups, Cout]; `up` stuffs zeros between samples."""
    if not flip_weight:
        w = w[::-1, ::-1]
    return jax.lax.conv_general_dilated(
        x,
        w.astype(x.dtype),
        (stride, stride),
        [(padding[0],) * 2, (padding[1],) * 2],
        lhs_dilation=(up, up),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
