"""Targets made of two pictures: the inside of a mask, and what is around it on another picture (semantic diffusion)."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lsap_jax.data.decode import ImageError, picture_from_bytes
from lsap_jax.data.fitting import fit_picture
from lsap_jax.data.masks import Masked, joined, mask_files, with_masks
from lsap_jax.data.source import Item, Source, read_file
from lsap_jax.errors import LsapError


def composed(target: np.ndarray, context: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """target · mask + context · (1 - mask), uint8 [R, R, C] like both pictures; mask [R, R] in [0, 1]."""
    m = mask[..., None].astype(np.float64)
    return np.rint(target * m + context * (1 - m)).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Diffused(Masked):
    """A source with masks, whose pictures have another one around the inside of their masks.

    Attributes:
        context: file of that picture by an image's id.
    """

    context: Callable[[str], Path]

    def load(self, index: int) -> Item:
        """The composed picture with its mask; its SHA-256 is that of both pictures and the mask.

        Raises:
            ImageError: as `Masked.load`; there is no mask, or the context cannot be used.
        """
        item = super().load(index)
        if item.mask is None:
            raise ImageError("has no mask, which says what is put on the context", self.inputs[index])
        data = self._context(index)
        try:
            picture, _ = picture_from_bytes(data)
            around, _ = fit_picture(picture, resolution=self.resolution, channels=self.channels, fit=self.fit)
        except ImageError as error:
            raise ImageError(f"its context: {error.reason}", self.inputs[index]) from None
        image = composed(item.image, around, item.mask)
        return replace(item, image=image, sha256=joined(item.sha256, data))

    def sha256(self, index: int) -> str:
        """As of what `load` gives; raises ImageError where a file cannot be read."""
        return joined(super().sha256(index), self._context(index))

    def _context(self, index: int) -> bytes:
        try:
            return read_file(self.context(self.ids[index]))
        except ImageError as error:
            raise ImageError(f"its context: {error.reason}", self.inputs[index]) from None


def on_context(source: Source, masks: Mapping[str, Path], context: str | os.PathLike[str]) -> Diffused:
    """A source whose pictures are put on a context.

    Args:
        context: a picture for all, or a folder with ID.png for each.

    Raises:
        LsapError: there is no such file or folder, or it has no picture for any of the images.
    """
    around = _contexts(context, source.ids)
    masked = with_masks(source, masks, "inverted on a context")
    return Diffused(**vars(masked), context=around)


def _contexts(context: str | os.PathLike[str], ids: Iterable[str]) -> Callable[[str], Path]:
    path = Path(context)
    if path.is_file():
        return lambda id: path
    if not path.is_dir():
        raise LsapError(f"{context}: is neither a picture nor a folder of pictures, ID.png")
    mask_files(path, ids)
    return lambda id: path / f"{id}.png"
