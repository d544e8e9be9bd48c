"""Sliders: the directions that a client may name, and the one direction that several sliders make together."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from lsap_jax.editing.direction import FAMILIES, Direction, family, fitted
from lsap_jax.editing.layers import Layers, layer_mask, layer_rows
from lsap_jax.editing.moves import move
from lsap_jax.editing.named import METHODS, bundled_directions, cached_directions, find, suited
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.spaces import Space
from lsap_jax.spaces.statistics import Report

NUMBERED = re.compile(r"(ganspace|sefa|random):(\d{1,9})")  # nothing that could be a file
NAMED = re.compile(r"(sefa|random)-(\d{1,9})")  # what those are called that are found again at once
TOGETHER = "together"  # name of the direction that several sliders make

Codes = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Slider:
    """A direction and how far to go along it.

    Attributes:
        layers: a range instead of the direction's own.
    """

    direction: Direction
    strength: float
    layers: Layers = None


def catalogue(G: Generator, given: Iterable[Direction] = ()) -> dict[str, dict[str, Direction]]:
    """The directions of each family by name: given ones, those bundled with the generator and cached ones, in this
    order. Those that depend on the code (trajectories) are left out: several of them do not make one direction.
    """
    known = [*given, *bundled_directions(G), *cached_directions(G)]
    found: dict[str, dict[str, Direction]] = {}
    for name in FAMILIES:
        own = [one for one in suited(G, name, known) if one.trajectory is None]
        found[name] = {one.name: one for one in reversed(own)}
        found[name] = dict(sorted(found[name].items()))
    return found


def offered(G: Generator, texts: Iterable[str]) -> list[Direction]:
    """Directions that texts of `lsap_jax.editing.named` stand for, of every family that has them.

    Raises:
        LsapError: a text stands for none.
    """
    found: list[Direction] = []
    for text in texts:
        own, errors = [], []
        for name in FAMILIES:
            try:
                own += find(G, name, text)
            except LsapError as error:
                errors.append(error)
        if not own:
            raise errors[0]
        found += own
    return found


def numbered(G: Generator, space: Space, text: str, report: Report | None = None) -> Direction:
    """The direction "ganspace:K", "sefa:K" or "random:SEED"; names of files are not looked for.

    Raises:
        LsapError: another text, or the method has no such direction of this space.
    """
    if not (match := NUMBERED.fullmatch(text)):
        raise LsapError(f"direction {text!r}: write ganspace:K, sefa:K or random:SEED, or a name of the list")
    return METHODS[match[1]].find(G, family(space), match[2], report)[0]


def combined(G: Generator, space: Space, sliders: Sequence[Slider]) -> tuple[Direction, float] | None:
    """What sliders do together, as a direction and a strength for `move`; None if all are at 0.

    A single slider is its own direction. Several are the sum of their steps, so their order does not matter; z is put
    back onto its sphere once. Saved as a file, the direction does the same by `lsap-jax edit` at strength 1.

    Raises:
        LsapError: a direction or a range of layers does not fit codes of this space.
    """
    moving = [one for one in sliders if one.strength != 0]
    if len(moving) < 2:
        return next(((_own(one), one.strength) for one in moving), None)
    total, rows = np.zeros(space.shape(G), np.float32), set[int]()
    for one in moving:
        direction = _own(one)
        mask = layer_mask(G, space, direction.layers, space.base_resolution)
        step = fitted(G, space, direction) * np.float32(direction.scale) * np.float32(one.strength)
        total += np.where(mask, step, np.float32(0))
        rows |= set(layer_rows(direction.layers, G.num_ws))
    if not total.any():
        return None
    whole = len(rows) == G.num_ws
    text = " + ".join(f"{one.strength:g} {one.direction.name}{_in(one)}" for one in moving)
    made = Direction(
        name=TOGETHER,
        space=family(space),
        vector=total,
        layers=None if whole else tuple(sorted(rows)),
        source=text,
        generator=G.network_sha256,
    )
    return made, 1.0


def is_known(G: Generator, direction: Direction) -> bool:
    """Whether `lsap-jax edit` finds the same direction by its name alone, on any machine. One of a file may have the
    name of another, and GANSpace's depend on the samples.
    """
    alike = [one for one in bundled_directions(G) if (one.name, one.space) == (direction.name, direction.space)]
    if match := NAMED.fullmatch(direction.name):
        with suppress(LsapError):
            alike += METHODS[match[1]].find(G, direction.space, match[2], None)
    return any(_does_the_same(one, direction) for one in alike)


def _does_the_same(a: Direction, b: Direction) -> bool:
    return np.array_equal(a.vector, b.vector) and a.scale == b.scale


def moved(G: Generator, space: Space, codes: Codes, sliders: Sequence[Slider]) -> Codes:
    """Codes [N, ...] as sliders move them; the same arrays where all are at 0. Errors as `combined`."""
    found = combined(G, space, sliders)
    return codes if found is None else move(G, space, codes, *found)


def _own(one: Slider) -> Direction:
    return one.direction if one.layers is None else replace(one.direction, layers=one.layers)


def _in(one: Slider) -> str:
    return "" if one.layers is None else f" ({one.layers})"
