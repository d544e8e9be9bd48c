"""StyleCLIP's latent mapper: the step of an edit from the code that is edited, with a network for each range of rows.

Its normalisation is that of the original, over the rows of a range and not over the numbers of a row.

Reference: Patashnik et al., StyleCLIP (arXiv 2103.17249), section 5.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.bounds import Channels, length
from lsap_jax.networks.layers import FullyConnected
from lsap_jax.networks.parameters import initial_shapes

ROWS = {"course": slice(0, 4), "medium": slice(4, 8), "fine": slice(8, None)}
LAYERS = 4
LEARNING_RATE = 0.01


@dataclass(frozen=True, kw_only=True)
class MapperConfig:
    """Shape of a mapper.

    Attributes:
        w_dim: numbers in a row of ws.
        levels: ranges of rows that it moves; all other rows stay.
    """

    w_dim: Channels
    levels: Annotated[tuple[Literal["course", "medium", "fine"], ...], length(1, 3)]


class Layers(nn.Module):
    """Dense layers with leaky ReLUs, as wide as w."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for k in range(LAYERS):
            x = FullyConnected(x.shape[-1], activation="lrelu", lr_multiplier=LEARNING_RATE, name=str(k + 1))(x)
        return x


class Level(nn.Module):
    """Rows [B, n, w_dim] of a range to their steps."""

    @nn.compact
    def __call__(self, rows: jax.Array) -> jax.Array:
        power = jnp.mean(jnp.square(rows), axis=1, keepdims=True)
        return Layers(name="mapping")(rows * jax.lax.rsqrt(power + 1e-8))


class Mapper(nn.Module):
    """ws [B, num_ws, w_dim] to steps of the same shape, 0 in rows that no level moves."""

    config: MapperConfig

    @nn.compact
    def __call__(self, ws: jax.Array) -> jax.Array:
        steps = jnp.zeros_like(ws)
        for level in self.config.levels:
            rows = ROWS[level]
            if ws[:, rows].shape[1]:
                steps = steps.at[:, rows].set(Level(name=f"{level}_mapping")(ws[:, rows]))
        return steps


def param_shapes(config: MapperConfig) -> dict[str, Any]:
    """Params tree of a mapper as ShapeDtypeStructs."""
    return initial_shapes(Mapper(config), (1, ROWS["fine"].start + 1, config.w_dim))
