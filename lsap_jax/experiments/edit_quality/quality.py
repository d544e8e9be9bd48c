"""How good edits are: whether the attribute changed as asked, the others stayed, and the image is still one of the
generator's.

The protocol is that of arXiv 2307.08995 (Fig. 6 and the table of 50 images): every image along every direction by every
strength. Where a direction has an attribute that a classifier knows, a strength may mean "towards the other side": an
image that has the attribute loses it, another one gains it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.editing.direction import Direction
from lsap_jax.editing.moves import move
from lsap_jax.errors import LsapError
from lsap_jax.experiments.edit_quality import consistency
from lsap_jax.experiments.edit_quality.consistency import Again, Refined
from lsap_jax.experiments.edit_quality.real_images import ASKED, FEATURES, RealImages, on_side
from lsap_jax.losses.terms import nscd_of
from lsap_jax.metrics.identity import IdentityMeter, kept
from lsap_jax.models.attributes import Attributes, label_logits, scores_of
from lsap_jax.models.generator import Generator
from lsap_jax.pixels import to_uint8
from lsap_jax.rendering.refinement import Refinement, by_signature
from lsap_jax.rendering.render import decode, fitted, per_batch, synthesise
from lsap_jax.runs.evaluation import genuine_nscd
from lsap_jax.spaces import Space
from lsap_jax.spaces.statistics import with_statistics

MEASURES = {
    "success": "share of edits after which the likeliest value of the label is one of the side asked for",
    "score": "log-odds of the side asked for against the other",
    "preserved": "share of the other labels that the classifier sees as before the edit",
    "logit": "the discriminator's logit of the image alone (minibatch-stddev group 1)",
    "nscd": "cosine distance of the styles from the mean of synthetic ones (LSAP), mean over the layers that make the "
    "image, minus that of genuine samples over the same layers",
    "lec": "latent editing consistency (e4e): distance over all rows of ws between the code and that of the edited "
    "picture, inverted again and moved back; means are of the 1st to the 99th percentile at each strength",
    "cycle": "cycle consistency: mean squared error between the reconstruction and the picture of the code that was "
    "edited, inverted and refined again, and moved back",
    "kid": "KID of the edited images, as a set, and real images that are on the side asked for",
    "fid": "FID of the same sets, without an interval; it compares with values of equally large sets alone",
    "identity": "cosine similarity of the face embeddings of the target and the edited image, where a face was found",
    "face": "share of edits in which a face was found, of targets that have one",
}
PUBLISHED_PSI = 0.7
# Spaces whose codes the published scripts edit otherwise than those of z spaces -> the part of the rows that make the
# image which they truncate: rows 0 to 7 of 18 at 1024 px, of which a base code of 16 px leaves the last 14.
PUBLISHED_SPACES = {"w+": Fraction(8, 18), "f/w+": Fraction(4, 14)}
GENUINE_SAMPLES = 512


@dataclass(frozen=True, kw_only=True)
class Judges:
    """What edits are measured by; None leaves a measure out. The discriminator is the generator's own.

    Attributes:
        attributes: classifier of labels.
        identity: a face network, and what finds the faces.
        real: images that have the attributes, or lack them.
    """

    attributes: Attributes | None = None
    identity: IdentityMeter | None = None
    real: RealImages | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of the edits of N images along D directions by S strengths.

    Attributes:
        arrays: measure -> [D, S, N]; NaN where a direction has none, or where no face was found in an image. With real
            images to compare with also what `real_images.distances` takes.
        pictures: uint8 [D, S, K, R, R, C] of the first K images.
    """

    arrays: dict[str, np.ndarray]
    pictures: np.ndarray


def as_published(G: Generator, space: Space) -> Space:
    """The space as the authors' editing scripts decode it: W+ codes are truncated at edit time, though the inversion
    did not truncate them, so that an edit of strength 0 is not the inversion (their `edit.py`). The rows are as large a
    part of those that make the image as at 1024 px.
    """
    if space.name not in PUBLISHED_SPACES:
        return space
    first = min(layer.row for layer in G.config.live_layers(space.base_resolution))
    rows = round(PUBLISHED_SPACES[space.name] * (G.num_ws - first))
    return replace(space, truncation_psi=PUBLISHED_PSI, truncation_cutoff=first + rows)


def measure_edits(
    G: Generator,
    space: Space,
    codes: Mapping[str, np.ndarray],
    directions: Sequence[Direction],
    strengths: Sequence[float],
    judges: Judges,
    *,
    refinements: Sequence[Refinement | None] | None = None,
    faces: np.ndarray | None = None,
    toggle: bool = False,
    published: bool = False,
    again: Again | None = None,
    refined: Refined | None = None,
    batch_size: int = 16,
    devices: Sequence[jax.Device] | None = None,
    shown: int = 0,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Measured:
    """Edits codes and measures every picture.

    Args:
        codes: by name, first axis N, of an inversion.
        directions: of the space's family; one whose name is a binary attribute of the classifier has a success.
        refinements: of single images, N of them, or None for those that have none; they stay at every strength.
        faces: [N, D] embeddings of the targets, NaN where one has no face; for identities.
        toggle: strengths point away from the side of the attribute that an image's inversion is on. Images on neither
            side are left out (NaN).
        published: with the asymmetries of the published comparison: in W+ and F/W+, truncation at edit time and
            GANSpace's absolute coordinate (which removes the image's own first); other spaces have neither.
        again: inverts pictures again, for latent editing consistency.
        refined: refines them again, for cycle consistency.
        shown: of how many images pictures are kept.
        tell: called with (edits done, edits in all).

    Raises:
        LsapError: no directions or strengths, a direction of another space, a picture that is not finite, or judges
            that do not fit the images.
    """
    if not directions or not len(strengths):
        raise LsapError("nothing to measure: give one or more directions and strengths")
    if judges.identity is not None and faces is None:
        raise LsapError("identities are compared with those of the targets; give their embeddings, too")
    G, devices = with_statistics(G), devices or jax.local_devices()
    count = len(next(iter(codes.values())))
    genuine = np.broadcast_to(genuine_nscd(G, space, codes.get("c")), (count,))
    refinements = refinements or [None] * count
    before = _look(G, space, codes, refinements, judges, batch_size, devices)
    look = _looker(G, as_published(G, space) if published else space, batch_size, devices)
    returned = None
    if again is not None:
        own = {key: codes[key] for key in space.keys}
        first = None if refined is None else by_signature(look, refinements, own)["images"]
        returned = consistency.measurer(G, space, again, batch_size, devices, refined, first)
    shape = (len(directions), len(strengths), count)
    arrays: dict[str, np.ndarray] = {}
    pictures = np.zeros((*shape[:2], min(shown, count), G.img_resolution, G.img_resolution, G.img_channels), np.uint8)
    for d, direction in enumerate(directions):
        sides = _sides(direction, before, judges, count) if toggle else np.ones(count, np.float32)
        absolute = "own" if published and space.name in PUBLISHED_SPACES and direction.mean is not None else None
        for start in range(0, shape[1] * count, batch_size):  # images of 1024 px are not all held at once
            strength, image = divmod(np.arange(start, min(start + batch_size, shape[1] * count)), count)
            some = {key: np.asarray(codes[key])[image] for key in space.keys}
            amount = np.asarray(strengths, np.float32)[strength] * sides[image]
            moved = move(G, space, some, direction, amount, absolute=absolute)
            found = by_signature(look, [refinements[int(i)] for i in image], moved)
            images = found.pop("images")
            if not (fine := np.isfinite(images).all(axis=(1, 2, 3))).all():
                where = f"{direction.name} by {amount[~fine][0]:g}"
                raise LsapError(f"{where}: the picture is not finite; give strengths nearer to 0")
            found["nscd"] = found["nscd"] - genuine[image]
            # at strength 0 of a toggle the side asked for is the other one, too: the start of the curve
            asked = sides[image] if toggle else np.sign(amount)
            found |= _judged(direction, images, before, image, asked, judges)
            if judges.identity is not None and faces is not None:
                found |= kept(faces[image], judges.identity.faces(to_uint8(images)))
            if returned is not None:
                found |= returned(some, to_uint8(images), image, direction, amount)
            if judges.real is not None:
                found |= {FEATURES: judges.real.features(to_uint8(images)), ASKED: asked}
            for name, values in found.items():
                counted = np.where((sides[image] == 0).reshape(-1, *(1,) * (values.ndim - 1)), math.nan, values)
                kind = np.float64 if values.ndim == 1 else values.dtype  # features may take much room
                arrays.setdefault(name, np.full((*shape, *values.shape[1:]), math.nan, kind))
                arrays[name][d, strength, image] = counted
            first = image < shown
            pictures[d, strength[first], image[first]] = to_uint8(images[first])
        tell((d + 1) * shape[1] * count, math.prod(shape))
    return Measured(arrays=arrays, pictures=pictures)


def _seen(
    G: Generator, space: Space, codes: dict[str, jax.Array], refinement: Refinement | None
) -> dict[str, jax.Array]:
    """Images [B, R, R, C], logits [B] and NSCD [B] of codes."""
    decoded = decode(G, space, codes, refinement)
    images = jnp.clip(synthesise(G, decoded, refinement), -1, 1)
    found = {"images": images, "nscd": nscd_of(G, decoded).mean(axis=1)}
    if G.discriminator is not None:
        found["logit"] = G.discriminator.alone(images, decoded.c)
    return found


def _looker(
    G: Generator, space: Space, batch_size: int, devices: Sequence[jax.Device]
) -> Callable[[Refinement | None, Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """`_seen` of any number of codes, for `by_signature`."""
    look = per_batch(_seen, G, space, batch_size, devices)
    return lambda refinement, codes: look(codes, refinement)


def _look(
    G: Generator,
    space: Space,
    codes: Mapping[str, np.ndarray],
    refinements: Sequence[Refinement | None],
    judges: Judges,
    batch_size: int,
    devices: Sequence[jax.Device],
) -> dict[str, np.ndarray]:
    """What the classifier sees in the inversions: label -> index of its likeliest value [N]."""
    if judges.attributes is None:
        return {}
    look, parts = _looker(G, space, batch_size, devices), []
    for start in range(0, len(refinements), batch_size):
        part = slice(start, start + batch_size)
        some = {key: np.asarray(codes[key][part]) for key in space.keys}
        logits = label_logits(judges.attributes, by_signature(look, refinements[part], some)["images"])
        parts.append({name: values.argmax(axis=1) for name, values in logits.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _sides(direction: Direction, before: Mapping[str, np.ndarray], judges: Judges, count: int) -> np.ndarray:
    """[N] the side of every image that a toggle asks for; 0 leaves it out, a direction without an attribute has 1."""
    if judges.attributes is None or direction.name not in judges.attributes.binary:
        return np.ones(count, np.float32)
    own = judges.attributes.binary[direction.name]
    return -on_side(judges.attributes, direction.name, before[own.label])


def _judged(
    direction: Direction,
    images: np.ndarray,
    before: Mapping[str, np.ndarray],
    image: np.ndarray,
    asked: np.ndarray,
    judges: Judges,
) -> dict[str, np.ndarray]:
    """The classifier's measures of edited images [B], given the index of each and the side asked for."""
    if judges.attributes is None:
        return {}
    own = judges.attributes.binary.get(direction.name)
    others = [name for name in judges.attributes.labels if own is None or name != own.label]
    logits = label_logits(judges.attributes, images)
    likeliest = {name: values.argmax(axis=1) for name, values in logits.items()}
    found = {"preserved": np.mean([likeliest[name] == before[name][image] for name in others], axis=0)}
    if own is not None:
        there = on_side(judges.attributes, direction.name, likeliest[own.label]) == asked
        none = np.where(asked == 0, math.nan, 0.0)  # strength 0 asks for nothing
        found["success"] = there + none
        found["score"] = scores_of(judges.attributes, logits)[direction.name] * asked + none
    return found


def genuine_logits(G: Generator, samples: int | None = None, seed: int = 0) -> np.ndarray:
    """[samples] logits of the generator's own samples (512 by default), each alone: what a natural image scores.
    Samples of a conditional generator have the classes in turn that it is used for.

    Raises:
        LsapError: the generator came without its discriminator, or it is conditional and no class is given.
    """
    if G.discriminator is None:
        raise LsapError("this generator came without its discriminator; convert the checkpoint that has both")
    from lsap_jax.spaces import parse_space

    G, space = with_statistics(G), parse_space("z")
    shape = (GENUINE_SAMPLES if samples is None else samples, G.z_dim)
    z = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    codes = {"z": np.asarray(space.retract({"z": jnp.asarray(z)})["z"])}
    if G.labels is not None:
        codes["c"] = np.resize(G.labels, (len(z), G.c_dim))
    G, space, codes = fitted(G, space, codes)
    return np.asarray(per_batch(_seen, G, space, 64, jax.local_devices()[:1])(codes)["logit"])
