"""Arithmetic of boxes [..., 4], left, top, right, bottom in pixels, and non-maximum suppression of fixed size.

Suppression is greedy: from the highest score down, a box is kept unless it overlaps one that was kept before. Here all
boxes decide at once from what the others decided last, until nothing changes. That is the same, since the best box is
right from the start, and everyone after those who stand above it; it takes as many rounds as the longest chain of boxes
that topple each other, not one per box.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def overlap(a: jax.Array, b: jax.Array, pixel: float = 0.0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Area that boxes share, and the area of each; shapes are broadcast.

    Args:
        pixel: 1 where right and bottom are the last pixels, 0 where they are edges.
    """
    left, top = jnp.maximum(a[..., 0], b[..., 0]), jnp.maximum(a[..., 1], b[..., 1])
    right, bottom = jnp.minimum(a[..., 2], b[..., 2]), jnp.minimum(a[..., 3], b[..., 3])
    shared = jnp.maximum(right - left + pixel, 0) * jnp.maximum(bottom - top + pixel, 0)
    return shared, area(a, pixel), area(b, pixel)


def area(boxes: jax.Array, pixel: float = 0.0) -> jax.Array:
    """Area [...] of boxes; `pixel` as in `overlap`."""
    return (boxes[..., 2] - boxes[..., 0] + pixel) * (boxes[..., 3] - boxes[..., 1] + pixel)


def settled(candidates: jax.Array, toppled: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The boxes kept by greedy suppression, as a mask like `candidates`.

    Args:
        candidates: bool [...].
        toppled: from the boxes kept to those that are suppressed by them; precedence has no circles.
    """

    def again(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        kept, _ = state
        new = candidates & ~toppled(kept)
        return new, (new != kept).any()

    return jax.lax.while_loop(lambda state: state[1], again, (candidates, jnp.array(True)))[0]


def suppressed(boxes: jax.Array, candidates: jax.Array, threshold: float, least: bool = False) -> jax.Array:
    """Mask [B, K] of the candidates that greedy suppression keeps.

    Args:
        boxes: [B, K, 4], by falling score.
        candidates: bool [B, K]; the others neither suppress nor are kept.
        threshold: a box goes where it shares more than this of the union with one above it.
        least: of the smaller of the two instead, whose pixels are counted with right and bottom included: removes boxes
            inside others.
    """
    shared, a, b = overlap(boxes[:, :, None], boxes[:, None], 1.0 if least else 0.0)
    whole = jnp.minimum(a, b) if least else a + b - shared
    above = jnp.tril(jnp.ones(boxes.shape[1:2] * 2, bool), -1)  # [box, one above it]
    topples = (shared / whole > threshold) & above[None]  # 0 / 0, of empty boxes, is not
    return settled(candidates, lambda kept: (topples & kept[:, None]).any(axis=2))


def corrected(boxes: jax.Array, correction: jax.Array, pixel: float) -> jax.Array:
    """Boxes moved by a network's correction, in units of their sides; `pixel` as in `overlap`."""
    sides = boxes[..., 2:] - boxes[..., :2] + pixel
    return boxes + correction * jnp.concatenate([sides, sides], axis=-1)


def squared(boxes: jax.Array) -> jax.Array:
    """Boxes as squares of their longer side around the same centre."""
    sides = boxes[..., 2:] - boxes[..., :2]
    longer = sides.max(axis=-1, keepdims=True)
    corner = boxes[..., :2] + sides * 0.5 - longer * 0.5
    return jnp.concatenate([corner, corner + longer], axis=-1)
