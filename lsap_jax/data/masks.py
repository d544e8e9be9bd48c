"""Masks of images: which pixels count, from 0 to 1, at the generator's resolution. They are resized as images are."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lsap_jax.data.decode import ON_WHITE, ImageError, picture_from_bytes
from lsap_jax.data.fitting import fit_picture
from lsap_jax.data.source import Item, Source, from_arrays, read_file
from lsap_jax.errors import LsapError


def mask_files(folder: str | os.PathLike[str], ids: Iterable[str]) -> dict[str, Path]:
    """The mask FOLDER/ID.png of every id that has one. Whether it can be read is found out when it is.

    Raises:
        LsapError: the folder is not there, or has no mask of any of these images.
    """
    root = Path(folder)
    if not root.is_dir():
        raise LsapError(f"{folder}: is not a folder of masks")
    wanted = {id: root / f"{id}.png" for id in ids}
    found = {id: file for id, file in wanted.items() if _is_there(file)}
    if wanted and not found:
        first = next(iter(wanted.values()))
        raise LsapError(f"{folder}: has no mask of any of the {len(wanted)} images; that of the first is {first}")
    return found


def mask_from_bytes(data: bytes, resolution: int) -> np.ndarray:
    """Decodes one file.

    Args:
        data: of a grey square picture, in any format that images have; 0 to 255 are 0 to 1.
        resolution: R, the generator's.

    Returns:
        float32 [R, R] in [0, 1].

    Raises:
        ImageError: not readable as an image is, not square, coloured, or transparent.
    """
    picture, notes = picture_from_bytes(data)
    if ON_WHITE in notes:
        raise ImageError("is transparent; a mask is a grey picture without alpha")
    if picture.mode == "RGB":
        pixels = np.asarray(picture)
        if (pixels != pixels[..., :1]).any():
            raise ImageError("has colours; a mask is a grey picture")
    width, height = picture.size
    if width != height:
        raise ImageError(f"is {width}x{height} pixels; a mask is square, as its target is")
    return in_unit(fit_picture(picture, resolution=resolution, channels=1, fit="crop")[0])


@dataclass(frozen=True, kw_only=True)
class Masked(Source):
    """A source with masks in files.

    Attributes:
        masks: id -> file of its mask (`mask_files`); images that are not in it have none.
        done: what is done under a mask, for the notes of results.
    """

    masks: Mapping[str, Path]
    done: str = "refined"

    def load(self, index: int) -> Item:
        """The image with its mask, if it has one; its SHA-256 is then that of both.

        Raises:
            ImageError: as `Source.load`, or the mask cannot be used.
        """
        item = super().load(index)
        data, mask = self.mask(index)
        if data is None:
            return item
        return replace(
            item, mask=mask, notes=(*item.notes, masked_note(data, self.done)), sha256=joined(item.sha256, data)
        )

    def origin(self, index: int) -> str:
        return self.inputs[index].removesuffix(masked_input("", self.masks.get(self.ids[index])))

    def sha256(self, index: int) -> str:
        """As of what `load` gives; raises ImageError where a file cannot be read."""
        data = self.mask_bytes(index)
        found = super().sha256(index)
        return found if data is None else joined(found, data)

    def mask(self, index: int) -> tuple[bytes | None, np.ndarray | None]:
        """The bytes of a mask's file and the mask [R, R] in [0, 1]; None without a mask.

        Raises:
            ImageError: it cannot be used.
        """
        data = self.mask_bytes(index)
        try:
            return data, None if data is None else mask_from_bytes(data, self.resolution)
        except ImageError as error:
            raise self._unusable(index, error) from None

    def mask_bytes(self, index: int) -> bytes | None:
        """The bytes of a mask's file; raises ImageError where it cannot be read."""
        file = self.masks.get(self.ids[index])
        try:
            return None if file is None else read_file(file)
        except ImageError as error:
            raise self._unusable(index, error) from None

    def _unusable(self, index: int, error: ImageError) -> ImageError:
        return ImageError(f"its mask: {error.reason}", self.inputs[index])


def with_masks(source: Source, masks: Mapping[str, Path], done: str = "refined") -> Masked:
    """A source with masks; for `done` see `Masked`."""
    inputs = tuple(masked_input(name, masks.get(id)) for id, name in zip(source.ids, source.inputs, strict=True))
    return Masked(**{**vars(source), "inputs": inputs}, masks=masks, done=done)


def masked_input(name: str, mask: Path | None) -> str:
    """The name of an input with the file of its mask, if it has one."""
    return name if mask is None else f"{name} with mask {mask}"


def masked_note(data: bytes, done: str = "refined") -> str:
    """What results say of the mask with these bytes."""
    return f"{done} under a mask, SHA-256 {hashlib.sha256(data).hexdigest()[:12]}…"


def joined(digest: str, mask: bytes) -> str:
    """SHA-256 of an image's SHA-256 (or several) and that of its mask."""
    return hashlib.sha256(f"{digest} {hashlib.sha256(mask).hexdigest()}".encode()).hexdigest()


def masks_from_arrays(
    masks: np.ndarray | None, shape: tuple[int, ...], resolution: int, fit: str
) -> Callable[[int], np.ndarray | None]:
    """Masks in memory: index -> float32 [R, R] in [0, 1], cropped and resized as the images are, or None without masks.

    Args:
        masks: [N, H, W] in [0, 1].
        shape: of the images, [N, H, W, C].

    Raises:
        LsapError: masks of another shape or range.
    """
    if masks is None:
        return lambda i: None
    masks = np.asarray(masks, np.float32)
    if masks.shape != shape[:3]:
        raise LsapError(f"masks of shape {masks.shape} do not belong to images of shape {shape}; they need {shape[:3]}")
    if not (masks.min() >= 0 and masks.max() <= 1):
        raise LsapError(f"masks must lie in [0, 1]; these range from {masks.min():g} to {masks.max():g}")
    source = from_arrays(masks[..., None] * 2 - 1, None, resolution=resolution, channels=1, fit=fit)
    return lambda i: in_unit(source.load(i).image)


def in_unit(grey: np.ndarray) -> np.ndarray:
    """Grey levels [R, R, 1] as [R, R] in [0, 1]."""
    return grey[..., 0].astype(np.float32) / 255


def levels(mask: np.ndarray) -> np.ndarray:
    """The inverse of `in_unit`: a mask [R, R] as uint8 [R, R, 1]."""
    return np.rint(mask[..., None] * 255).astype(np.uint8)


def _is_there(file: Path) -> bool:
    """Whether there is anything at a path. A broken link, or what may not be looked at, does not pass for no mask."""
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True
