"""Statistics of the latent spaces of a generator."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct


class LatentStatistics(struct.PyTreeNode, kw_only=True):
    """Statistics of the latent spaces of a generator, which `lsap_jax.spaces.statistics` estimates from samples.

    Attributes:
        w_mean, w_std: [w_dim] mean and standard deviation of w = mapping(z).
        p_mean: [w_dim] mean of p = LeakyReLU_5(w).
        p_values, p_vectors: [w_dim] variances of p along its principal axes, largest first, and the axes as columns
            [w_dim, w_dim].
        anchors: layer name -> [C], the mean μ of the unit styles of each layer of S^N (LSAP, arXiv 2209.12746).
        samples, anchor_samples: how many z they were estimated from.

    Of images with classes (`Generator.given`) every array has a first axis for the images.
    """

    kind: ClassVar[str] = "statistics"
    w_mean: jax.Array
    w_std: jax.Array
    p_mean: jax.Array
    p_values: jax.Array
    p_vectors: jax.Array
    anchors: Mapping[str, jax.Array]
    samples: int = struct.field(pytree_node=False)
    anchor_samples: int = struct.field(pytree_node=False)

    @property
    def w_spread(self) -> jax.Array:
        """Root mean square distance of w from its mean, over all dimensions together (the projector's w_std)."""
        return jnp.sqrt(jnp.sum(jnp.square(self.w_std), -1))

    def each(self, function: Callable[["LatentStatistics", Any], jax.Array], x: Any) -> jax.Array:
        """`function(statistics, x)` of a tree x with leaves [B, ...], each image with its own statistics."""
        if self.w_mean.ndim == 1:
            return function(self, x)
        one = jax.vmap(lambda own, x: function(own, jax.tree.map(lambda a: a[None], x))[0])
        return one(self, x)  # type: ignore[no-any-return]
