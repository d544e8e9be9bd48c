"""Gives a generator a latent encoder, in place of its own if it has one."""

from typing import Any

import jax
import jax.numpy as jnp
from flax.errors import FlaxError

from lsap_jax.data.fitting import BARRED
from lsap_jax.errors import LsapError
from lsap_jax.models.encoder import Encoder
from lsap_jax.models.generator import Generator


def fit_of(E: Encoder | None, fit: str) -> str:
    """How pictures are fitted to the generator where the user does not say it: `fit`, or as the encoder needs it."""
    return BARRED if E is not None and E.view.barred else fit


def with_encoder(G: Generator, E: Encoder) -> Generator:
    """G with this encoder, of any kind, as its latent encoder.

    Raises:
        LsapError: the encoder does not take this generator's images, or its ws have another shape.
    """
    image = jax.ShapeDtypeStruct((1, *E.view[:2], G.img_channels), jnp.float32)
    wanted = (1, G.num_ws, G.w_dim)
    try:
        found: Any = jax.eval_shape(lambda E, images: E(images, G), E, image).shape
    except (FlaxError, TypeError, ValueError) as error:
        raise LsapError(f"the encoder does not take images with {G.img_channels} channels ({error})") from error
    if found != wanted:
        raise LsapError(
            f"the encoder makes ws of (rows, width) {found[1:]}, this generator takes {wanted[1:]}; choose an encoder "
            "that was trained for it"
        )
    others = [kind for kind, part in G.parts.items() if hasattr(part, "codes")]
    return G.without(*others).with_part(E.kind, E)
