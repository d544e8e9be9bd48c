"""All levels of an image's pyramid side by side on one sheet, so that P-Net looks at them in one go.

Levels lie on shelves from left to right, the finest two on the first one; they begin at even pixels, where P-Net's
pooling begins too. A cell of P-Net sees 12 pixels, so cells of different levels are more than three cells apart.
Everything here depends on the size of a canvas and on the search alone and is made once for each.
"""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lsap_jax.networks.mtcnn import STRIDE, WINDOW, cells

SHARE = 0.5  # of the union of two boxes of one level, from which the lower score goes
_REACH = 3  # cells


class Search(NamedTuple):
    """What is looked for.

    Attributes:
        min_face: side of the smallest face, in pixels.
        thresholds: of the probabilities of P-, R- and O-Net.
        factor: from one level of the pyramid to the next.
    """

    min_face: float = 20.0
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    factor: float = 0.709


class Atlas(struct.PyTreeNode, kw_only=True):
    """The sheet of a canvas, of H x W pixels and h x w cells.

    Attributes:
        level: int32 [H, W], the level that a pixel belongs to, or the number of levels where it belongs to none.
        row, column: int32 [H, W], its place in its level.
        boxes: float32 [h, w, 4], the pixels of the canvas that a cell is about.
        near: bool [n, h, w], whether a cell shares more than `SHARE` with the cell `steps[n]` away.
        steps: (rows, columns) away.
    """

    level: jax.Array
    row: jax.Array
    column: jax.Array
    boxes: jax.Array
    near: jax.Array
    steps: tuple[tuple[int, int], ...] = struct.field(pytree_node=False)


def pyramid(height: int, width: int, search: Search) -> list[tuple[float, tuple[int, int]]]:
    """(scale, (height, width)) of every level, from fine to coarse; none for images smaller than the smallest face."""
    scale, levels = WINDOW / search.min_face, []
    least = min(height, width) * scale
    while least >= WINDOW:
        levels.append((scale, (int(height * scale + 1), int(width * scale + 1))))
        scale, least = scale * search.factor, least * search.factor
    return levels


def level_sizes(sizes: np.ndarray, levels: int, search: Search) -> np.ndarray:
    """int32 [B, levels + 1, 2]: height and width of every level of images of these sizes [B, 2]; 0 for a missing level
    and for the last one.
    """
    found = np.zeros((len(sizes), levels + 1, 2), np.int32)
    for image, (height, width) in enumerate(sizes):
        for level, (_, size) in enumerate(pyramid(int(height), int(width), search)):
            found[image, level] = size
    return found


@cache
def atlas(height: int, width: int, search: Search) -> Atlas:
    """The sheet of a canvas that has at least one level."""
    levels = pyramid(height, width, search)
    places, (rows, columns) = _shelves([size for _, size in levels])
    level = np.full((rows, columns), len(levels), np.int32)
    row, column = np.zeros_like(level), np.zeros_like(level)
    boxes = np.full((cells(rows), cells(columns), 4), -1, np.float32)
    for number, ((scale, (h, w)), (y, x)) in enumerate(zip(levels, places, strict=True)):
        there = np.s_[y : y + h, x : x + w]
        level[there] = number
        row[there], column[there] = np.mgrid[:h, :w]
        inside = np.s_[y // STRIDE : y // STRIDE + cells(h), x // STRIDE : x // STRIDE + cells(w)]
        boxes[inside] = _cell_boxes(cells(h), cells(w), scale)
    steps, near = _neighbours(boxes)
    arrays = {"level": level, "row": row, "column": column, "boxes": boxes, "near": near}
    return Atlas(steps=steps, **{name: jnp.asarray(a) for name, a in arrays.items()})


def _shelves(sizes: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """(y, x) of every level, and the size of the sheet; all even."""
    even = [(h + h % STRIDE, w + w % STRIDE) for h, w in sizes]
    most = sum(w for _, w in even[:2])
    places, y, x, shelf = [], 0, 0, even[0][0]
    for h, w in even:
        if x + w > most:
            y, x, shelf = y + shelf, 0, h
        places.append((y, x))
        x += w
    return places, (y + shelf, most)


def _cell_boxes(h: int, w: int, scale: float) -> np.ndarray:
    """float32 [h, w, 4]: boxes of a level's cells, rounded down as the original rounds them, in its precision."""
    edges = []
    for count in (w, h):
        place = STRIDE * np.arange(count, dtype=np.float32)
        edges += [np.floor((place + np.float32(k)) / np.float32(scale)) for k in (1, WINDOW)]
    left, right, top, bottom = edges
    parts: list[Any] = [left[None], top[:, None], right[None], bottom[:, None]]
    return np.stack(np.broadcast_arrays(*parts), axis=-1)


def _neighbours(boxes: np.ndarray) -> tuple[tuple[tuple[int, int], ...], np.ndarray]:
    """Steps to cells that may share more than `SHARE`, and which cells do: bool [n, h, w]."""
    r = _REACH
    padded = np.pad(boxes, ((r, r), (r, r), (0, 0)), constant_values=-1)
    steps, near = [], []
    h, w = boxes.shape[:2]
    sides = boxes[..., 2:] - boxes[..., :2]
    for dy in range(-r, r + 1):
        for dx in range(-r, r + 1):
            other = padded[r + dy : r + dy + h, r + dx : r + dx + w]
            common = np.minimum(boxes[..., 2:], other[..., 2:]) - np.maximum(boxes[..., :2], other[..., :2])
            shared = np.maximum(common, 0).prod(axis=-1)
            whole = sides.prod(axis=-1) + (other[..., 2:] - other[..., :2]).prod(axis=-1) - shared
            close = shared > SHARE * whole
            if (dy, dx) != (0, 0) and close.any():
                steps.append((dy, dx))
                near.append(close)
    return tuple(steps), np.stack(near) if near else np.zeros((0, h, w), bool)
