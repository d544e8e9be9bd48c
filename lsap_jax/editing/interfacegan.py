"""InterFaceGAN: the normal of the hyperplane that separates codes with an attribute from codes without it (Shen et al.,
CVPR 2020), in Z, W and S.

Samples are drawn and scored once for all spaces and attributes (`sample`). Only z is kept of them: w and styles, 9,088
numbers an image at 1024 px, are computed again for the few that the boundary is fitted to, and the rest piece by piece.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.editing.direction import Direction, family, near
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.spaces import Space, parse_space, sphere
from lsap_jax.spaces.statistics import Report, check_one_class, class_suffix

SPACES = ("z", "w", "s")
SAMPLES = 20_000
RATIO = 0.02
VALIDATION = 0.3
LEAST = 50  # samples on each side
CHUNK = 1000  # codes at once

# Images [B, R, R, C] in [-1, 1] -> attribute -> log-odds [B], positive where the image has it.
Scorer = Callable[[np.ndarray], Mapping[str, np.ndarray]]
Codes = Callable[[np.ndarray], np.ndarray]  # indices [M] -> codes [M, d]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Samples of a generator with the scores of their images.

    Attributes:
        z: float32 [N, z_dim] on the sphere.
        scores: attribute -> float64 [N], log-odds.
        truncation_psi: that the images were made with; it belongs to w and s too.
        seed: of z.
    """

    z: np.ndarray
    scores: Mapping[str, np.ndarray]
    truncation_psi: float
    seed: int

    def codes(self, G: Generator, space: str, index: np.ndarray) -> np.ndarray:
        """Codes [M, d] of space z, w or s of some of the samples."""
        if space == "z":
            return self.z[index]
        parts = []
        for start in range(0, len(index), CHUNK):
            some = index[start : start + CHUNK]
            padded = np.concatenate([some, np.repeat(some[-1:], CHUNK - len(some))])
            parts.append(np.asarray(_codes(G, space, self.z[padded], self.truncation_psi))[: len(some)])
        return np.concatenate(parts)


class Boundary(NamedTuple):
    """A hyperplane normal · x + intercept = 0, positive on the side of the attribute.

    Attributes:
        normal: float64 [d], of length 1.
        accuracy: share of the extreme samples that it was not fitted to which lie on their side.
        accuracy_rest: share of all other samples whose side is the sign of their score, the mean of that of positive
            and that of negative scores, so that chance is 0.5 for rare attributes too; nan if there are none.
        deviation: standard deviation of all codes along the normal.
        fitted: samples that it was fitted to, both sides together.
    """

    normal: np.ndarray
    intercept: float
    accuracy: float
    accuracy_rest: float
    deviation: float
    fitted: int


def sample(
    G: Generator,
    scorer: Scorer,
    samples: int = SAMPLES,
    seed: int = 0,
    truncation_psi: float = 1.0,
    batch_size: int = 16,
    report: Report | None = None,
) -> Scored:
    """Draws z uniformly from the sphere of radius √z_dim and scores the images.

    Args:
        scorer: is given batches of one shape, float32 [batch_size, R, R, C], clipped to [-1, 1].
        truncation_psi: for all layers.
        report: called with (samples done, samples in all).

    Raises:
        LsapError: a score is missing, not finite or not one per image, or a conditional generator has not one class.
    """
    if samples < 2 * LEAST:
        raise LsapError(f"{samples} samples: a boundary needs at least {LEAST} on each side")
    check_one_class(G, "InterFaceGAN")
    unscored = drawn(G, samples, seed, truncation_psi)
    z = unscored.z
    found: list[dict[str, np.ndarray]] = []
    for start in range(0, samples, batch_size):
        some = z[start : start + batch_size]
        padded = np.concatenate([some, np.repeat(some[-1:], batch_size - len(some), axis=0)])
        scores = scorer(np.asarray(_images(G, padded, truncation_psi)))
        found.append({name: _checked(name, values, batch_size)[: len(some)] for name, values in scores.items()})
        if not found[-1] or found[-1].keys() != found[0].keys():
            raise LsapError(f"the scorer gave {list(found[-1]) or 'no attributes'}, first {list(found[0])}")
        if report is not None:
            report(min(start + batch_size, samples), samples)
    merged = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    return replace(unscored, scores=merged)


def drawn(G: Generator, samples: int = SAMPLES, seed: int = 0, truncation_psi: float = 1.0) -> Scored:
    """The samples of `sample` without scores, which takes no time."""
    z = np.asarray(_sphere(jax.random.key(seed), (samples, G.z_dim)))
    return Scored(z=z, scores={}, truncation_psi=truncation_psi, seed=seed)


def interfacegan(
    G: Generator,
    space: str | Space,
    scorer: Scorer | Scored,
    attributes: Sequence[str] | None = None,
    *,
    samples: int = SAMPLES,
    ratio: float = RATIO,
    validation: float = VALIDATION,
    seed: int = 0,
    truncation_psi: float = 1.0,
    batch_size: int = 16,
    report: Report | None = None,
) -> tuple[Direction, ...]:
    """A direction per attribute, towards it.

    In W and S a step of strength 1 is one standard deviation of the samples along it, in Z length 1, which is the same
    there; the authors' steps have length 1 everywhere (`dataclasses.replace(direction, scale=1.0)`).

    Args:
        space: of the families z, w or s.
        scorer: or samples that were scored before (`sample`), which serve all spaces; `samples`, `truncation_psi`,
            `batch_size` and `report` are theirs then, and the seed that of the split.
        attributes: all that the scorer knows by default.
        ratio, validation: see `boundary`.

    Raises:
        LsapError: another space, no such attribute, or what `sample` and `boundary` refuse.
    """
    name = checked_space(space)
    support_vector_machine()  # if it is missing, say so before minutes of sampling
    scored = scorer
    if not isinstance(scored, Scored):
        scored = sample(G, scored, samples, seed, truncation_psi, batch_size, report)
    if unknown := [one for one in attributes or () if one not in scored.scores]:
        raise LsapError(f"attribute {unknown[0]!r}{near(unknown[0], scored.scores)}")
    generator, found = G.network_sha256, []
    for attribute in scored.scores if attributes is None else attributes:
        try:
            plane = boundary(partial(scored.codes, G, name), scored.scores[attribute], ratio, validation, seed)
        except LsapError as error:
            raise LsapError(f"attribute {attribute}: {error}") from None
        rest = {} if math.isnan(plane.accuracy_rest) else {"accuracy_rest": plane.accuracy_rest}
        found.append(
            Direction(
                name=attribute,
                space=name,
                vector=plane.normal.astype(np.float32),
                scale=1.0 if name == "z" else plane.deviation,
                source=f"InterFaceGAN, {attribute}, {plane.fitted} of {len(scored.z)} samples, psi "
                f"{scored.truncation_psi:g}, seed {scored.seed}{class_suffix(G, ', class ')}",
                generator=generator,
                measures={"accuracy": plane.accuracy, **rest},
            )
        )
    return tuple(found)


def boundary(
    codes: np.ndarray | Codes,
    scores: np.ndarray,
    ratio: float = RATIO,
    validation: float = VALIDATION,
    seed: int = 0,
) -> Boundary:
    """A linear support vector machine (C = 1, codes as they are) between the highest and the lowest scores.

    Args:
        codes: [N, d], or a function that computes those of some indices.
        scores: [N], log-odds.
        ratio: so many of all samples on each side, but at least 50.
        validation: share of them that is kept from the fit.
        seed: of that choice.

    Raises:
        LsapError: the attribute is there, or not there, in fewer than 50 samples; all scores are the same or some not
            finite; the ratio or the share is out of its range; scikit-learn is not installed.
    """
    take = codes if callable(codes) else np.asarray(codes).__getitem__
    scores = np.asarray(scores, np.float64)
    bottom, rest, top = _sides(scores, ratio)
    if not 0 < validation < 1:
        raise LsapError(f"validation {validation}: a share of the samples, between 0 and 1")
    rng, kept = np.random.default_rng(seed), min(round(len(top) * validation) or 1, len(top) - 1)
    top, bottom = rng.permutation(top), rng.permutation(bottom)
    train, held = (np.concatenate([top[part], bottom[part]]) for part in (slice(kept, None), slice(kept)))
    machine = support_vector_machine()
    machine.fit(np.asarray(take(train), np.float64), np.arange(len(train)) < len(train) // 2)
    length = float(np.linalg.norm(machine.coef_))
    normal, intercept = machine.coef_[0] / length, float(machine.intercept_[0]) / length
    order = np.concatenate([train, held, rest])
    along = np.concatenate([take(order[i : i + CHUNK]) @ normal for i in range(0, len(order), CHUNK)])
    sides = along + intercept > 0
    held_sides, rest_sides = sides[len(train) :][: len(held)], sides[len(train) + len(held) :]
    return Boundary(
        normal=normal,
        intercept=intercept,
        accuracy=float(np.mean(held_sides == (np.arange(len(held)) < kept))),
        accuracy_rest=_balanced(rest_sides, scores[rest]),
        deviation=float(along.std()),
        fitted=len(train),
    )


def condition(direction: Direction, others: Sequence[Direction]) -> Direction:
    """The direction without its share of others: its projection on their orthogonal complement, brought back to its
    length (conditional manipulation, section 3.3 of the paper). Codes vary less along it: `in_deviations`
    gives it steps of one standard deviation again.

    Raises:
        LsapError: another is of another space or shape, or the direction is a mixture of the others.
    """
    vector = np.asarray(direction.vector, np.float64)
    for other in others:
        if (other.space, np.shape(other.vector)) != (direction.space, vector.shape):
            raise LsapError(
                f"direction {direction.name} of space {direction.space} cannot be conditioned on {other.name} of space "
                f"{other.space}; both have to be of one space and shape"
            )
    if not others:
        return direction
    span = np.stack([np.ravel(other.vector) for other in others]).astype(np.float64)
    span /= np.linalg.norm(span, axis=1, keepdims=True)
    # The Gram system span spanᵀ a = span v, solved without squaring its condition; the others may depend on each other.
    amounts = np.linalg.lstsq(span.T, vector.ravel(), rcond=1e-6)[0]
    left = vector.ravel() - amounts @ span
    length, whole = np.linalg.norm(left), np.linalg.norm(vector)
    names = ", ".join(other.name for other in others)
    if not length > 1e-4 * whole:  # rounding of float32 vectors leaves about 1e-7
        raise LsapError(f"direction {direction.name}: it is a mixture of {names}; condition it on fewer")
    return replace(
        direction,
        vector=(left * (whole / length)).reshape(vector.shape).astype(np.float32),
        source=f"{direction.source}, conditional on {names}",
        measures={},
    )


def in_deviations(G: Generator, directions: Sequence[Direction], samples: Scored) -> list[Direction]:
    """Directions of one space, those of W and S with steps of one standard deviation of the samples along them; those
    of Z as they are, where unit vectors have such steps.
    """
    if not directions or directions[0].space == "z":
        return list(directions)
    vectors = np.stack([one.vector for one in directions], axis=1).astype(np.float64)
    index = np.arange(len(samples.z))
    along = np.concatenate(
        [samples.codes(G, directions[0].space, index[i : i + CHUNK]) @ vectors for i in range(0, len(index), CHUNK)]
    )
    steps = along.std(axis=0) / np.square(vectors).sum(axis=0)
    return [replace(one, scale=float(step)) for one, step in zip(directions, steps, strict=True)]


def checked_space(space: str | Space) -> str:
    """The family, z, w or s; LsapError if InterFaceGAN does not serve it."""
    found = family(parse_space(space))
    if found not in SPACES:
        raise LsapError(f"InterFaceGAN finds directions of {', '.join(SPACES)}, not of {found}")
    return found


def _sides(scores: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the lowest scores, of the others and of the highest."""
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise LsapError(f"scores of shape {list(scores.shape)} have to be finite numbers, one per sample")
    if not 0 < ratio <= 0.5:
        raise LsapError(f"ratio {ratio}: a share of the samples for each side, above 0 and at most 0.5")
    if not np.ptp(scores):
        raise LsapError(f"all {len(scores)} scores are {scores[:1].sum():g}; the samples cannot be separated")
    for side, what in ((scores > 0, "have it"), (scores < 0, "are without it")):
        if side.sum() < LEAST:
            raise LsapError(
                f"{side.sum()} of {len(scores)} samples {what} (by the sign of their score), {LEAST} are needed; draw "
                "more samples, or leave this attribute out"
            )
    count = max(int(ratio * len(scores)), LEAST)
    order = np.argsort(scores, kind="stable")
    return order[:count], order[count:-count], order[-count:]


def _balanced(sides: np.ndarray, scores: np.ndarray) -> float:
    """Share of sides [N] that scores [N] agree with, the mean over both signs; nan where no score has one."""
    shares = [np.mean(sides[some] == side) for side, some in ((True, scores > 0), (False, scores < 0)) if some.any()]
    return float(np.mean(shares)) if shares else math.nan


def support_vector_machine() -> Any:
    """A new linear support vector machine of scikit-learn; LsapError if scikit-learn is not installed."""
    try:
        from sklearn.svm import SVC
    except ImportError:
        raise LsapError("InterFaceGAN needs scikit-learn: pip install '.[svm]' in lsap_jax's checkout") from None
    return SVC(kernel="linear")


def _checked(name: str, values: np.ndarray, count: int) -> np.ndarray:
    found = np.asarray(values, np.float64)
    if found.shape != (count,) or not np.isfinite(found).all():
        raise LsapError(f"scores {name} of {count} images have shape {list(found.shape)}, or are not finite")
    return found


@partial(jax.jit, static_argnums=1)
def _sphere(rng: jax.Array, shape: tuple[int, int]) -> jax.Array:
    return sphere.retract(jax.random.normal(rng, shape))


@partial(jax.jit, static_argnums=2)
def _images(G: Generator, z: jax.Array, psi: float) -> jax.Array:
    return jnp.clip(G.synthesis(G.mapping(z, truncation_psi=psi)), -1, 1)


@partial(jax.jit, static_argnums=(1, 3))
def _codes(G: Generator, space: str, z: jax.Array, psi: float) -> jax.Array:
    return parse_space(space).from_ws(G, G.mapping(z, truncation_psi=psi))
