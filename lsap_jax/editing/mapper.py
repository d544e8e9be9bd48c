"""Directions of StyleCLIP's mappers: ws + strength · M(ws), with M a network (arXiv 2103.17249, section 5)."""

from pathlib import Path

import jax
import numpy as np
from flax import struct
from flax.traverse_util import flatten_dict

from lsap_jax.editing.direction import Direction
from lsap_jax.editing.direction_file import check_name
from lsap_jax.editing.layers import Layers
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import load
from lsap_jax.models.styleclip import StyleclipMapper
from lsap_jax.spaces import Space


class MappedStep(struct.PyTreeNode, kw_only=True):
    """The step that a mapper makes of a code of W+, as a `Trajectory`."""

    mapper: StyleclipMapper
    steps: int = struct.field(pytree_node=False, default=1)

    def check(self, G: Generator, space: Space) -> None:
        if not space.per_layer:
            raise LsapError(f"a mapper moves every row otherwise, space {space.name} has one row: use {space.name}+")
        if G.w_dim != self.mapper.config.w_dim:
            raise LsapError(
                f"the mapper takes w of {self.mapper.config.w_dim} numbers, this generator has {G.w_dim}: it was made "
                "for another generator"
            )

    def at(self, G: Generator, space: Space, codes: dict[str, jax.Array]) -> jax.Array:
        return self.mapper(codes[space.key])

    def arrays(self) -> dict[str, np.ndarray]:
        params = flatten_dict(dict(self.mapper.params))
        return {"/".join(path): np.asarray(leaf) for path, leaf in params.items()}


def mapper_direction(path: Path, layers: Layers = None) -> Direction:
    """The direction of a mapper's file, original or converted, under the file's name.

    Raises:
        LsapError, ConversionError: the file is damaged, or its name cannot stand in files and commands.
    """
    check_name(path, path.stem)
    mapper: StyleclipMapper = load(path, StyleclipMapper.kind)
    return Direction(
        name=path.stem,
        space="w",
        trajectory=MappedStep(mapper=mapper),
        layers=layers,
        source=f"file {path.name}, mapper",
    )
