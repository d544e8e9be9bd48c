"""F: the base code f, a feature map of the generator that carries the spatial layout (BDInvert; F/Z+, arXiv
2307.08995 §3.2).
"""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from lsap_jax.errors import LsapError
from lsap_jax.models.basecode import NO_ENTRY

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator


def default_resolution(G: "Generator") -> int:
    """An eighth of the image, at most the paper's 16: 16 from 128 px on, 8 for 64 px."""
    return max(4, min(16, G.img_resolution // 8))


def check_resolution(G: "Generator", resolution: int) -> int:
    """The resolution, or the default for 0. Raises LsapError where f cannot enter there."""
    resolution = resolution or default_resolution(G)
    if not G.config.entries:
        raise LsapError(NO_ENTRY)
    if resolution not in G.config.entries:
        raise LsapError(f"base_resolution {resolution}: choose one of this generator's {tuple(G.config.entries)}")
    return resolution


def base_shape(G: "Generator", resolution: int) -> tuple[int, int, int]:
    """Shape (s, s, C) of the base code of one image."""
    return resolution, resolution, G.config.entries[resolution].channels


def own_feature(G: "Generator", resolution: int) -> jax.Array:
    """[1, s, s, C]: the generator's own output of the layer that f replaces at the mean w, where no encoder gives a
    start; [B, s, s, C] at the means of the classes of a batch (`G.mean_w`).
    """
    mean = G.mean_w
    ws = jnp.broadcast_to(mean[:, None], (len(mean), G.num_ws, G.w_dim))
    return G.features(ws)[1][G.config.entries[resolution].name]


def uses_encoder(G: "Generator", resolution: int, source: str) -> bool:
    """Whether f starts at the base-code encoder's output.

    Args:
        source: "encoder" requires the encoder, "w_avg" takes `own_feature`, "auto" takes the encoder where there is one
            for this resolution.

    Raises:
        LsapError: source is "encoder" and there is no such encoder, or source is another word.
    """
    if source not in ("auto", "encoder", "w_avg"):
        raise LsapError(f"init.f={source!r}: choose auto, encoder or w_avg")
    fits = G.basecode is not None and G.basecode.config.base_resolution == resolution
    if source == "encoder" and not fits:
        has = "none" if G.basecode is None else f"one for base resolution {G.basecode.config.base_resolution}"
        raise LsapError(
            f"init.f='encoder' needs a base-code encoder for resolution {resolution}; this generator has {has}"
        )
    return fits and source != "w_avg"


def start(G: "Generator", images: jax.Array, resolution: int, source: str) -> jax.Array:
    """Start f0 [B, s, s, C] of the base code (`uses_encoder` says from where).

    Args:
        images: [B, 8s, 8s, C] in [-1, 1] for the encoder; without it only their number counts.
    """
    if uses_encoder(G, resolution, source):
        assert G.basecode is not None
        return G.basecode(images)
    f = own_feature(G, resolution)
    return jnp.broadcast_to(f, (images.shape[0], *f.shape[1:]))
