"""A generator made ready for one picture at a time: a program for each space, made once, whose arguments are codes."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from lsap_jax.editing.between import between
from lsap_jax.editing.direction import Direction, family
from lsap_jax.editing.moves import move
from lsap_jax.models.generator import Generator
from lsap_jax.pixels import to_uint8
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.render import renderer
from lsap_jax.spaces import Space
from lsap_jax.storage.file_bytes import png_bytes

Codes = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A generator and its programs on the first device."""

    G: Generator
    _renderers: dict[Space, Callable[..., np.ndarray]] = field(default_factory=dict)

    def picture(self, space: Space, codes: Codes, refinement: Refinement | None = None) -> np.ndarray:
        """uint8 [R, R, C] of a code [1, ...], as `lsap_jax.render` makes it."""
        if space not in self._renderers:
            self._renderers[space] = renderer(self.G, space, 1, jax.local_devices()[:1])
        return to_uint8(self._renderers[space](codes, refinement)[0])

    def warm(self, space: Space, codes: Codes, refinement: Refinement | None = None) -> None:
        """Compiles all that sliders and ways between takes need for such codes: afterwards directions, layers and
        strengths are arguments.
        """
        shape = space.shape(self.G)
        alike, unlike = np.ones(shape[-1:], np.float32), np.ones(shape, np.float32)
        unlike[:1] = 2  # rows that differ are an argument of another shape
        for vector in [alike, unlike][: len(shape)]:
            way = Direction(name="any", space=family(space), vector=vector)
            move(self.G, space, codes, way, 1.0)
        between(self.G, space, codes, codes, 0.5)
        self.picture(space, codes, refinement)


def data_url(picture: np.ndarray) -> str:
    """A picture, uint8 [R, R, C], as the address of an embedded PNG."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(picture)).decode("ascii")


def as_batch(tree: Any) -> Any:
    """The leaves of one image with a first axis of length 1."""
    return jax.tree.map(lambda a: np.asarray(a)[None], tree)
