"""The identity loss of pSp, e4e and LSAP, and their MoCo loss: distance between the unit vectors of two images."""

import jax
import jax.numpy as jnp
from flax import struct

from lsap_jax.models.embedder import Embedder, embeddings


class Likeness(struct.PyTreeNode, kw_only=True):
    """1 - ⟨a, b⟩ for the unit vectors of two images (`judges.Judge`), by a network that crops and resizes by itself."""

    embedder: Embedder

    @property
    def name(self) -> str:
        """Name of the network in results."""
        return self.embedder.record.name

    @property
    def resolution(self) -> int:
        """0: images keep their size."""
        return 0

    @property
    def blackens(self) -> bool:
        """A mask changes nothing."""
        return False

    @property
    def description(self) -> str:
        """One line for results."""
        record = self.embedder.record
        return f"1 - cosine of {record.network}, {record.crop}, {record.resize}"

    def features(self, images: jax.Array) -> jax.Array:
        """Unit vectors [B, D] of images [B, H, W, C] in [-1, 1], of one or three channels."""
        return embeddings(self.embedder, jnp.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images)

    def distance(self, a: jax.Array, b: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Distance [B]; no pixel has a weight of its own."""
        return 1 - jnp.sum(a * b, -1)

    def freeze(self, side: int, winograd: int = 0) -> "Likeness":
        """The judge itself: its convolutions have no other form."""
        return self
