"""Edited faces back in the photographs that they were cut out of, by the list of `lsap-jax align`, or by the manifest
of a run whose images `invert --align` cut out.
"""

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
from lsap_jax.storage.results import RUN, read_manifest

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
        aligned: the folder that says where they were cut out.
        cuts: its records by id, each with "input", "input_sha256" and "quad", and the SHA-256 of the aligned picture:
            of a run that of its "target", of `lsap-jax align` its "sha256".
    """

    aligned: Path
    cuts: Mapping[str, Record]

    def load(self, index: int) -> UncroppedItem:  # type: ignore[override]
        """As `Finished.load`.

        Raises:
            ImageError: the target is not the aligned picture, or its photograph is not there or has changed.
        """
        item, cut = super().load(index), self.cuts[self.ids[index]]
        self._check_target(index, item.image)
        file = cut["input"]
        try:
            data = read_file(file)
            if sha256(data) != cut["input_sha256"]:
                raise ImageError("has changed since it was aligned; align it again")
            photograph, _ = picture_from_bytes(data)
        except ImageError as error:
            raise ImageError(f"its photograph {file}: {error.reason}", self.inputs[index]) from None
        return UncroppedItem(**vars(item), photograph=photograph, quad=np.asarray(cut["quad"], np.float64))

    def _check_target(self, index: int, image: np.ndarray) -> None:
        """Raises ImageError unless this target, uint8 [R, R, C], is the picture that was cut out."""
        id = self.ids[index]
        cut, aligned, name = self.cuts[id], self.aligned / f"{id}.png", self.inputs[index]
        another = ImageError(
            f"{aligned}: is not what this image of the run is of; name the folder that was inverted", name
        )
        if "target" in cut:
            if cut["target"] != self.manifest[id]["sha256"]["targets"]:
                raise another
            return
        try:
            data = read_inside(self.aligned, f"{id}.png")
        except OSError as error:
            raise ImageError(f"{aligned}: cannot be read ({error.strerror})", name) from None
        if sha256(data) != cut["sha256"]:
            raise ImageError(f"{aligned}: has changed since it was aligned; align its photograph again", name)
        picture, _ = picture_from_bytes(data)
        target, _ = fit_picture(picture, resolution=self.resolution, channels=self.channels, fit="crop")
        if not np.array_equal(target, image):
            raise another

    def _digest(self, index: int, mask: bytes | None) -> str:
        cut = self.cuts[self.ids[index]]
        return sha256(f"{super()._digest(index, mask)} {cut['input_sha256']} {cut['quad']}".encode())


def uncropped(source: Finished, aligned: Path) -> Uncropped:
    """The finished images of a run with the photographs that a folder names.

    Args:
        aligned: of `lsap-jax align`, or a run whose images were aligned on the way.

    Raises:
        LsapError: it is no such folder, or an image of the run is not in it.
    """
    is_run = (aligned / RUN.file).is_file()
    cuts = _cut_by_run(aligned) if is_run else aligned_records(aligned)
    if missing := [id for id in source.ids if id not in cuts]:
        where, remedy = (
            (
                "manifest.jsonl does not say where it cut out",
                "the run was made without --align, or by an earlier version",
            )
            if is_run
            else ("alignment.jsonl does not have", "name the folder of `lsap-jax align` whose pictures were inverted")
        )
        raise LsapError(f"--paste_back={aligned}: its {where} {missing[0]!r}, an image of the run; {remedy}")
    return Uncropped(**vars(source), aligned=aligned, cuts=cuts)


def _cut_by_run(folder: Path) -> dict[str, Record]:
    manifest = read_manifest(folder)
    return {id: {**r["crop"], "target": r["sha256"].get("targets")} for id, r in manifest.items() if "crop" in r}


def described() -> dict[str, float]:
    """What edit.json records of pasting."""
    return {"feather": FEATHER}
