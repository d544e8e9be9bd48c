"""The contract of feed-forward encoders, on which `lsap-jax encode` and the starts of inversions rely."""

from typing import Any, Protocol

import jax


class Encoder(Protocol):
    """A network from images to ws of a generator, and a pytree whose leaves are its weights.

    To add one, write a holder class with these members and a row of `registry.KINDS` with `encodes=True`.
    """

    @property
    def kind(self) -> str:
        """Its row of `registry.KINDS`, e.g. "encoder"."""

    @property
    def codes(self) -> str:
        """Name of the space of its codes, e.g. "w+" where the rows of ws differ, "w" where they are all the same."""

    @property
    def input_resolution(self) -> int:
        """r, the side in pixels of the images that it takes; the caller resizes them."""

    def __call__(self, images: jax.Array, G: Any, /) -> jax.Array:
        """Images [B, r, r, C] in [-1, 1] to ws [B, num_ws, w_dim] of the `Generator` G, which include the mean
        latent.

        G is for encoders that look at what their codes render to (ReStyle). The ws of an image do not depend on the
        other images of the batch.
        """
