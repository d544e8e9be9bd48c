"""HFGI: one pass of two networks scales and shifts a layer's features, so that an image keeps what its codes lost.

What is lost is the target less the image of its codes. The refinement holds these details, and they are aligned with
the image of whatever codes are rendered: an edited code has its own scale and shift.

Reference: Wang et al., High-Fidelity GAN Inversion for Image Attribute Editing (arXiv 2109.06590), section 3.
"""

from collections.abc import Mapping

import jax
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.models.hfgi import Hfgi
from lsap_jax.networks.pixel_maps import bilinear
from lsap_jax.networks.view import square, viewed
from lsap_jax.refinement.refiner import networks_of
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.render import synthesise
from lsap_jax.rendering.transforms import Details
from lsap_jax.spaces import Space


class HfgiRefiner(struct.PyTreeNode):
    """Keeps what the codes of an image lost; its networks are those that come with the generator."""

    def __call__(
        self,
        G: Generator,
        space: Space,
        codes: Mapping[str, jax.Array],
        images: jax.Array,
        rng: jax.Array,
        mask: jax.Array | None,
    ) -> tuple[dict[str, jax.Array], Refinement]:
        """As `Refiner`; details count as much as their pixels in the mask.

        Raises:
            LsapError: the image of these codes does not depend on their ws, or styles, alone.
        """
        if space.has_base or space.has_noise or space.noise_mode != "const":
            raise LsapError(
                f"method 'hfgi': refines what ws or styles make with the generator's own noise; codes of {space.name} "
                f"with noise {'of their own' if space.has_noise else space.noise_mode!r} are more than that; refine a "
                "run in W+, Z+ or another space without base code and noise"
            )
        networks: Hfgi = networks_of(G, Hfgi.kind)
        side = networks.config.input_resolution
        plain = synthesise(G, space.decode(G, dict(codes)))
        details = viewed(images, square(side, networks.config.filter)) - networks.seen(plain)
        if mask is not None:
            details = details * bilinear(mask[..., None], (side, side))
        return dict(codes), Refinement(transforms={networks.layer(G.config).name: Details(details=details)})


def make(G: Generator, weights: str | None) -> HfgiRefiner:
    """The refiner for a generator with its networks.

    Raises:
        LsapError: none came with it or with the file of weights, which the caller attaches.
    """
    networks_of(G, Hfgi.kind)
    return HfgiRefiner()
