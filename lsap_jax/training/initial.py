"""Params of a network as torch draws them before a training, where the originals were torch's.

Drawn by numpy: a program that draws hundreds of arrays takes longer to compile than a step.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

EQUALISED = "linear"  # name of layers whose weights are scaled at run time (pSp's EqualLinear)
SLOPE = 0.25  # of a PReLU


def initial_params(shapes: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Params of a tree of ShapeDtypeStructs with torch's names.

    Weights of convolutions and dense layers are uniform within ±1/√(inputs), those of equalised layers normal; norms
    and running variances are 1, PReLUs 0.25, all else is 0.
    """
    rng, flat = np.random.default_rng(seed), flatten_dict(dict(shapes))

    def value(path: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
        if path[-1] == "weight" and len(shape) > 1:
            if path[-2] == EQUALISED:
                return rng.standard_normal(shape, np.float32)
            bound = 1 / math.sqrt(math.prod(shape[:-1]))
            return rng.uniform(-bound, bound, shape).astype(np.float32)
        norm = (*path[:-1], "running_mean") in flat
        level = (1.0 if norm else SLOPE) if path[-1] == "weight" else float(path[-1] == "running_var")
        return np.full(shape, level, np.float32)

    return unflatten_dict({path: jnp.asarray(value(path, leaf.shape)) for path, leaf in flat.items()})
