"""The contract of feed-forward encoders, on which `lsap-jax encode` and the starts of inversions rely."""

from typing import Any, Protocol

import jax

from lsap_jax.errors import LsapError
from lsap_jax.networks.families import GeneratorConfig
from lsap_jax.networks.view import View


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
    def view(self) -> View:
        """Size h x w of the images that it takes, and the filter by which the caller resizes them."""

    def __call__(self, images: jax.Array, G: Any, /) -> jax.Array:
        """Images [B, h, w, C] in [-1, 1] to ws [B, num_ws, w_dim] of the `Generator` G, which include the mean
        latent.

        G is for encoders that look at what their codes render to (ReStyle). The ws of an image do not depend on the
        other images of the batch.
        """


def check_fits(own: tuple[int, int, int], generator: GeneratorConfig, remedy: str) -> None:
    """Raises LsapError if a generator takes other ws, or makes other images, than an encoder is for.

    Args:
        own: rows and width of the encoder's ws, and channels of its images.
    """
    taken = (generator.num_ws, generator.w_dim, generator.img_channels)
    if own != taken:
        raise LsapError(
            f"the encoder makes ws of (rows, width) {own[:2]} from images with {own[2]} channels, this generator "
            f"has {taken[:2]} and {taken[2]}; {remedy}"
        )
