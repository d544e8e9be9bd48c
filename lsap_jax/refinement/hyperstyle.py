"""HyperStyle: a hypernetwork predicts by how much the weights of the generator grow for an image, in a few passes.

Each pass sees the target beside what the codes render to with the changes so far, and its changes are added to them.
Weights are changed before modulation and demodulation. The codes stay as they are, and an edited code is rendered with
the same changes.

Reference: Alaluf et al., HyperStyle (arXiv 2111.15666), section 3.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from lsap_jax.models.generator import Generator
from lsap_jax.models.hyperstyle import HyperStyle
from lsap_jax.networks.view import viewed
from lsap_jax.refinement.options import check_ranges
from lsap_jax.refinement.refiner import networks_of
from lsap_jax.rendering.refinement import Refinement, Relative, rounded
from lsap_jax.rendering.render import synthesise
from lsap_jax.spaces import Space

Changes = dict[str, jax.Array]
OPTIONS: Mapping[str, Any] = {"passes": 0, "dtype": "float16"}
DTYPES = ("float16", "float32")


def weights_of(changes: Mapping[str, jax.Array]) -> Refinement:
    """The refinement of changes [B, k, k, in, out] by parameter."""
    return Refinement(weights={name: Relative(delta=delta) for name, delta in changes.items()})


class HyperStyleRefiner(struct.PyTreeNode, kw_only=True):
    """Changes weights as its hypernetwork says.

    Attributes:
        passes: 0 is as many as the network was trained with.
        dtype: in which the changes are kept.
    """

    network: HyperStyle
    passes: int = struct.field(pytree_node=False, default=0)
    dtype: str = struct.field(pytree_node=False, default="float16")

    def __call__(
        self,
        G: Generator,
        space: Space,
        codes: Mapping[str, jax.Array],
        images: jax.Array,
        rng: jax.Array,
        mask: jax.Array | None,
    ) -> tuple[dict[str, jax.Array], Refinement]:
        """As `Refiner`; the network sees whole images, whatever the mask."""
        return dict(codes), weights_of(rounded(self.deltas(G, space, codes, images), self.dtype))

    def deltas(self, G: Generator, space: Space, codes: Mapping[str, jax.Array], images: jax.Array) -> Changes:
        """Changes after all passes: parameter -> [B, k, k, in, out], in float32."""
        decoded, network = space.decode(G, dict(codes)), self.network
        target = viewed(images, network.config.view)
        first = network.changes(target, network.seen(synthesise(G, decoded)), G.config)

        def once(changes: Changes, _: None) -> tuple[Changes, None]:
            shown = network.seen(synthesise(G, decoded, weights_of(changes)))
            return jax.tree.map(jnp.add, changes, network.changes(target, shown, G.config)), None

        return jax.lax.scan(once, first, length=(self.passes or network.config.passes) - 1)[0]  # type: ignore[no-any-return]


def make(G: Generator, weights: str | None, *, passes: int, dtype: str) -> HyperStyleRefiner:
    """The refiner for a generator.

    Args:
        weights: file of the hypernetwork; None takes the one that comes with G.

    Raises:
        LsapError: there is none, it belongs to another generator, or an option is out of its range.
    """
    from lsap_jax.models.network_file import load

    check_ranges({"passes": passes, "dtype": dtype}, least={"passes": 0}, choices={"dtype": DTYPES})
    network: HyperStyle = networks_of(G, HyperStyle.kind) if weights is None else load(weights, HyperStyle.kind)
    network.check_fits(G.config)
    return HyperStyleRefiner(network=network, passes=passes, dtype=dtype)
