"""Courses: directions that depend on the code, whose vectors are computed anew wherever the code has come to."""

import jax
import numpy as np
from flax import struct

from lsap_jax.models.generator import Generator
from lsap_jax.spaces import Space


class Course(struct.PyTreeNode):
    """The contract: a pytree of arrays, and a pure function of codes.

    Attributes:
        steps: of equal length into which a move is divided; the vectors are computed before each.
    """

    steps: int = struct.field(pytree_node=False, default=1, kw_only=True)

    def check(self, G: Generator, space: Space) -> None:
        """Raises LsapError where it does not fit codes of this space or generator."""
        raise NotImplementedError

    def at(self, G: Generator, space: Space, codes: dict[str, jax.Array]) -> jax.Array:
        """Steps of strength 1 of codes [B, ...], in the shape of their detail code, image by image."""
        raise NotImplementedError

    def arrays(self) -> dict[str, np.ndarray]:
        """All that the steps depend on besides the codes, for the digest that results record."""
        raise NotImplementedError
