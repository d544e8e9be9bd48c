"""Transforms of the features of a layer before the next layer reads them, one class for each kind.

A new kind is a subclass of `Transform` and a row in `KINDS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax
from flax import struct

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator


class Transform(struct.PyTreeNode, ABC, kw_only=True):
    """The contract of a kind: a pytree of arrays whose first axis is the images, and a pure function of features.

    All fields are arrays: `refinement.to_arrays` saves them by name.

    Attributes:
        starts: whether it ignores the features, which are then None: the synthesis starts at its layer, and nothing
            below is computed.
        parts: kinds of companion networks that it reads in `G.parts`; all images share them.
    """

    starts: ClassVar[bool] = False
    parts: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __call__(
        self, features: Any, *, G: "Generator", ws: jax.Array | None, styles: Mapping[str, jax.Array] | None
    ) -> jax.Array:
        """Features [B, r, r, C] of the layer to features of the same shape, image by image.

        It is called whenever codes are rendered, so a kind that reads ws or styles follows an edit.

        Args:
            features: [B, r, r, C].
            G: the generator that renders.
            ws: [B, num_ws, w_dim] of the codes being rendered, or None where the codes are styles.
            styles: layer name -> [B, C]; None where the synthesis is given ws alone.
        """


class ScaleShift(Transform, kw_only=True):
    """features · scale + shift, per pixel and channel (HFGI, arXiv 2109.06590).

    Attributes:
        scale, shift: [B, r, r, C].
    """

    scale: jax.Array
    shift: jax.Array

    def __call__(self, features: jax.Array, **_: Any) -> jax.Array:
        scaled = features * self.scale.astype(features.dtype)
        return scaled + self.shift.astype(features.dtype)


class MaskedOffset(Transform, kw_only=True):
    """features + mask · offset (SAM, arXiv 2206.08357: features are free where the codes cannot follow the image).

    Attributes:
        offset: [B, r, r, C].
        mask: [B, r, r, 1] in [0, 1].
    """

    offset: jax.Array
    mask: jax.Array

    def __call__(self, features: jax.Array, **_: Any) -> jax.Array:
        return features + (self.mask * self.offset).astype(features.dtype)


class Start(Transform, kw_only=True):
    """The synthesis starts at this layer with the features f: scale 0, shift f, and nothing below is computed.

    F spaces use it for the base code (BDInvert, arXiv 2307.08995 §3.2); the RGB of lower resolutions is dropped.

    Attributes:
        f: [B, r, r, C].
    """

    starts: ClassVar[bool] = True
    f: jax.Array

    def __call__(self, features: jax.Array | None, **_: Any) -> jax.Array:
        return self.f


class GatedAddition(Transform, kw_only=True):
    """features + mask · g · dF, which StyleRes' networks make of the residuals of an image and of the features of the
    codes being rendered (arXiv 2212.14359, section 3).

    Attributes:
        residual: r [B, r, r, width], of the encoder's features of the image and the features of its unedited codes.
        mask: [B, r, r, 1] in [0, 1].
    """

    parts: ClassVar[tuple[str, ...]] = ("styleres",)
    residual: jax.Array
    mask: jax.Array

    def __call__(self, features: jax.Array, *, G: "Generator", **_: Any) -> jax.Array:
        added, gate = G.parts["styleres"].addition(features.astype(self.residual.dtype), self.residual)
        return features + (self.mask * gate * added).astype(features.dtype)


class Details(Transform, kw_only=True):
    """features · (1 + scale) + shift, which HFGI's networks make of details that codes lost, aligned with the image of
    the codes being rendered (arXiv 2109.06590, section 3).

    Attributes:
        details: [B, r, r, C], a target less the image of its codes.
    """

    parts: ClassVar[tuple[str, ...]] = ("hfgi",)
    details: jax.Array

    def __call__(self, features: jax.Array, *, G: "Generator", ws: Any, styles: Any) -> jax.Array:
        networks = G.parts["hfgi"]
        guide = networks.seen(G.synthesis(ws, styles=styles))
        scale, shift = networks.conditions(networks.aligned(self.details, guide))
        return features * (1 + scale).astype(features.dtype) + shift.astype(features.dtype)


# Name in files -> class.
KINDS: dict[str, type[Transform]] = {
    "scale_shift": ScaleShift,
    "masked_offset": MaskedOffset,
    "start": Start,
    "gated_addition": GatedAddition,
    "details": Details,
}


def parts() -> tuple[str, ...]:
    """Kinds of companion networks that transforms may read."""
    return tuple(sorted({part for kind in KINDS.values() for part in kind.parts}))
