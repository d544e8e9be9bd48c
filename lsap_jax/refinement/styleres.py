"""StyleRes: residuals of an image, kept beside its codes, become a gated addition to the features of any codes.

The refinement holds the residuals. They are of what the encoder sees in the image and of the features of its unedited
codes, so an edit leaves them alone; the addition is computed for the features of whatever codes are rendered.

Beyond the paper, steps of Adam may then move the codes, while the residuals stay, towards what renders to the image.

Reference: Pehlivan, Dalva, Dundar, StyleRes (arXiv 2212.14359), section 3.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.inversion.optimizers import ramp
from lsap_jax.losses.judges import Judge
from lsap_jax.losses.pixel import mse
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import read
from lsap_jax.models.psp import PspEncoder
from lsap_jax.models.styleres import StyleRes
from lsap_jax.networks.arithmetic import PRECISIONS, convolutions_in
from lsap_jax.networks.irse import adaptive_average
from lsap_jax.networks.view import viewed
from lsap_jax.networks.winograd import paying_channels
from lsap_jax.refinement.options import check_ranges, check_something_is_minimised, judge_of
from lsap_jax.refinement.refiner import Codes, Course, networks_of
from lsap_jax.refinement.steps import Params, descend
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.render import synthesise
from lsap_jax.rendering.transforms import GatedAddition
from lsap_jax.spaces import Space

OPTIONS: dict[str, Any] = {
    "steps": 0,
    "lr": 0.01,
    "lr_z": 0.01,
    "mse": 1.0,
    "perceptual": 1.0,
    "network": "auto",
    "lpips": "",
    "resolution": 0,
    "keep": "last",
    "precision": "high",
}
LEAST = {"steps": 0, "mse": 0, "perceptual": 0, "resolution": 0}
CHOICES = {"keep": ("last", "best"), "precision": tuple(PRECISIONS)}


class StyleResRefiner(struct.PyTreeNode, kw_only=True):
    """Finds the residuals of an image; StyleRes' networks are those that come with the generator.

    Attributes:
        encoder: the one that they were trained with.
        judge: the perceptual distance of the steps; None leaves it out.
        steps: of Adam after the one pass; the other options are those of the steps, see docs/styleres.md.
    """

    encoder: PspEncoder
    judge: Judge | None = None
    steps: int = struct.field(pytree_node=False, default=0)
    lr: float = struct.field(pytree_node=False, default=0.01)
    lr_z: float = struct.field(pytree_node=False, default=0.01)
    mse: float = struct.field(pytree_node=False, default=1.0)
    perceptual: float = struct.field(pytree_node=False, default=1.0)
    keep: str = struct.field(pytree_node=False, default="last")
    precision: str = struct.field(pytree_node=False, default="high")

    def __call__(
        self,
        G: Generator,
        space: Space,
        codes: Mapping[str, jax.Array],
        images: jax.Array,
        rng: jax.Array,
        mask: jax.Array | None,
    ) -> tuple[Codes, Refinement] | tuple[Codes, Refinement, Course]:
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
        refinement = Refinement(transforms={layer.name: GatedAddition(residual=residual, mask=weight)})
        if not self.steps:
            return dict(codes), refinement
        codes, course = self.fit(G, space, codes, refinement, images, mask)
        return codes, refinement, course

    def fit(
        self,
        G: Generator,
        space: Space,
        codes: Mapping[str, jax.Array],
        refinement: Refinement,
        images: jax.Array,
        mask: jax.Array | None,
    ) -> tuple[Codes, Course]:
        """The codes that render to the images under a refinement, from given ones; those on the sphere stay on it."""
        winograd = paying_channels(jax.local_devices())
        judge = None if self.judge is None else self.judge.freeze(G.img_resolution, winograd)
        G = G.freeze(winograd)
        features = None if judge is None else judge.features(images)

        def loss(params: Params) -> jax.Array:
            image = synthesise(G, space.decode(G, {**codes, **params}), refinement)
            image = jax.lax.optimization_barrier(image)
            total = self.mse * mse(image, images, mask)
            if judge is not None:
                total = total + self.perceptual * judge.distance(judge.features(image), features, mask)
            return total

        def land(params: Params) -> Params:
            return {space.key: space.retract({**codes, **params})[space.key]}

        rates = {space.key: self.lr_z if space.on_sphere else self.lr}
        with convolutions_in(self.precision):
            found, course = descend(
                loss, {space.key: codes[space.key]}, rates, self.steps, schedule=ramp, land=land, keep=self.keep
            )
        return {**codes, **found}, course


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


def make(G: Generator, weights: str | None, **options: Any) -> StyleResRefiner:
    """The refiner for a generator with its networks. The encoder is that of the file of weights, else the generator's.

    Args:
        options: all of `OPTIONS`.

    Raises:
        LsapError: networks or encoder came neither with the generator nor with the file, or an option is out of range.
    """
    check_ranges(options, least=LEAST, positive=("lr", "lr_z"), choices=CHOICES)
    judge = judge_of(G, options) if options["steps"] else None
    check_something_is_minimised(options, judge is not None or not options["steps"])
    contents = None if weights is None else read(weights)
    if contents is not None and PspEncoder.kind in contents.parts:
        encoder = contents.build(PspEncoder.kind)
    else:
        encoder = G.parts.get(PspEncoder.kind)
    return StyleResRefiner(
        encoder=encoder_for(networks_of(G, StyleRes.kind), encoder),
        judge=judge,
        **{key: value for key, value in options.items() if key not in ("network", "lpips", "resolution")},
    )
