"""Edits against real images that have the attribute asked for: the editing FID of StyleRes (arXiv 2212.14359), and KID.

Which real images have an attribute is what the classifier sees in them. Images that an edit asks for the attribute are
compared, as a set, with real ones that have it, and those that it asks to lose it with real ones that lack it. Both
distances fall as edits begin to succeed, and rise where they leave what is real, so that one strength tells nothing of
a method: what compares is where equally many edits succeed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lsap_jax.data import ImageError, Source
from lsap_jax.errors import LsapError
from lsap_jax.metrics.fid import fid
from lsap_jax.metrics.kid import kid_by_image
from lsap_jax.models.attributes import Attributes, label_logits
from lsap_jax.models.generator import Generator
from lsap_jax.models.inception import Inception
from lsap_jax.runs.evaluation import features_of_sets
from lsap_jax.storage.atomic import sha256

LEAST = 3  # images of a set
FEATURES, ASKED = "features", "asked"  # of edits, until all images of a run are there


@dataclass(frozen=True, kw_only=True)
class RealImages:
    """Real images that edits are compared with.

    Attributes:
        features: of uint8 images [B, R, R, C] to [B, d].
        sets: (attribute, side 1 or -1) -> features [M, d] of the images on this side.
        inception: whether the features are Inception's, so that there is a FID.
        record: what quality.json says of them.
    """

    features: Callable[[np.ndarray], np.ndarray]
    sets: Mapping[tuple[str, int], np.ndarray]
    inception: bool
    record: Mapping[str, Any]


def on_side(attributes: Attributes, name: str, likeliest: np.ndarray) -> np.ndarray:
    """[N] 1 where the likeliest value is on an attribute's positive side, -1 on its negative, 0 on neither."""
    label, positive, negative = attributes.binary[name]
    values = np.asarray(attributes.labels[label])[likeliest]
    return np.isin(values, positive).astype(np.float32) - np.isin(values, negative).astype(np.float32)


def real_images(
    G: Generator, source: Source, attributes: Attributes, inception: Inception | None, most: int
) -> RealImages:
    """The images of a source, as far as they can be read, on the sides of every attribute that the classifier sees.

    Args:
        most: of so many, evenly spread, at most; 0 is all.

    Raises:
        LsapError: fewer than three can be read.
    """
    chosen = np.arange(len(source))
    if 0 < most < len(chosen):
        chosen = np.unique(np.linspace(0, len(source) - 1, most).round().astype(int))
    pictures = [image for index in chosen.tolist() if (image := _loaded(source, index)) is not None]
    if len(pictures) < LEAST:
        raise LsapError(f"real: {len(pictures)} images can be read; give {LEAST} or more")
    images = np.stack(pictures)
    compute, described = features_of_sets(G, inception)
    features = compute(images)
    logits = label_logits(attributes, images)
    sides = {
        name: on_side(attributes, name, logits[one.label].argmax(axis=1)) for name, one in attributes.binary.items()
    }
    sets = {(name, side): features[own == side] for name, own in sides.items() for side in (1, -1)}
    record = {
        "images": len(images),
        "sha256": sha256(images.tobytes()),
        "features": described,
        "with_attribute": {name: int((own == 1).sum()) for name, own in sides.items()},
        "without_attribute": {name: int((own == -1).sum()) for name, own in sides.items()},
    }
    return RealImages(features=compute, sets=sets, inception=inception is not None, record=record)


def distances(
    arrays: Mapping[str, np.ndarray], real: RealImages | None, directions: Sequence[str]
) -> dict[str, np.ndarray]:
    """Measures of all images of a run, with "kid" and "fid" [D, S, N] in place of the features of edits.

    Args:
        arrays: measure -> [D, S, N], "asked" the side that each edit asks for, "features" [D, S, N, d].

    Returns:
        The contributions of images to KID (`kid_by_image`), whose mean it is, NaN where fewer than three edits ask for
        a side or fewer than three real images are on it. FID is a number of a set: all of its edits have it.
    """
    found = dict(arrays)
    features, asked = found.pop(FEATURES, None), found.pop(ASKED, None)
    if real is None or features is None or asked is None:
        return found
    names = ("kid", "fid") if real.inception else ("kid",)
    found |= {name: np.full(asked.shape, np.nan) for name in names}
    for (d, s), side in ((at, side) for at in np.ndindex(asked.shape[:2]) for side in (1, -1)):
        these = asked[d, s] == side
        own, there = features[d, s, these], real.sets.get((directions[d], side))
        if there is None or min(len(own), len(there)) < LEAST:
            continue
        found["kid"][d, s, these] = kid_by_image(own, there)
        if real.inception:
            found["fid"][d, s, these] = fid(own, there).value
    return found


def _loaded(source: Source, index: int) -> np.ndarray | None:
    try:
        return source.load(index).image
    except ImageError:
        return None
