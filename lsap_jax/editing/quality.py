"""How good edits are: whether the attribute changed as asked, the others stayed, and the image is still one of the
generator's.

The protocol is that of arXiv 2307.08995 (Fig. 6 and the table of 50 images): every image along every direction by every
strength. Where a direction has an attribute that a classifier knows, a strength may mean "towards the other side": an
image that has the attribute loses it, another one gains it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.data import to_uint8
from lsap_jax.editing.direction import Direction
from lsap_jax.editing.moves import move
from lsap_jax.errors import LsapError
from lsap_jax.faces.detect import Detector
from lsap_jax.generator import Generator
from lsap_jax.inversion.objective import Terms, nscd_of
from lsap_jax.inversion.rendering import decode, per_batch, synthesise
from lsap_jax.metrics.attributes import Attributes, label_logits, scores_of
from lsap_jax.metrics.identity import Embedder, face_embeddings, identity_similarity
from lsap_jax.spaces import Space
from lsap_jax.statistics import with_statistics

MEASURES = {
    "success": "share of edits after which the attribute is on the side asked for",
    "score": "log-odds of the side asked for",
    "preserved": "share of the other labels that the classifier sees as before the edit",
    "logit": "the discriminator's logit of the image alone (minibatch-stddev group 1)",
    "nscd": "cosine distance of the styles from the mean of synthetic ones (LSAP), mean over the layers",
    "identity": "cosine similarity of the face embeddings of the target and the edited image",
}
PUBLISHED_PSI, PUBLISHED_LAYERS = 0.7, 8


@dataclass(frozen=True, kw_only=True)
class Judges:
    """What edits are measured by; None leaves a measure out. The discriminator is the generator's own.

    Attributes:
        attributes: classifier of labels.
        embedder: of faces; `detector` finds the face first, without one images are aligned already.
    """

    attributes: Attributes | None = None
    embedder: Embedder | None = None
    detector: Detector | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of the edits of N images along D directions by S strengths.

    Attributes:
        arrays: measure -> [D, S, N]; NaN where a direction has none, or where no face was found in an image.
        pictures: uint8 [D, S, K, R, R, C] of the first K images.
    """

    arrays: dict[str, np.ndarray]
    pictures: np.ndarray


def as_published(space: Space) -> Space:
    """The space as the authors' editing scripts decode it: W+ codes are truncated at edit time, though the inversion
    did not truncate them, so that an edit of strength 0 is not the inversion (their `edit.py`).
    """
    if space.detail.key != "w":
        return space
    return replace(space, truncation_psi=PUBLISHED_PSI, truncation_cutoff=PUBLISHED_LAYERS)


def measure_edits(
    G: Generator,
    space: Space,
    codes: Mapping[str, np.ndarray],
    directions: Sequence[Direction],
    strengths: Sequence[float],
    judges: Judges,
    *,
    targets: np.ndarray | None = None,
    toggle: bool = False,
    published: bool = False,
    batch_size: int = 16,
    devices: Sequence[jax.Device] | None = None,
    shown: int = 0,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Measured:
    """Edits codes and measures every picture.

    Args:
        codes: by name, first axis N, of an inversion.
        directions: of the space's family; one whose name is a binary attribute of the classifier has a success.
        targets: uint8 [N, R, R, C], for identities.
        toggle: strengths point away from the side of the attribute that an image's inversion is on.
        published: with the asymmetries of the published comparison: in W+, truncation at edit time and GANSpace's
            absolute coordinate (which removes the image's own first); z spaces have neither.
        shown: of how many images pictures are kept.
        tell: called with (edits done, edits in all).

    Raises:
        LsapError: no directions or strengths, a direction of another space, or judges that do not fit the images.
    """
    if not directions or not len(strengths):
        raise LsapError("nothing to measure: give one or more directions and strengths")
    if judges.embedder is not None and targets is None:
        raise LsapError("identities are compared with the targets; give them, too")
    G, devices = with_statistics(G), devices or jax.local_devices()
    count = len(next(iter(codes.values())))
    before = _look(G, space, codes, judges, batch_size, devices)
    faces = None
    if judges.embedder is not None and targets is not None:
        faces = face_embeddings(judges.embedder, judges.detector, targets)[0]
    look = per_batch(_seen, G, as_published(space) if published else space, batch_size, devices)
    shape = (len(directions), len(strengths), count)
    arrays: dict[str, np.ndarray] = {}
    pictures = np.zeros((*shape[:2], min(shown, count), G.img_resolution, G.img_resolution, G.img_channels), np.uint8)
    for d, direction in enumerate(directions):
        sides = _sides(direction, before, toggle, count)
        absolute = "own" if published and space.detail.key == "w" and direction.mean is not None else None
        for start in range(0, shape[1] * count, batch_size):  # images of 1024 px are not all held at once
            strength, image = divmod(np.arange(start, min(start + batch_size, shape[1] * count)), count)
            some = {key: np.asarray(codes[key])[image] for key in space.keys}
            amount = np.asarray(strengths, np.float32)[strength] * sides[image]
            found = look(move(G, space, some, direction, amount, absolute=absolute))
            images = found.pop("images")
            found |= _judged(direction, images, before, image, sides[image], judges)
            if judges.embedder is not None and faces is not None:
                edited = face_embeddings(judges.embedder, judges.detector, to_uint8(images))[0]
                found["identity"] = identity_similarity(faces[image], edited)
            for name, values in found.items():
                arrays.setdefault(name, np.full(shape, math.nan))[d, strength, image] = values
            kept = image < shown
            pictures[d, strength[kept], image[kept]] = to_uint8(images[kept])
        tell((d + 1) * shape[1] * count, math.prod(shape))
    return Measured(arrays=arrays, pictures=pictures)


def _seen(G: Generator, space: Space, codes: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Images [B, R, R, C], logits [B] and NSCD [B] of codes."""
    decoded = decode(G, space, codes)
    images = jnp.clip(synthesise(G, decoded), -1, 1)
    found = {"images": images, "nscd": nscd_of(Terms(weights=()), G, decoded).mean(axis=1)}
    if G.discriminator is not None:
        alone = replace(
            G.discriminator.config, mbstd_group_size=1
        )  # an image's logit must not depend on its neighbours
        found["logit"] = G.discriminator.replace(config=alone)(images)[:, 0]
    return found


def _look(
    G: Generator,
    space: Space,
    codes: Mapping[str, np.ndarray],
    judges: Judges,
    batch_size: int,
    devices: Sequence[jax.Device],
) -> dict[str, Any]:
    """What the classifier sees in the inversions: {"scores": attribute -> [N], "labels": label -> [N]}."""
    if judges.attributes is None:
        return {"scores": {}, "labels": {}}
    look, count = per_batch(_seen, G, space, batch_size, devices), len(next(iter(codes.values())))
    parts = []
    for start in range(0, count, batch_size):
        some = {key: np.asarray(codes[key][start : start + batch_size]) for key in space.keys}
        parts.append(label_logits(judges.attributes, look(some)["images"]))
    logits = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    labels = {name: values.argmax(axis=1) for name, values in logits.items()}
    return {"scores": scores_of(judges.attributes, logits), "labels": labels}


def _sides(direction: Direction, before: Mapping[str, Any], toggle: bool, count: int) -> np.ndarray:
    """[N] the sign of every image's strengths."""
    scores = before["scores"].get(direction.name)
    return (
        np.where(scores > 0, -1, 1).astype(np.float32) if toggle and scores is not None else np.ones(count, np.float32)
    )


def _judged(
    direction: Direction,
    images: np.ndarray,
    before: Mapping[str, Any],
    image: np.ndarray,
    sides: np.ndarray,
    judges: Judges,
) -> dict[str, np.ndarray]:
    """What the classifier says of edited images [B], by the index of each and its side of the attribute."""
    if judges.attributes is None:
        return {}
    own = judges.attributes.binary.get(direction.name)
    others = [name for name in judges.attributes.labels if own is None or name != own.label]
    logits = label_logits(judges.attributes, images)
    same = [logits[name].argmax(axis=1) == before["labels"][name][image] for name in others]
    found = {"preserved": np.mean(same, axis=0)}
    if own is not None:
        score = scores_of(judges.attributes, logits)[direction.name] * sides
        found |= {"score": score, "success": (score > 0).astype(float)}
    return found


def genuine_logits(G: Generator, samples: int = 512, seed: int = 0) -> np.ndarray:
    """[samples] logits of the generator's own samples, each alone: what a natural image scores.

    Raises:
        LsapError: the generator came without its discriminator.
    """
    if G.discriminator is None:
        raise LsapError("this generator came without its discriminator; convert the checkpoint that has both")
    from lsap_jax.spaces import parse_space

    G, space = with_statistics(G), parse_space("z")
    z = np.random.default_rng(seed).standard_normal((samples, G.z_dim), dtype=np.float32)
    codes = {"z": np.asarray(space.retract({"z": jnp.asarray(z)})["z"])}
    return np.asarray(per_batch(_seen, G, space, 64, jax.local_devices()[:1])(codes)["logit"])
