"""Random directions, the weakest assumption about what an edit is (F/Z+, arXiv 2307.08995 §4)."""

import jax
import numpy as np

from lsap_jax.editing.direction import Direction, family
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.spaces import Space, parse_space

DEVIATIONS = {"paper": 0.2, "code": 0.04}  # variance 0.04 in the paper; its code takes 0.04 as the deviation


def random_direction(G: Generator, space: str | Space, seed: int = 0, variance: str = "paper") -> Direction:
    """One vector [d] of independent normal numbers, the same for all rows and images; its length is left as drawn.

    Args:
        variance: "paper" 0.04, length about 4.5 for d = 512; "code" 0.0016, about 0.9.

    Raises:
        LsapError: no such space or variance, or a seed of more than 32 bits.
    """
    if variance not in DEVIATIONS:
        raise LsapError(f"variance {variance!r}: choose {' or '.join(DEVIATIONS)}")
    if not 0 <= seed < 2**32:
        raise LsapError(f"random:{seed}: seeds are 0 to {2**32 - 1}; greater ones would repeat them")
    space = parse_space(space)
    drawn = jax.random.normal(jax.random.key(seed), space.shape(G)[-1:])
    return Direction(
        name=f"random-{seed}{'' if variance == 'paper' else f'-{variance}'}",
        space=family(space),
        vector=np.asarray(drawn) * np.float32(DEVIATIONS[variance]),
        source=f"random, seed {seed}, standard deviation {DEVIATIONS[variance]} ({variance})",
    )
