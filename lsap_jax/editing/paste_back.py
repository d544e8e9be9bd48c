"""Edited faces back in the photographs that they were cut out of, by the lists of `lsap-jax align`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lsap_jax.data import ImageError
from lsap_jax.data.decode import picture_from_bytes
from lsap_jax.data.fitting import fit_picture
from lsap_jax.data.source import read_file
from lsap_jax.errors import LsapError
from lsap_jax.faces.aligned_folder import aligned_records
from lsap_jax.faces.paste import FEATHER, paste
from lsap_jax.runs.finished import Finished, FinishedItem
from lsap_jax.storage.atomic import sha256
from lsap_jax.storage.checked_json import Record
from lsap_jax.storage.inside import read_inside

PASTED = "pasted"


@dataclass(frozen=True, kw_only=True)
class UncroppedItem(FinishedItem):
    """A finished image with the photograph that it was cut out of.

    Attributes:
        quad: [4, 2], where in it, as of `lsap_jax.faces.align.crop_quad`.
    """

    photograph: Image.Image
    quad: np.ndarray

    def pasted(self, picture: np.ndarray, share: np.ndarray | None = None) -> np.ndarray:
        """A picture of the image, uint8 [R, R, C], in the photograph, uint8 [H, W, 3]; of an edit that is limited to a
        mask, that alone, by its feathered mask [R, R].
        """
        return paste(self.photograph, picture, self.quad, share=share)


@dataclass(frozen=True, kw_only=True)
class Uncropped(Finished):
    """The finished images of a run on aligned faces, with their photographs.

    Attributes:
        aligned: the folder of `lsap-jax align`.
        cuts: its records by id.
    """

    aligned: Path
    cuts: Mapping[str, Record]

    def load(self, index: int) -> UncroppedItem:  # type: ignore[override]
        """As `Finished.load`.

        Raises:
            ImageError: the target is not the aligned picture, or its photograph is not there or has changed.
        """
        item, cut = super().load(index), self.cuts[self.ids[index]]
        aligned, file = self.aligned / f"{item.id}.png", cut["input"]

        def unusable(why: str) -> ImageError:
            return ImageError(why, self.inputs[index])

        try:
            data = read_inside(self.aligned, f"{item.id}.png")
        except OSError as error:
            raise unusable(f"{aligned}: cannot be read ({error.strerror})") from None
        if sha256(data) != cut["sha256"]:
            raise unusable(f"{aligned}: has changed since it was aligned; align its photograph again")
        target, _ = fit_picture(
            picture_from_bytes(data)[0], resolution=self.resolution, channels=self.channels, fit="crop"
        )
        if not np.array_equal(target, item.image):
            raise unusable(f"{aligned}: is not what this image of the run is of; name the folder that was inverted")
        try:
            data = read_file(file)
            if sha256(data) != cut["input_sha256"]:
                raise ImageError("has changed since it was aligned; align it again")
            photograph, _ = picture_from_bytes(data)
        except ImageError as error:
            raise unusable(f"its photograph {file}: {error.reason}") from None
        return UncroppedItem(**vars(item), photograph=photograph, quad=np.asarray(cut["quad"], np.float64))

    def _digest(self, index: int, mask: bytes | None) -> str:
        cut = self.cuts[self.ids[index]]
        return sha256(f"{super()._digest(index, mask)} {cut['input_sha256']} {cut['quad']}".encode())


def uncropped(source: Finished, aligned: Path) -> Uncropped:
    """The finished images of a run with the photographs that a folder of `lsap-jax align` names.

    Raises:
        LsapError: it is no such folder, or an image of the run is not in it.
    """
    cuts = aligned_records(aligned)
    if missing := [id for id in source.ids if id not in cuts]:
        raise LsapError(
            f"--paste_back={aligned}: its alignment.jsonl does not have {missing[0]!r}, an image of the run; name the "
            "folder of `lsap-jax align` whose pictures were inverted"
        )
    return Uncropped(**vars(source), aligned=aligned, cuts=cuts)


def described() -> dict[str, float]:
    """What edit.json records of pasting."""
    return {"feather": FEATHER}
