"""A mapper of StyleCLIP with its weights."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from flax import struct

from lsap_jax.networks.styleclip import Mapper, MapperConfig


class StyleclipMapper(struct.PyTreeNode, kw_only=True):
    """Mapper of StyleCLIP: codes to the step of its edit."""

    kind: ClassVar[str] = "styleclip_mapper"
    config: MapperConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    def __call__(self, ws: jax.Array) -> jax.Array:
        """ws [B, num_ws, w_dim] to steps of strength 1 of the same shape."""
        return Mapper(self.config).apply({"params": self.params}, ws)  # type: ignore[return-value]
