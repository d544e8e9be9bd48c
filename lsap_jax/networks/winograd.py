"""3x3 convolutions by Winograd's F(4x4, 3x3): 36 products per 16 samples instead of 144 (Lavin and Gray, CVPR 2016).

For CPUs, where wide layers are bound by products: about twice as fast from 256 channels on, slower below 128. Rounding
errors are some 1e-5 of the largest value in float32.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.networks.arithmetic import FULL, precision

TILE = 4  # outputs per side; a tile reads TILE + 2 inputs per side
SIDE = TILE + 2
MIN_SIDE = 2 * TILE  # of features: at a single tile products have one row per image

_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float64,
)
_WEIGHT = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float64) / 24
_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float64)


def paying_channels(devices: Sequence[jax.Device]) -> int:
    """Least channels, in and out, of the convolutions that take this form in steps on these devices; 0 is none."""
    return 256 if devices[0].platform == "cpu" else 0


def transform_weight(weight: jax.Array) -> jax.Array:
    """weight [3, 3, Cin, Cout] as `conv3x3` takes it: [36, Cout, Cin]."""
    matrix = np.einsum("ai,bj->baij", _WEIGHT, _WEIGHT).reshape(SIDE * SIDE, 9)
    taps = weight.reshape(9, *weight.shape[2:]).swapaxes(1, 2)  # here, as the result is four times as large
    return jnp.tensordot(jnp.asarray(matrix, weight.dtype), taps, axes=1, precision=FULL)


@jax.jit  # its sums of tiles are many operations: layers of one shape share a trace
def conv3x3(x: jax.Array, transformed: jax.Array) -> jax.Array:
    """Cross-correlation of x [B, H, W, Cin] with a transformed weight, zero-padded by 1: [B, H, W, Cout]."""
    batch, height, width, channels = x.shape
    down, across = -(-height // TILE), -(-width // TILE)
    edges = [(0, 0), (1, 1 + down * TILE - height), (1, 1 + across * TILE - width), (0, 0)]
    tiles = _tiles(jnp.pad(x, edges), down, across).reshape(SIDE * SIDE, batch * down * across, channels)
    products = jax.lax.dot_general(tiles, transformed, (((2,), (2,)), ((0,), (0,))), precision=precision())
    y = _assemble(products.reshape(SIDE, SIDE, batch, down, across, -1))
    return y[:, :height, :width]


def _tiles(x: jax.Array, down: int, across: int) -> jax.Array:
    """Transformed tiles of a padded x: [6 (columns), 6 (rows), B, down, across, C]."""
    rows = [x[:, i : i + TILE * (down - 1) + 1 : TILE] for i in range(SIDE)]
    # The barriers keep the compiler from computing the first of two passes anew for every result of the second.
    half = jax.lax.optimization_barrier(jnp.stack(_combine(_INPUT, rows)))
    columns = [half[:, :, :, j : j + TILE * (across - 1) + 1 : TILE] for j in range(SIDE)]
    return jnp.stack(_combine(_INPUT, columns))


def _assemble(m: jax.Array) -> jax.Array:
    """Images [B, 4 · down, 4 · across, C] of the products [6 (columns), 6 (rows), B, down, across, C]."""
    _, _, batch, down, across, channels = m.shape
    half = jax.lax.optimization_barrier(jnp.stack(_combine(_OUTPUT, list(m)), axis=4))
    y = jnp.stack(_combine(_OUTPUT, list(half)), axis=2)
    return y.reshape(batch, TILE * down, TILE * across, channels)


def _combine(matrix: np.ndarray, terms: list[jax.Array]) -> list[jax.Array]:
    """Rows of the matrix times the terms; zeros cost nothing."""
    return [sum(_times(c, t) for c, t in zip(row, terms, strict=True) if c) for row in matrix]  # type: ignore[misc]


def _times(factor: float, x: jax.Array) -> jax.Array:
    return x if factor == 1 else x * jnp.asarray(factor, x.dtype)
