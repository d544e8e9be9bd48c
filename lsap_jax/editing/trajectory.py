"""Trajectories: directions that depend on the code, whose vectors are computed anew wherever the code has come to."""

from typing import Protocol

import jax
import numpy as np

from lsap_jax.models.generator import Generator
from lsap_jax.spaces import Space


class Trajectory(Protocol):
    """The contract: a pytree of arrays, and a pure function of codes.

    Attributes:
        steps: of equal length into which a move is divided; the vectors are computed before each.
    """

    @property
    def steps(self) -> int: ...

    def check(self, G: Generator, space: Space) -> None:
        """Raises LsapError where it does not fit codes of this space or generator."""

    def at(self, G: Generator, space: Space, codes: dict[str, jax.Array]) -> jax.Array:
        """Steps of strength 1 of codes [B, ...], in the shape of their detail code, image by image."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """All that the steps depend on besides the codes, for the digest that results record."""
        ...
