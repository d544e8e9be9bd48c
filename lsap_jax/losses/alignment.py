"""LSAP's alignment of codes with samples of the generator (arXiv 2209.12746).

S^N, the normalised style space: the style of every layer divided by its length. NSCD compares it with the anchor μ of
the same layer, the mean of the unit styles of 100,000 samples:

    NSCD_l = 1 - <ŝ_l, μ_l>        ŝ_l = s_l / |s_l|

which is the mean cosine distance to those samples. Genuine samples have 1 - |μ_l|² on average: codes with a smaller
distance have collapsed towards the mean direction, which is not better.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from lsap_jax.networks.layer_table import LayerTable
from lsap_jax.networks.layers import channelwise

Styles = Mapping[str, jax.Array]


def sn_layers(config: LayerTable, base_resolution: int = 0) -> tuple[str, ...]:
    """Layers of S^N: every 3x3 convolution and the last torgb; the l-th of them reads row l of ws.

    Args:
        base_resolution: resolution of a base code f; layers that f replaces are then left out.
    """
    live = config.live_layers(base_resolution)
    return tuple(layer.name for layer in config.row_layers if layer in live)


def unit_styles(config: LayerTable, styles: Styles) -> dict[str, jax.Array]:
    """S^N: styles [B, C] of each layer divided by their length, by layer; a style of zeros stays zero."""
    found = {}
    for name in sn_layers(config):
        s = styles[name]
        squared = jnp.sum(jnp.square(s), -1, keepdims=True)
        found[name] = s * jax.lax.rsqrt(jnp.where(squared > 0, squared, 1.0))
    return found


def nscd(
    config: LayerTable,
    styles: Styles,
    anchors: Mapping[str, jax.Array],
    *,
    base_resolution: int = 0,
    renormalise: bool = False,
) -> jax.Array:
    """NSCD of every layer [B, L] of codes with these styles.

    Args:
        styles: layer -> [B, C].
        anchors: layer -> [C], of `LatentStatistics`.
        base_resolution: of a base code; see `sn_layers`.
        renormalise: bring the anchors to unit length; the paper leaves this open, the authors' code does not do it.
    """
    unit = unit_styles(config, styles)
    columns = []
    for name in sn_layers(config, base_resolution):
        anchor = _unit(anchors[name]) if renormalise else anchors[name]
        columns.append(1 - jnp.sum(unit[name] * channelwise(anchor, 2), -1))
    return jnp.stack(columns, axis=1)


@partial(jax.jit, static_argnames=("config", "base_resolution"))
def genuine_level(config: LayerTable, anchors: Mapping[str, jax.Array], base_resolution: int = 0) -> jax.Array:
    """Expected NSCD [L] of samples of the generator itself: 1 - |μ_l|²."""
    return jnp.stack([1 - jnp.sum(jnp.square(anchors[n]), -1) for n in sn_layers(config, base_resolution)])


def _unit(anchor: jax.Array) -> jax.Array:
    return anchor / jnp.sqrt(jnp.sum(jnp.square(anchor), -1))


def alignment(distances: jax.Array, reduce: str) -> jax.Array:
    """L_align [B] of NSCD [B, L]: its "sum" over the layers as in LSAP's code, or their "mean".

    The code minimises -Σ <ŝ_l, μ_l>, which differs by the constant L and has the same gradient.
    """
    summed = jnp.sum(distances, 1)
    return summed if reduce == "sum" else summed / distances.shape[1]


def column_names(count: int) -> list[str]:
    """Names of the columns of NSCD by layer, in results."""
    return [f"nscd_{index:02d}" for index in range(count)]


def mean_nscd(distances: jax.Array) -> dict[str, Any]:
    """The metric by name: "nscd" [B], the mean over the layers, and the NSCD of each layer under its `column_names`."""
    columns = {name: distances[:, i] for i, name in enumerate(column_names(distances.shape[1]))}
    return {"nscd": jnp.mean(distances, 1), **columns}
