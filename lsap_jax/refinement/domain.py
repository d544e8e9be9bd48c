"""Which pixels of an image lie in the generator's domain: what a coarse inversion already makes alike (DHR, arXiv
2301.12141, section 3.1; thresholds, parser classes and their use as in GANInverter's code).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Classes of CelebAMask-HQ, by the numbers of FaRL's parser.
CLASSES = (
    "background", "neck", "face", "cloth", "rr", "lr", "rb", "lb", "re", "le", "nose", "imouth", "llip", "ulip", "hair",
    "glass", "hat", "earr", "neckl",
)  # fmt: skip
FACE = CLASSES.index("face")
FEATURES = range(CLASSES.index("rr"), CLASSES.index("ulip") + 1)  # ears, brows, eyes, nose, mouth
OUTSIDE = tuple(CLASSES.index(name) for name in ("background", "cloth", "hat", "earr", "neckl"))


class Thresholds(NamedTuple):
    """The perceptual distance, summed over taps, below which a segment is in the domain: of faces' skin (the paper's
    θ1), of their features (θ2), and of all else.
    """

    face: float = 0.7
    features: float = 0.8
    other: float = 0.6


def nearest(maps: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """[..., H, W] to [..., h, w] of the size (h, w), as torch's nearest: the pixel ⌊i · H / h⌋."""
    height, width = maps.shape[-2:]
    return maps[..., _places(height, size[0])[:, None], _places(width, size[1])]


def _places(source: int, size: int) -> np.ndarray:
    return np.arange(size) * source // size


def segment_levels(deltas: Sequence[jax.Array], numbers: jax.Array, count: int, vanished: str) -> jax.Array:
    """Distance of every segment in every tap, [count, taps].

    Args:
        deltas: maps [h, w] of a perceptual distance, one per tap, of the coarse inversion and the target.
        numbers: int [H, W], the segment of each pixel, below `count`.
        vanished: a small segment may have no pixel of a coarse map. "nearest" takes those that its own pixels lie on,
            "out" gives infinity. What has no pixel at all is infinite.
    """
    if vanished == "out":
        levels = [(delta, nearest(numbers, delta.shape)) for delta in deltas]
    else:
        levels = [(nearest(delta, numbers.shape), numbers) for delta in deltas]

    def one(number: jax.Array) -> jax.Array:
        means = []
        for delta, own in levels:
            inside = own == number
            area = jnp.sum(inside)
            mean = jnp.sum(jnp.where(inside, delta, 0)) / jnp.maximum(area, 1)
            means.append(jnp.where(area > 0, mean, jnp.inf))
        return jnp.stack(means)

    return jax.lax.map(one, jnp.arange(count))


def segment_classes(shares: jax.Array, numbers: jax.Array, count: int) -> jax.Array:
    """The class that most of each segment belongs to, int [count]; the first of several.

    Args:
        shares: [H, W, classes], how much of each pixel belongs to each of `CLASSES`.
        numbers: as of `segment_levels`.
    """

    def one(number: jax.Array) -> jax.Array:
        return jnp.argmax(jnp.sum(jnp.where((numbers == number)[..., None], shares, 0), (0, 1)))

    return jax.lax.map(one, jnp.arange(count))


def domain(
    deltas: Sequence[jax.Array],
    numbers: jax.Array,
    count: int,
    mask: jax.Array | None,
    *,
    thresholds: Thresholds,
    parsing: bool = False,
    shares: jax.Array | None = None,
    vanished: str = "nearest",
) -> jax.Array:
    """Where the generator's domain is, [H, W] of 0 and 1.

    Args:
        deltas, numbers, count, vanished: as of `segment_levels`.
        mask: [H, W] in [0, 1]: where it may be, from 0.5 on; None is everywhere.
        parsing: the mask has numbers of a parser's `CLASSES`, in 255ths, instead.
        shares: what a parser says of each pixel, see `segment_classes`. Classes choose the thresholds; pixels that are
            background, cloth, hat and jewellery by half or more are out of the domain.
    """
    if mask is not None and parsing:
        shares, mask = jax.nn.one_hot(jnp.round(mask * 255).astype(jnp.int32), len(CLASSES)), None
    allowed = jnp.ones(numbers.shape, bool) if mask is None else mask >= 0.5
    own = jnp.zeros(count, jnp.int32)
    if shares is not None:
        allowed = allowed & (jnp.sum(shares[..., np.array(OUTSIDE)], -1) < 0.5)
        own = segment_classes(shares, numbers, count)
    level = jnp.sum(segment_levels(deltas, numbers, count, vanished), -1)
    features = (own >= FEATURES.start) & (own < FEATURES.stop)
    limit = jnp.where(own == FACE, thresholds.face, jnp.where(features, thresholds.features, thresholds.other))
    return ((level < limit)[numbers] & allowed).astype(jnp.float32)
