"""MTCNN's cascade of three networks on a batch of images, as one program of fixed shapes.

Images of different sizes lie in the upper left corners of one canvas, and their sizes go in beside them: the program
depends on the canvas alone. Numbers that the original lets grow are bounded here: `CANDIDATES` of P-Net and `SURVIVORS`
of R-Net per image, those of the highest scores. The networks run on chunks of them, as many as the fullest image needs.
An image's faces do not depend on what is beside it.

Reference: Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks (IEEE
Signal Processing Letters 2016), in the order of facenet-pytorch 2.6.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lsap_jax.faces.area import covered, crops, means, summed
from lsap_jax.faces.atlas import Atlas, Search
from lsap_jax.faces.boxes import corrected, settled, squared, suppressed
from lsap_jax.networks.mtcnn import FINAL, LANDMARKS, REFINED, STRIDE, ONet, PNet, RNet, cells, normalised

CANDIDATES, CANDIDATES_CHUNK = 2048, 64
SURVIVORS, SURVIVORS_CHUNK = 1024, 8
WITHIN_IMAGE = 0.7  # share of overlap from which the lower score goes


Network = Callable[..., Any]  # a module of `lsap_jax.networks.mtcnn` with its params


class Found(NamedTuple):
    """What the cascade returns for a batch.

    Attributes:
        boxes: [B, K, 4], left, top, right, bottom.
        scores: [B, K], O-Net's probabilities.
        landmarks: [B, K, 5, 2], x and y.
        faces: bool [B, K], which of them are faces.
        counts: int32 [B, 2], how many candidates P-Net and R-Net had; only those of the highest scores up to the bounds
            went on.
    """

    boxes: jax.Array
    scores: jax.Array
    landmarks: jax.Array
    faces: jax.Array
    counts: jax.Array


@partial(jax.jit, static_argnames="search")
def cascade(
    params: Mapping[str, Any], sheet: Atlas, images: jax.Array, sizes: jax.Array, levels: jax.Array, search: Search
) -> Found:
    """Faces of a batch.

    Args:
        params: of the detector, as `registry.KINDS["mtcnn"]` shapes them.
        sheet: `atlas` of the canvas and the search.
        images: uint8 [B, H, W, 3], each in the upper left corner of the canvas.
        sizes: int32 [B, 2], height and width of each.
        levels: int32 [B, L + 1, 2] of `level_sizes`, L the levels of the canvas.
        search: what is looked for.
    """
    table = summed(images)
    boxes, scores, first = _proposed(params["pnet"], sheet, table, sizes, levels, search.thresholds[0])
    order = jnp.argsort(scores <= 0, axis=1, stable=True)  # those that are left, still by falling score
    boxes = jnp.take_along_axis(boxes, order[..., None], axis=1)
    candidates = jnp.take_along_axis(scores, order, axis=1) > 0

    refine = partial(RNet().apply, {"params": params["rnet"]})
    correction, probability = _on_crops(refine, (4, 2), REFINED, CANDIDATES_CHUNK, table, sizes, boxes, candidates)
    scores = jnp.where(candidates & _inside(boxes, sizes), probability[..., 1], 0.0)
    scores = jnp.where(scores > search.thresholds[1], scores, 0.0)
    second = (scores > 0).sum(axis=1)
    scores, order = jax.lax.top_k(scores, SURVIVORS)
    boxes, correction = (jnp.take_along_axis(a, order[..., None], axis=1) for a in (boxes, correction))
    kept = suppressed(boxes, scores > 0, WITHIN_IMAGE)
    boxes = squared(corrected(boxes, correction, 1.0))
    order = jnp.argsort(~kept, axis=1, stable=True)
    boxes = jnp.take_along_axis(boxes, order[..., None], axis=1)
    candidates = jnp.take_along_axis(kept, order, axis=1)

    finish = partial(ONet().apply, {"params": params["onet"]})
    widths = (4, 2 * LANDMARKS, 2)
    correction, points, probability = _on_crops(finish, widths, FINAL, SURVIVORS_CHUNK, table, sizes, boxes, candidates)
    scores = jnp.where(candidates & _inside(boxes, sizes), probability[..., 1], 0.0)
    scores = jnp.where(scores > search.thresholds[2], scores, 0.0)
    scores, order = jax.lax.top_k(scores, SURVIVORS)
    boxes, correction, points = (jnp.take_along_axis(a, order[..., None], axis=1) for a in (boxes, correction, points))
    xy = jnp.stack([points[..., :LANDMARKS], points[..., LANDMARKS:]], axis=-1)
    landmarks = boxes[..., None, :2] + xy * (boxes[..., None, 2:] - boxes[..., None, :2] + 1.0) - 1.0
    boxes = corrected(boxes, correction, 1.0)
    faces = suppressed(boxes, scores > 0, WITHIN_IMAGE, least=True)
    counts = jnp.stack([first, second], axis=1).astype(jnp.int32)
    return Found(boxes=boxes, scores=scores, landmarks=landmarks, faces=faces, counts=counts)


def _proposed(
    params: Any, sheet: Atlas, table: jax.Array, sizes: jax.Array, levels: jax.Array, threshold: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """P-Net's boxes [B, CANDIDATES, 4], corrected and square, by falling score [B, CANDIDATES], 0 where there is none;
    and how many there were [B] before they were compared across levels.
    """
    x, live = _sheets(sheet, table, sizes, levels)
    network: Network = partial(PNet().apply, {"params": params})
    correction, probability = network(normalised(x), live[:, :-2, :-2])
    h, w = sheet.boxes.shape[:2]
    place = (slice(0, STRIDE * h, STRIDE), slice(0, STRIDE * w, STRIDE))
    size = levels[:, sheet.level[place]]
    row, column = sheet.row[place][None], sheet.column[place][None]
    inside = (row < STRIDE * cells(size[..., 0])) & (column < STRIDE * cells(size[..., 1]))
    scores = jnp.where(inside, probability[..., 1], 0.0)
    scores = jnp.where(_peaks(sheet, scores, scores >= threshold), scores, 0.0).reshape(len(x), -1)
    count = (scores > 0).sum(axis=1)
    missing = max(CANDIDATES - h * w, 0)
    scores, order = jax.lax.top_k(jnp.pad(scores, ((0, 0), (0, missing))), CANDIDATES)
    order = jnp.minimum(order, h * w - 1)
    boxes = sheet.boxes.reshape(-1, 4)[order]
    correction = jnp.take_along_axis(correction.reshape(len(x), -1, 4), order[..., None], axis=1)
    kept = suppressed(boxes, scores > 0, WITHIN_IMAGE)
    return squared(corrected(boxes, correction, 0.0)), jnp.where(kept, scores, 0.0), count


def _sheets(sheet: Atlas, table: jax.Array, sizes: jax.Array, levels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Every image's levels on its sheet [B, H, W, 3], grey levels; and where P-Net's first convolution sees one level
    and nothing else [B, H, W].
    """

    def one(table: jax.Array, source: jax.Array, levels: jax.Array) -> tuple[jax.Array, jax.Array]:
        target = levels[sheet.level]
        live = (sheet.row < target[..., 0] - 2) & (sheet.column < target[..., 1] - 2)
        there = (sheet.row < target[..., 0]) & (sheet.column < target[..., 1])
        edges = []
        for axis, place in enumerate((sheet.row, sheet.column)):
            first, last = covered(place, jnp.maximum(target[..., axis], 1), source[axis])
            edges.append((jnp.where(there, first, 0), jnp.where(there, last, 0)))
        return means(table, edges[0], edges[1]), live

    return jax.vmap(one)(table, sizes, levels)


def _peaks(sheet: Atlas, scores: jax.Array, candidates: jax.Array) -> jax.Array:
    """Greedy suppression among all cells of a level, of which only neighbours overlap enough: mask [B, h, w].

    Of equal scores, the first one in reading order counts as the higher.
    """
    h, w = scores.shape[1:]
    r = max((abs(step) for steps in sheet.steps for step in steps), default=0)

    def around(values: jax.Array) -> list[jax.Array]:
        padded = jnp.pad(values, ((0, 0), (r, r), (r, r)))
        return [padded[:, r + dy : r + dy + h, r + dx : r + dx + w] for dy, dx in sheet.steps]

    topples = [
        near[None] & ((other >= scores) if step < (0, 0) else (other > scores))
        for near, other, step in zip(sheet.near, around(scores), sheet.steps, strict=True)
    ]

    def toppled(kept: jax.Array) -> jax.Array:
        gone = jnp.zeros(scores.shape, bool)
        for above, other in zip(topples, around(kept), strict=True):
            gone |= above & other
        return gone

    return settled(candidates, toppled)


def _edges(boxes: jax.Array, sizes: jax.Array) -> jax.Array:
    """int32 [B, K, 4]: what lies in the image of boxes whose left and top are counted from 1, cut to whole pixels."""
    whole = jnp.trunc(boxes).astype(jnp.int32)
    limits = jnp.stack([sizes[:, 1], sizes[:, 0]], axis=-1)[:, None]
    first = jnp.maximum(whole[..., :2], 1) - 1
    return jnp.concatenate([first, jnp.minimum(whole[..., 2:], limits)], axis=-1)


def _inside(boxes: jax.Array, sizes: jax.Array) -> jax.Array:
    """Mask [B, K] of the boxes of which anything lies in the image."""
    edges = _edges(boxes, sizes)
    return (edges[..., 2:] > edges[..., :2]).all(axis=-1)


def _on_crops(
    network: Network,
    widths: tuple[int, ...],
    side: int,
    chunk: int,
    table: jax.Array,
    sizes: jax.Array,
    boxes: jax.Array,
    candidates: jax.Array,
) -> list[jax.Array]:
    """A network's outputs [B, K, width] on what is in the candidates' boxes, which come before all others."""
    edges = _edges(boxes, sizes)
    edges = jnp.where(_inside(boxes, sizes)[..., None], edges, 0)
    batch, most = boxes.shape[:2]

    def step(number: jax.Array, outputs: list[jax.Array]) -> list[jax.Array]:
        part = jax.lax.dynamic_slice_in_dim(edges, number * chunk, chunk, axis=1)
        x = normalised(crops(table, part, side)).reshape(batch * chunk, side, side, 3)
        found = [a.reshape(batch, chunk, -1) for a in network(x)]
        return [
            jax.lax.dynamic_update_slice_in_dim(output, a, number * chunk, axis=1)
            for output, a in zip(outputs, found, strict=True)
        ]

    rounds = (candidates.sum(axis=1).max() + chunk - 1) // chunk
    return jax.lax.fori_loop(0, rounds, step, [jnp.zeros((batch, most, width)) for width in widths])
