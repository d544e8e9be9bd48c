"""A series: the pictures of one row of an edit folder, each with its label and the codes it is rendered from.

| series                  | folder              | labels                 | codes                                       |
|-------------------------|---------------------|------------------------|---------------------------------------------|
| `along` a direction     | its name            | the strengths: -3, 1.5 | moved (`lsap_jax.editing.moves`)            |
| `towards` another image | to-ID               | the points: 0, 0.25, 1 | between both (`lsap_jax.editing.between`)   |
| `mixed` with an image   | with-ID             | ranges: coarse, 4-7    | its own, with those layers of the other one |
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from lsap_jax.editing.between import between, check_points, mix_styles
from lsap_jax.editing.direction import Direction, check_fits, described
from lsap_jax.editing.layers import Layers, layer_mask
from lsap_jax.editing.moves import check_move, move
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.spaces import Space
from lsap_jax.storage.weights_file import digest

Codes = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Series:
    """A row of edits of an image.

    Attributes:
        name: of the folder.
        labels: of the pictures, names of their files.
        places: what each label stands for: a strength, a point, or a range of layers.
        at: from a place, also one between, and codes [N, ...] to edited ones; can be pickled.
        untouched: index of the label whose code and picture are the inversion's, bit for bit; None if there is none.
        only: id of the one image to which it applies; None is every image.
        blends: ids of the images whose codes it brings together; empty for edits of single codes.
        record: its description in edit.json; two series with equal records give equal codes.
    """

    name: str
    labels: tuple[str, ...]
    places: tuple[Any, ...]
    at: Callable[[Any, Codes], dict[str, np.ndarray]]
    untouched: int | None
    only: str | None = None
    blends: tuple[str, ...] = ()
    record: Mapping[str, Any]

    def codes(self, k: int, codes: Codes) -> dict[str, np.ndarray]:
        """Codes [N, ...] as edited for a label, by its index."""
        return self.at(self.places[k], codes)

    @property
    def is_continuous(self) -> bool:
        """Whether there are places between those of the labels; ranges of layers have none."""
        return all(isinstance(place, int | float) for place in self.places)


def along(
    G: Generator,
    space: Space,
    direction: Direction,
    strengths: Sequence[float],
    *,
    unit: str = "step",
    layers: Layers = None,
    absolute: str | None = None,
) -> Series:
    """Codes moved along a direction by every strength; options as in `lsap_jax.edit`.

    Raises:
        LsapError: the direction or an option does not belong to this space or generator; no strengths, one that is not
            finite, or two that are the same to four digits and would share a file.
    """
    check_move(space, direction, unit=unit, absolute=absolute)
    check_fits(G, space, direction)
    chosen = direction.layers if layers is None else layers
    layer_mask(G, space, chosen, space.base_resolution)
    labels = labels_of("strengths", strengths)
    return Series(
        name=file_name(direction.name),
        labels=labels,
        places=tuple(float(s) for s in strengths),
        at=partial(_moved, G, space, direction, {"unit": unit, "layers": layers, "absolute": absolute}),
        untouched=labels.index("0") if "0" in labels and absolute is None else None,
        record={
            **described(replace(direction, layers=chosen)),
            "strengths": [float(s) for s in strengths],
            "unit": unit,
            "absolute": absolute,
        },
    )


# Functions of modules, so that a series can be sent to another process.
def _moved(
    G: Generator, space: Space, direction: Direction, options: Mapping[str, Any], strength: float, codes: Codes
) -> dict[str, np.ndarray]:
    return move(G, space, codes, direction, strength, **options)


def _between(G: Generator, space: Space, other: Codes, point: float, codes: Codes) -> dict[str, np.ndarray]:
    return between(G, space, codes, other, point)


def _mixed(G: Generator, space: Space, other: Codes, layers: str, codes: Codes) -> dict[str, np.ndarray]:
    return mix_styles(G, space, codes, other, layers)


def towards(G: Generator, space: Space, a: str, b: str, codes_b: Codes, points: Sequence[float]) -> Series:
    """The way from image `a` to image `b`.

    Args:
        codes_b: of b, without the batch axis.
        points: in [0, 1]; 0 is a and 1 is b.

    Raises:
        LsapError: no points, or some outside of [0, 1].
    """
    check_points(points)
    labels = labels_of("points", points)
    other = {key: np.asarray(codes_b[key])[None] for key in space.keys}
    return Series(
        name=file_name(f"to-{b}"),
        labels=labels,
        places=tuple(float(t) for t in points),
        at=partial(_between, G, space, other),
        untouched=labels.index("0") if "0" in labels else None,
        only=a,
        blends=(a, b),
        record={"interpolate": [a, b], "sha256": digest(other), "points": [float(t) for t in points]},
    )


def mixed(G: Generator, space: Space, a: str, b: str, codes_b: Codes, ranges: Sequence[str]) -> Series:
    """Image `a` with ranges of layers of image `b`, one range after the other; f stays a's.

    Args:
        codes_b: of b, without the batch axis.
        ranges: as in `layer_rows`.

    Raises:
        LsapError: no ranges, or one that this space or generator does not have.
    """
    if not ranges:
        raise LsapError("mixing: name one or more ranges of layers, as coarse, middle, fine or 4-7")
    for layers in ranges:
        layer_mask(G, space, layers, space.base_resolution)
    other = {key: np.asarray(codes_b[key])[None] for key in space.keys}
    labels = tuple(file_name(layers) for layers in ranges)
    if len({label.casefold() for label in labels}) < len(labels):
        raise LsapError(f"ranges {', '.join(ranges)}: each must differ from the others, as they name files")
    return Series(
        name=file_name(f"with-{b}"),
        labels=labels,
        places=tuple(ranges),
        at=partial(_mixed, G, space, other),
        untouched=None,
        only=a,
        blends=(a, b),
        record={"mix": [a, b], "sha256": digest(other), "layers": list(ranges)},
    )


def file_name(text: str) -> str:
    """A text as one plain file name; different texts give different names."""
    plain = re.sub(r"[^\w.+-]", "_", text, flags=re.ASCII)[:100].lstrip(".")
    return plain if plain and plain == text else f"{plain[:90]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def labels_of(what: str, values: Sequence[float]) -> tuple[str, ...]:
    """Numbers as names of files, to four digits; LsapError if there are none, two are alike or one is not finite."""
    labels = tuple(f"{float(v) + 0.0:.4g}" for v in values)  # + 0: a negative zero is zero
    if not labels:
        raise LsapError(f"no {what}; give one or more numbers")
    most = float(np.finfo(np.float32).max)  # not a float32: NumPy would warn about the comparison
    if wrong := [label for label in labels if not abs(float(label)) <= most]:
        raise LsapError(f"{what} {', '.join(labels)}: {wrong[0]} is not a finite number of 32 bits")
    if len(set(labels)) < len(labels):
        raise LsapError(f"{what} {', '.join(labels)}: each must differ from the others by four digits")
    return labels
