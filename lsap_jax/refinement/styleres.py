"""StyleRes: residuals of an image, kept beside its codes, become a gated addition to the features of any codes.

The refinement holds the residuals. They are of what the encoder sees in the image and of the features of its unedited
codes, so an edit leaves them alone; the addition is computed for the features of whatever codes are rendered.

Reference: Pehlivan, Dalva, Dundar, StyleRes (arXiv 2212.14359), section 3.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import read
from lsap_jax.models.psp import PspEncoder
from lsap_jax.models.styleres import StyleRes
from lsap_jax.networks.irse import adaptive_average
from lsap_jax.networks.view import viewed
from lsap_jax.refinement.refiner import networks_of
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.transforms import GatedAddition
from lsap_jax.spaces import Space


class StyleResRefiner(struct.PyTreeNode, kw_only=True):
    """Finds the residuals of an image; StyleRes' networks are those that come with the generator.

    Attributes:
        encoder: the one that they were trained with.
    """

    encoder: PspEncoder

    def __call__(
        self,
        G: Generator,
        space: Space,
        codes: Mapping[str, jax.Array],
        images: jax.Array,
        rng: jax.Array,
        mask: jax.Array | None,
    ) -> tuple[dict[str, jax.Array], Refinement]:
        """As `Refiner`; what is added to features counts as much as their pixels in the mask.

        Raises:
            LsapError: the space has base codes, or its images random noise.
        """
        if space.has_base or space.noise_mode == "random":
            raise LsapError(
                f"method 'styleres': refines what ws or styles make, codes of {space.name} with noise "
                f"{space.noise_mode!r} are more than that; refine a run in W+, Z+ or another space without base code"
            )
        networks: StyleRes = networks_of(G, StyleRes.kind)
        layer = networks.layer(G.config)
        decoded = space.decode(G, dict(codes))
        _, features = G.features(decoded.ws, decoded.noise_mode, styles=decoded.styles, noise=decoded.noise)
        seen = viewed(images, self.encoder.view)
        _, c = self.encoder.with_unit(seen, networks.config.tap)  # of its codes nothing is computed
        residual = networks.residual(c, features[layer.name])
        weight = jnp.ones(images.shape[:3]) if mask is None else mask
        weight = adaptive_average(weight[..., None], layer.resolution)
        return dict(codes), Refinement(transforms={layer.name: GatedAddition(residual=residual, mask=weight)})


def encoder_for(networks: StyleRes, encoder: PspEncoder | None) -> PspEncoder:
    """The encoder whose features StyleRes' networks take.

    Raises:
        LsapError: there is none, or its features have another shape.
    """
    if encoder is None:
        raise LsapError(
            "method 'styleres': reads features of the encoder that it was trained with, and neither the generator nor "
            "the file of weights has an encoder of pSp's family; join both with `lsap-jax convert` or choose the "
            "generator.safetensors of its training"
        )
    c, view = networks.config, encoder.view
    image = jax.ShapeDtypeStruct((1, view.height, view.width, encoder.config.in_channels), jnp.float32)
    known = c.tap < len(encoder.config.units) and not encoder.config.sees_result
    found = jax.eval_shape(lambda E, x: E.with_unit(x, c.tap)[1], encoder, image).shape[1:] if known else ()
    if found != (c.resolution, c.resolution, c.encoder_channels):
        raise LsapError(
            f"method 'styleres': its networks take features [{c.resolution}, {c.resolution}, {c.encoder_channels}] of "
            f"the encoder's unit {c.tap}, this encoder has {list(found) or 'none'}; choose the one that they were "
            "trained with"
        )
    return encoder


def make(G: Generator, weights: str | None) -> StyleResRefiner:
    """The refiner for a generator with its networks. The encoder is that of the file of weights, else the generator's.

    Raises:
        LsapError: networks or encoder came neither with the generator nor with the file.
    """
    contents = None if weights is None else read(weights)
    if contents is not None and PspEncoder.kind in contents.parts:
        encoder = contents.build(PspEncoder.kind)
    else:
        encoder = G.parts.get(PspEncoder.kind)
    return StyleResRefiner(encoder=encoder_for(networks_of(G, StyleRes.kind), encoder))
