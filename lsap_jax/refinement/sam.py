"""SAM: every segment of an image gets the most editable latent that reconstructs it, the codes or an offset of the
features of a layer, and all latents are fitted together.

    min over codes and offsets   mse + d + mvg · Mahalanobis(P of ws) + delta · Σ |w_l - w_0| + offset · Σ mean(dF_l²)

Features of a layer become F + m · dF where its mask m is. For edited codes, what the unedited ones have there is pasted
over them: x (1 - m) + (F + dF) m, which is the same for the codes that were fitted.

References: Parmar et al., Spatially-Adaptive Multilayer Selection for GAN Inversion and Editing (arXiv 2206.08357),
section 3; GANInverter's variant of it (github.com/caopulan/GANInverter).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.inversion.optimizers import ramp
from lsap_jax.losses.judges import Judge
from lsap_jax.losses.pixel import mse
from lsap_jax.losses.prior import delta, pn
from lsap_jax.models.face_parser import CLASSES, FaceParserNetwork
from lsap_jax.models.generator import Generator
from lsap_jax.models.invertibility import InvertibilityNetwork
from lsap_jax.models.latent_statistics import LatentStatistics
from lsap_jax.networks.arithmetic import convolutions_in
from lsap_jax.networks.pixel_maps import area, lanczos
from lsap_jax.networks.winograd import paying_channels
from lsap_jax.pixels import to_uint8
from lsap_jax.refinement.layer_choice import layer_masks, pixel_latents
from lsap_jax.refinement.parsing import face_segments
from lsap_jax.refinement.refiner import Codes, Course
from lsap_jax.refinement.segments import bound, bounded
from lsap_jax.refinement.steps import Params, descend
from lsap_jax.rendering.refinement import Refinement, rounded
from lsap_jax.rendering.render import synthesise
from lsap_jax.rendering.transforms import MaskedOffset, ScaleShift
from lsap_jax.spaces import Space

Masks = Mapping[int, jax.Array]  # resolution of a block -> [B, r, r, 1] in [0, 1]

LEAST_PIXELS = 16  # of a segment, on average


class Sam(struct.PyTreeNode, kw_only=True):
    """SAM as a `Refiner`; attributes are options, see docs/sam.md.

    Attributes:
        network: predicts how badly each latent reconstructs a pixel; None measures it.
        parser: tells the parts of faces, which are the segments; None finds segments without it.
        judge: the perceptual distance.
        statistics: of the Mahalanobis distance; None leaves it out.
        resolutions: of the blocks whose features are offset, ascending.
    """

    network: InvertibilityNetwork | None
    judge: Judge
    statistics: LatentStatistics | None
    resolutions: tuple[int, ...] = struct.field(pytree_node=False)
    parser: FaceParserNetwork | None = None
    variant: str = struct.field(pytree_node=False, default="original")
    steps: int = struct.field(pytree_node=False, default=1001)
    map_steps: int = struct.field(pytree_node=False, default=501)
    lr: float = struct.field(pytree_node=False, default=0.05)
    lr_z: float = struct.field(pytree_node=False, default=0.01)
    tau: float = struct.field(pytree_node=False, default=0.225)
    segments: str = struct.field(pytree_node=False, default="grid")
    count: int = struct.field(pytree_node=False, default=200)
    mse: float = struct.field(pytree_node=False, default=1.0)
    perceptual: float = struct.field(pytree_node=False, default=1.0)
    mvg: float = struct.field(pytree_node=False, default=1e-8)
    delta: float = struct.field(pytree_node=False, default=1e-3)
    offset: float = struct.field(pytree_node=False, default=5.0)
    resolution: int = struct.field(pytree_node=False, default=256)
    edit: str = struct.field(pytree_node=False, default="paste")
    keep: str = struct.field(pytree_node=False, default="last")
    dtype: str = struct.field(pytree_node=False, default="float16")
    precision: str = struct.field(pytree_node=False, default="high")

    def prepared(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The segments of a target, uint8 [R, R, C], on the host."""
        if self.parser is not None:  # which sees them on the device
            return {}
        side = len(image)
        seen = np.asarray(smaller(jnp.asarray(image[None] / 127.5 - 1, jnp.float32), self.map_side(side)))
        return {"segments": bounded(to_uint8(seen)[0], self.segments, self.most_segments(side))}

    def __call__(
        self,
        G: Generator,
        space: Space,
        codes: Mapping[str, jax.Array],
        images: jax.Array,
        rng: jax.Array,
        mask: jax.Array | None,
        prepared: Mapping[str, jax.Array] | None = None,
    ) -> tuple[Codes, Refinement, Course]:
        """As `Refiner`; codes move, those on the sphere stay on it.

        Raises:
            LsapError: the images of this space do not come from ws with fixed noise alone.
        """
        check_space(space)
        assert prepared is not None, "the segments, or nothing with a parser"
        maps = self.maps(G, space, codes, images, mask)
        if self.parser is None:
            segments, most = prepared["segments"], bound(self.most_segments(G.img_resolution))
        else:
            segments = face_segments(self.parser, smaller(images, self.map_side(G.img_resolution)), self.variant)
            most = len(CLASSES)
        latents = pixel_latents(maps, segments, most, self.tau)
        masks = dict(zip(self.resolutions, layer_masks(latents, self.resolutions), strict=True))
        params, course = self.fit(G, space, codes, images, mask, masks, self.steps)
        codes = {**codes, space.key: params[space.key]}
        refinement = self.kept(G, space, codes, {r: params[str(r)] for r in self.resolutions}, masks)
        return codes, rounded(refinement, self.dtype), course

    def map_side(self, side: int) -> int:
        """Pixels a side at which segments and maps of images with `side` are taken: the original sees 256 px,
        GANInverter whole images.
        """
        return side if self.variant == "ganinverter" else min(self.resolution, side)

    def most_segments(self, side: int) -> int:
        """About how many segments there are in images with `side`: fewer where they would have under 16 pixels."""
        return max(1, min(self.count, self.map_side(side) ** 2 // LEAST_PIXELS))

    def place(self, G: Generator, resolution: int) -> str:
        """Where features are offset: behind the block, whose own image does not see it, or behind its first layer."""
        if self.variant == "ganinverter":
            return G.config.first_convolution(resolution, "SAM's").name
        return f"b{resolution}"

    def maps(
        self, G: Generator, space: Space, codes: Mapping[str, jax.Array], images: jax.Array, mask: jax.Array | None
    ) -> jax.Array:
        """How badly each latent alone reconstructs each pixel, [B, side, side, 1 + layers] for the codes and each
        layer.
        """
        if self.network is not None:
            heads = (0, *self.network.config.resolutions)
            predicted = self.network.maps(smaller(images, self.map_side(G.img_resolution)))
            return predicted[..., np.array([heads.index(r) for r in (0, *self.resolutions)])]
        return single_latent_maps(self, G, space, codes, images, mask)

    def fit(
        self,
        G: Generator,
        space: Space,
        codes: Mapping[str, jax.Array],
        images: jax.Array,
        mask: jax.Array | None,
        masks: Masks,
        steps: int,
    ) -> tuple[Params, Course]:
        """The code and the offsets, by resolution as text, that reconstruct images under these masks."""
        winograd = paying_channels(jax.local_devices())
        G, judge = G.freeze(winograd), self.judge.freeze(G.img_resolution, winograd)
        side = self.resolution_of_loss(G)
        target = smaller(images, side)
        whole = target if target.shape[1] >= self.judge_side(G) else images
        features = judge.features(self.for_judge(G, whole))
        weights = None if mask is None else area(mask[..., None], (side, side))[..., 0]
        begun = space.decode(G, dict(codes)).ws
        sides = {r: G.config.places[self.place(G, r)].channels for r in masks}
        start = {space.key: codes[space.key]} | {
            str(r): jnp.zeros((len(images), r, r, channels)) for r, channels in sides.items()
        }

        def loss(params: Params) -> jax.Array:
            decoded = space.decode(G, {**codes, space.key: params[space.key]})
            offsets = {
                self.place(G, r): MaskedOffset(offset=params[str(r)], mask=one.astype(jnp.float32))
                for r, one in masks.items()
            }
            image = synthesise(G, decoded, Refinement(transforms=offsets))
            image = jax.lax.optimization_barrier(image)
            shown = jnp.clip(area(image, (side, side)), -1, 1)
            judged = jnp.clip(self.for_judge(G, image), -1, 1)
            total = self.mse * mse(shown, target, weights)
            total = total + self.perceptual * judge.distance(judge.features(judged), features, mask)
            assert decoded.ws is not None and begun is not None
            if self.mvg and self.statistics is not None and not space.on_sphere:
                total = total + self.mvg * decoded.ws[0].size * pn(self.statistics, decoded.ws)
            total = total + self.delta * delta(decoded.ws)
            moved = [jnp.mean(jnp.square(params[str(r)]), (1, 2, 3)) for r in masks]
            if self.variant == "ganinverter":
                moved.append(jnp.mean(jnp.square(decoded.ws - begun), (1, 2)))
            return total + self.offset * sum(moved, start=jnp.zeros(len(images)))

        def land(params: Params) -> Params:
            return {**params, space.key: space.retract({**codes, space.key: params[space.key]})[space.key]}

        rates = dict.fromkeys(start, self.lr) | ({space.key: self.lr_z} if space.on_sphere else {})
        with convolutions_in(self.precision):
            return descend(loss, start, rates, steps, schedule=ramp, land=land, keep=self.keep)

    def resolution_of_loss(self, G: Generator) -> int:
        """Pixels a side at which images are compared: 256 in the original, all of them in GANInverter."""
        return G.img_resolution if self.variant == "ganinverter" else min(self.resolution, G.img_resolution)

    def judge_side(self, G: Generator) -> int:
        """Pixels a side of images as the judge takes them."""
        return min(self.judge.resolution, G.img_resolution)

    def for_judge(self, G: Generator, images: jax.Array) -> jax.Array:
        """Images as the judge takes them; larger ones are averaged over areas."""
        return area(images, (self.judge_side(G),) * 2)

    def kept(
        self, G: Generator, space: Space, codes: Codes, offsets: Mapping[int, jax.Array], masks: Masks
    ) -> Refinement:
        """What is saved: features that are pasted over those of any codes, or offsets that are added to them."""
        found: dict[str, Any] = {
            self.place(G, r): MaskedOffset(offset=offset, mask=masks[r]) for r, offset in offsets.items()
        }
        if self.edit == "add":
            return Refinement(transforms=found)
        decoded = space.decode(G, dict(codes))
        _, features = G.features(
            decoded.ws, decoded.noise_mode, styles=decoded.styles, noise=decoded.noise, transforms=found
        )
        pasted = {}
        for r, offset in offsets.items():
            # Features of a layer are recorded with their offset, those of a block without it.
            before = features[self.place(G, r)] - (masks[r] * offset if "." in self.place(G, r) else 0)
            pasted[self.place(G, r)] = ScaleShift(scale=1 - masks[r], shift=(before + offset) * masks[r])
        return Refinement(transforms=pasted)


def smaller(images: jax.Array, side: int) -> jax.Array:
    """Images [B, R, R, C] reduced to `side` pixels by Lanczos' filter, as the authors resize targets."""
    return lanczos(images, side) if images.shape[1] != side else images


def single_latent_maps(
    sam: Sam,
    G: Generator,
    space: Space,
    codes: Mapping[str, jax.Array],
    images: jax.Array,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Maps [B, side, side, 1 + layers] of the perceptual distance of images fitted by the codes alone, then by the
    codes and the offset of one layer everywhere: what SAM's network is trained to predict (section 3.1).
    """
    target = sam.judge.features(sam.for_judge(G, images))

    def one(resolution: jax.Array) -> jax.Array:
        # Where its mask is 0 an offset has no gradient and stays 0, so that one program fits every latent.
        masks = {r: jnp.full((len(images), r, r, 1), resolution == r, jnp.float32) for r in sam.resolutions}
        params, _ = sam.fit(G, space, codes, images, mask, masks, sam.map_steps)
        offsets = {sam.place(G, r): MaskedOffset(offset=params[str(r)], mask=own) for r, own in masks.items()}
        decoded = space.decode(G, {**codes, space.key: params[space.key]})
        image = synthesise(G, decoded, Refinement(transforms=offsets))
        shown = sam.judge.features(jnp.clip(sam.for_judge(G, image), -1, 1))
        return sam.judge.map(shown, target, sam.map_side(G.img_resolution))[..., 0]  # type: ignore[attr-defined,no-any-return]

    return jnp.moveaxis(jax.lax.map(one, jnp.array((0, *sam.resolutions))), 0, -1)


def check_space(space: Space) -> None:
    """Raises LsapError where codes of this space cannot be refined."""
    if space.has_base or not space.has_ws or space.noise_mode == "random":
        raise LsapError(
            f"method 'sam': fits ws and the features that they make; codes of {space.name} with noise "
            f"{space.noise_mode!r} are not ws alone; refine a run in W+, Z+ or another space of ws without base code"
        )
