"""Resizing by area from a summed-area table: one table of an image serves every level of the pyramid and every crop.

A pixel of the result is the mean over the source's pixels that it touches, torch's `interpolate(mode="area")`: along an
axis of n pixels, pixel i of m covers those from floor(i n / m) up to ceil((i + 1) n / m). Sums are integers, hence
exact.

Reference: Crow, Summed-Area Tables for Texture Mapping (SIGGRAPH 1984).
"""

import jax
import jax.numpy as jnp


def summed(levels: jax.Array) -> jax.Array:
    """Table [B, H + 1, W + 1, C] of the sums over everything above and left of a corner, of grey levels [B, H, W, C].

    int32 wraps around in large images; differences of its entries are right all the same, as long as an area's own sum
    fits.
    """
    sums = jnp.cumsum(jnp.cumsum(levels.astype(jnp.int32), axis=1), axis=2)
    return jnp.pad(sums, ((0, 0), (1, 0), (1, 0), (0, 0)))


def covered(i: jax.Array, count: jax.Array, length: jax.Array) -> tuple[jax.Array, jax.Array]:
    """First source pixel of pixel i, and that after its last one, where `count` pixels are made of `length`; int32."""
    return i * length // count, -(-(i + 1) * length // count)


def means(table: jax.Array, rows: tuple[jax.Array, jax.Array], columns: tuple[jax.Array, jax.Array]) -> jax.Array:
    """float32 [..., C]: mean grey levels of areas of one image.

    Args:
        table: [H + 1, W + 1, C] of `summed`.
        rows, columns: int32 (first, that after the last), which broadcast to [...]; an empty area gives 0.
    """
    (top, bottom), (left, right) = rows, columns
    sums = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
    pixels = jnp.maximum((bottom - top) * (right - left), 1)
    return sums.astype(jnp.float32) / pixels.astype(jnp.float32)[..., None]


def crops(table: jax.Array, edges: jax.Array, side: int) -> jax.Array:
    """Parts of images as float32 [B, K, side, side, C].

    Args:
        table: [B, H + 1, W + 1, C] of `summed`.
        edges: int32 [B, K, 4], left, top, right, bottom: between pixels, 0 to W or H, right and bottom not less.
    """
    i = jnp.arange(side, dtype=jnp.int32)

    def one(table: jax.Array, edges: jax.Array) -> jax.Array:
        left, top, right, bottom = edges
        rows = [(top + edge)[:, None] for edge in covered(i, jnp.int32(side), bottom - top)]
        columns = [(left + edge)[None, :] for edge in covered(i, jnp.int32(side), right - left)]
        return means(table, (rows[0], rows[1]), (columns[0], columns[1]))

    return jax.vmap(jax.vmap(one, (None, 0)))(table, edges)
