"""BiSeNet for the parts of faces, with its weights."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import struct

from lsap_jax.networks.face_parser import FaceParser, FaceParserConfig
from lsap_jax.networks.pixel_maps import area
from lsap_jax.networks.psp import upsampled

# Of CelebAMask-HQ, by the public network's numbers, in the words of `lsap_jax.refinement.domain.CLASSES`.
CLASSES = (
    "background", "face", "lb", "rb", "le", "re", "glass", "lr", "rr", "earr", "nose", "imouth", "ulip", "llip", "neck",
    "neckl", "cloth", "hair", "hat",
)  # fmt: skip


class FaceParserNetwork(struct.PyTreeNode, kw_only=True):
    """Tells the part of a face that every pixel shows."""

    kind: ClassVar[str] = "face_parser"
    config: FaceParserConfig = struct.field(pytree_node=False)
    params: Mapping[str, Any]

    def shares(self, images: jax.Array) -> jax.Array:
        """Probabilities [B, R, R, classes] for images [B, R, R, 1 or 3] in [-1, 1].

        Images that are larger than those of the training are averaged over areas before.
        """
        side = images.shape[1]
        seen = area(images, (min(side, self.config.input_resolution),) * 2)
        logits = FaceParser(self.config).apply({"params": self.params}, jnp.broadcast_to(seen, (*seen.shape[:3], 3)))
        return jax.nn.softmax(upsampled(logits, side, side), axis=-1)  # type: ignore[arg-type]
