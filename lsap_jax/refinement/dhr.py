"""Domain-specific hybrid refinement (DHR, arXiv 2301.12141): where an image is in the domain of the generator, weights
are tuned; elsewhere features of one layer are replaced by free ones (`lsap_jax.refinement.hybrid`).

The domain is made of whole segments, which a coarse inversion in W already makes alike (`lsap_jax.refinement.domain`).

Reference: Cao et al., What Decreases Editing Capability? Domain-Specific Hybrid Refinement for Improved GAN Inversion;
settings of github.com/caopulan/GANInverter.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from lsap_jax.errors import LsapError
from lsap_jax.models.face_parser import FaceParserNetwork
from lsap_jax.models.generator import Generator
from lsap_jax.networks.arithmetic import PRECISIONS, convolutions_in
from lsap_jax.refinement import coarse
from lsap_jax.refinement.domain import Thresholds, domain
from lsap_jax.refinement.hybrid import Hybrid
from lsap_jax.refinement.options import check_ranges, check_something_is_minimised, needed_judge
from lsap_jax.refinement.parsing import domain_shares, load_parser
from lsap_jax.refinement.refiner import Codes, Course
from lsap_jax.refinement.segments import KINDS, ORDERS, bound, bounded, chosen
from lsap_jax.rendering.refinement import Refinement, rounded
from lsap_jax.spaces import Space


class Dhr(struct.PyTreeNode, kw_only=True):
    """DHR as a `Refiner`.

    Attributes:
        coarse: the inversion whose distances decide what is in the domain.
        hybrid: what is optimised then.
        parser: tells the parts of faces; None leaves that to masks.
        thresholds, vanished, parsing: see `domain`.
        segments, count, order: see `segments`.
        dtype: in which changes and features are stored, and rendered.
        precision: of the convolutions in steps (`networks.arithmetic`).
    """

    coarse: coarse.Coarse
    hybrid: Hybrid
    parser: FaceParserNetwork | None = None
    thresholds: Thresholds = struct.field(pytree_node=False, default=Thresholds())
    segments: str = struct.field(pytree_node=False, default="grid")
    count: int = struct.field(pytree_node=False, default=200)
    order: str = struct.field(pytree_node=False, default="rgb")
    vanished: str = struct.field(pytree_node=False, default="nearest")
    parsing: bool = struct.field(pytree_node=False, default=False)
    dtype: str = struct.field(pytree_node=False, default="float16")
    precision: str = struct.field(pytree_node=False, default="high")

    def prepared(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The segments of a target, uint8 [R, R, C], on the host."""
        return {"segments": bounded(image, self.segments, self.count, self.order)}

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
        """As `Refiner`; codes stay as they are. The mask is where a parser allows the domain, see `domain`.

        Raises:
            LsapError: a base code stands in place of the features that are replaced.
        """
        check_place(G, self.hybrid.place, space.f_resolution(codes), space.name)
        assert prepared is not None, "the segments"
        with convolutions_in(self.precision):
            deltas = self.coarse(G, images, rng)
            given = (prepared["segments"], mask, None if self.parser is None else domain_shares(self.parser, images))
            inside = jnp.stack([self.domain([d[i] for d in deltas], *_of(i, given)) for i in range(len(images))])
            refinement, course = self.hybrid(G, space, codes, images, inside)
        return dict(codes), rounded(refinement, self.dtype), course

    def domain(
        self, deltas: list[jax.Array], numbers: jax.Array, mask: jax.Array | None, shares: jax.Array | None
    ) -> jax.Array:
        """Where an image is in the domain, [R, R] of 0 and 1."""
        own = {"thresholds": self.thresholds, "parsing": self.parsing, "vanished": self.vanished}
        return domain(deltas, numbers, bound(self.count), mask, shares=shares, **own)  # type: ignore[arg-type]


def _of(i: int, trees: Any) -> Any:
    """Image i of trees with leaves [B, ...]."""
    return jax.tree.map(lambda a: a[i], trees)


def check_place(G: Generator, place: str, base_resolution: int, space: str) -> None:
    """Raises LsapError where a base code of this size, 0 for none, stands in place of the features of a place."""
    if G.config.places[place] not in G.config.live_layers(base_resolution):
        raise LsapError(
            f"refine.layer={place!r}: codes of space {space} have a base code of {base_resolution} px, and nothing "
            "below it is computed; choose a layer above it"
        )


# The original's values, but for the dtype of what is stored, the order of channels, and segments that vanish.
OPTIONS: dict[str, Any] = {
    "steps": 100,
    "weight_steps": 50,
    "lr_feature": 9e-2,
    "lr_weights": 1.5e-3,
    "mse": 1.0,
    "perceptual": 1.0,
    "layer": "",
    "coarse_steps": 40,
    "coarse_lr": 0.1,
    "segments": "auto",
    "count": 200,
    "order": "rgb",
    "vanished": "nearest",
    "parsing": False,
    "parser": "",
    "threshold_face": 0.7,
    "threshold_features": 0.8,
    "threshold": 0.6,
    "network": "auto",
    "lpips": "",
    "coarse_lpips": "",
    "resolution": 0,
    "rank": 0,
    "keep": "last",
    "dtype": "float16",
    "precision": "high",
}
LEAST = {"steps": 0, "weight_steps": 0, "mse": 0, "perceptual": 0, "coarse_steps": 1, "resolution": 0, "rank": 0}
LEAST |= {"count": 1, "threshold_face": 0, "threshold_features": 0, "threshold": 0}
POSITIVE = ("lr_feature", "lr_weights", "coarse_lr")
CHOICES = {
    "segments": ("auto", *KINDS),
    "order": ORDERS,
    "vanished": ("nearest", "out"),
    "keep": ("last", "best"),
    "dtype": ("float16", "float32"),
    "precision": tuple(PRECISIONS),
}


def resolved(G: Generator, weights: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with what their defaults are for a generator, and what is installed.

    Raises:
        LsapError: a value is out of its range.
    """
    check_ranges(options, least=LEAST, positive=POSITIVE, choices=CHOICES)
    check_something_is_minimised(options)
    found = dict(options)
    found["segments"] = chosen("dhr", options["segments"])
    found["layer"] = options["layer"] or default_place(G)
    known = [name for name, layer in G.config.places.items() if layer.kind == "conv"]
    if found["layer"] not in known:
        raise LsapError(f"refine.layer={found['layer']!r}: choose one of {', '.join(known)}")
    return found


def default_place(G: Generator) -> str:
    """What the block of 256 px reads, on generators below 256 px that of 16 px, or the last block."""
    reader = min(256 if G.img_resolution >= 256 else 16, G.img_resolution)
    return f"b{reader // 2}"


def make(G: Generator, weights: str | None, **options: Any) -> Dhr:
    """DHR with these options, all of `OPTIONS` as `resolved` has them.

    Raises:
        LsapError: a value is out of range, or there is no perceptual distance.
    """
    if weights is not None:
        raise LsapError(f"--weights={weights}: dhr has no networks of its own; name LPIPS by --config.refine.lpips")
    if options["parser"] and options["parsing"]:
        raise LsapError(
            "refine.parsing=True: masks are label maps, and refine.parser makes such itself; give one of both"
        )
    judge = needed_judge("dhr", G, options)
    own = {"network": "lpips", "lpips": options["coarse_lpips"]} if options["coarse_lpips"] else {}
    first = needed_judge("dhr", G, {**options, **own, "resolution": 0})
    fitted = {key: options[key] for key in OPTIONS if key in Hybrid.__dataclass_fields__}
    return Dhr(
        coarse=coarse.make(G, first, options["coarse_steps"], options["coarse_lr"]),
        hybrid=Hybrid(judge=judge, place=options["layer"], **fitted),
        parser=load_parser(options["parser"]) if options["parser"] else None,
        thresholds=Thresholds(options["threshold_face"], options["threshold_features"], options["threshold"]),
        **{key: options[key] for key in OPTIONS if key in Dhr.__dataclass_fields__ and key != "parser"},
    )
