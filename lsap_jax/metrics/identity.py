"""Whether two images show the same person: the cosine between face embeddings.

Facenet's is the measure of arXiv 2307.08995, Figure 6; ArcFace's is what the identity losses of encoders minimise;
dlib's comes with the package. Their values do not compare with each other, so results name the network.

    embedder = load_embedder("dlib")
    similarity, failures = compare_identities(embedder, load_detector(), originals, edited)

`evaluate`, `edit` and `edit-quality` measure with an `IdentityMeter`, and by `kept`.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from lsap_jax.errors import LsapError
from lsap_jax.faces.align import cut_out, eyes_quad
from lsap_jax.models.detector import Detector
from lsap_jax.models.embedder import (
    ARCFACE,
    DLIB,
    EMBEDDERS,
    FACE_SIZE,
    FACENET,
    Embedder,
    Images,
    embed_pictures,
    to_levels,
)
from lsap_jax.models.network_file import load
from lsap_jax.networks import dlib_resnet

if TYPE_CHECKING:
    from lsap_jax.faces.detect import Faces

NO_ORIGINAL, NO_EDITED = "no face in the original", "no face in the edited image"
NEITHER = "no face in the original, nor in the edited image"


def load_embedder(source: str | Path) -> Embedder:
    """A face network: "dlib" (bundled), a file that `lsap-jax convert` wrote, or an original.

    Raises:
        LsapError, ConversionError: there is no such file, it is damaged, or holds something else.
    """
    bundled = Path(str(resources.files("lsap_jax") / "assets")) / f"{DLIB}.safetensors"
    found: Embedder = load(bundled if str(source) == "dlib" else source, *EMBEDDERS)
    return found


Cut = Callable[[np.ndarray, "Faces", int], np.ndarray | None]


def boxed(picture: np.ndarray, faces: "Faces", size: int) -> np.ndarray | None:
    """The largest face as facenet-pytorch crops it by default: uint8 [size, size, 3], or None outside of the picture.

    The detector's box, without a margin, is clipped to the image and cut to whole pixels, and what is inside is resized
    by Pillow's antialiased bilinear filter; a box that is no square becomes one.
    """
    height, width = picture.shape[:2]
    left, top, right, bottom = (float(v) for v in faces.boxes[0])
    box = int(max(left, 0)), int(max(top, 0)), int(min(right, width)), int(min(bottom, height))
    if box[0] >= box[2] or box[1] >= box[3]:
        return None
    crop = Image.fromarray(picture[box[1] : box[3], box[0] : box[2]])
    return np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR))


def by_eyes(picture: np.ndarray, faces: "Faces", size: int) -> np.ndarray | None:
    """The largest face with its eyes where dlib puts them: uint8 [size, size, 3], or None for eyes in one point."""
    try:
        quad = eyes_quad(faces.landmarks[0])
    except ValueError:
        return None
    return cut_out(picture, quad, size)


def face_crops(
    detector: Detector, images: Images, size: int = FACE_SIZE, cut: Cut = boxed
) -> tuple[np.ndarray, np.ndarray]:
    """The largest face of every image.

    Args:
        detector: of `lsap_jax.faces.detect.load_detector`.
        images: [N, H, W, C], or N arrays [H, W, C] of any sizes, as for `embed`.
        size: pixels a side.
        cut: `boxed` (facenet-pytorch) or `by_eyes` (dlib).

    Returns:
        uint8 [N, size, size, 3], black where there is no face, and bool [N], whether there is one.

    Raises:
        LsapError: see `embed`.
    """
    from lsap_jax.faces.detect import detect

    pictures = [to_levels(image) for image in images]
    crops = np.zeros((len(pictures), size, size, 3), np.uint8)
    found = np.zeros(len(pictures), bool)
    for k, (picture, faces) in enumerate(zip(pictures, detect(detector, pictures), strict=True)):
        if not len(faces.boxes):
            continue
        crop = cut(picture, faces, size)
        if crop is not None:
            crops[k], found[k] = crop, True
    return crops, found


def face_embeddings(
    embedder: Embedder, detector: Detector | None, images: Images, batch_size: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the largest face of every image.

    Args:
        embedder: of `load_embedder`.
        detector: of `lsap_jax.faces.detect.load_detector`; None where the images are aligned faces already, which are
            taken whole. "arcface" takes aligned images only.
        images: [N, H, W, C], or N arrays [H, W, C], as for `embed`.
        batch_size: images at once in the network.

    Returns:
        [N, D] float32, NaN where there is no face, and bool [N], whether there is one.

    Raises:
        LsapError: see `embed`; or a detector is given to "arcface".
    """
    if detector is None:
        pictures = [to_levels(image) for image in images]
        return embed_pictures(embedder, pictures, batch_size), np.ones(len(pictures), bool)
    if embedder.record.name == ARCFACE:
        raise LsapError(
            "ArcFace takes the fixed crop of an aligned image, not a detector's box; leave the detector out, and align "
            "the images first if they are not"
        )
    crops, found = face_crops(detector, images, *_CUTS[embedder.record.name])
    # With the black ones: the shapes do not depend on what is found.
    vectors = embed_pictures(embedder, list(crops), batch_size)
    return np.where(found[:, None], vectors, np.float32(np.nan)), found


_CUTS: dict[str, tuple[int, Cut]] = {FACENET: (FACE_SIZE, boxed), DLIB: (dlib_resnet.RESOLUTION, by_eyes)}


def identity_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine [N] between embeddings [N, D], from -1 to 1, higher for the same person; float64.

    Rows of NaN (no face) give NaN.

    Raises:
        LsapError: the shapes do not agree.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or a.shape != b.shape:
        raise LsapError(f"identity similarity needs two sets of embeddings [N, D], got {a.shape} and {b.shape}")
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.sum(a * b, axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)


class Comparison(NamedTuple):
    """Similarities [N], NaN where a face is missing, and (index, reason) of each missing one."""

    similarity: np.ndarray
    failures: list[tuple[int, str]]


def compare_identities(
    embedder: Embedder, detector: Detector | None, originals: Images, edited: Images, batch_size: int = 32
) -> Comparison:
    """Identity similarity of every original with its edited image.

    Images without a face are reported, never left out silently: a mean is over the others, and is to be stated with
    the number of failures (arXiv 2307.08995, Figure 6, does not say how it treats them).

    Args:
        embedder, detector, batch_size: see `face_embeddings`.
        originals, edited: N images each, as for `embed`.

    Raises:
        LsapError: see `face_embeddings`; or the numbers of images differ.
    """
    if len(originals) != len(edited):
        raise LsapError(f"{len(originals)} originals and {len(edited)} edited images: they are compared one by one")
    first, in_first = face_embeddings(embedder, detector, originals, batch_size)
    second, in_second = face_embeddings(embedder, detector, edited, batch_size)
    failures = [
        (k, NEITHER if not (a or b) else NO_EDITED if a else NO_ORIGINAL)
        for k, (a, b) in enumerate(zip(in_first, in_second, strict=True))
        if not (a and b)
    ]
    return Comparison(identity_similarity(first, second), failures)


@dataclass(frozen=True, kw_only=True)
class IdentityMeter:
    """What identities are measured with.

    Attributes:
        embedder: the face network.
        detector: finds the face that the network sees; None where images are aligned faces already, as ArcFace takes
            them.
    """

    embedder: Embedder
    detector: Detector | None = None

    @property
    def described(self) -> dict[str, Any]:
        """The facts that define the measure, for results."""
        return {**asdict(self.embedder.record), "detector": None if self.detector is None else self.detector.sha256}

    def faces(self, images: Images, batch_size: int = 32) -> np.ndarray:
        """`face_embeddings`, [N, D] float32: NaN where there is no face."""
        return face_embeddings(self.embedder, self.detector, images, batch_size)[0]


def load_meter(
    source: str | Path, detect: bool = True, tell: Callable[[str], object] = lambda line: None
) -> IdentityMeter:
    """A face network as `load_embedder` takes it, with the bundled detector unless the network takes aligned images.

    Args:
        detect: False if all images are aligned faces, to be taken whole.
        tell: called with a line if no face is looked for all the same.

    Raises:
        LsapError, ConversionError: see `load_embedder`.
    """
    from lsap_jax.faces.detect import load_detector

    embedder = load_embedder(source)
    aligned = embedder.record.name == ARCFACE
    if aligned and detect:
        tell("ArcFace takes the images as aligned: no face is looked for")
    return IdentityMeter(embedder=embedder, detector=load_detector() if detect and not aligned else None)


def meter_of(identity: IdentityMeter | str | Path | None) -> IdentityMeter | None:
    """A meter, or that of a name or file; None for None."""
    return identity if identity is None or isinstance(identity, IdentityMeter) else load_meter(identity)


def kept(before: np.ndarray, after: np.ndarray) -> dict[str, np.ndarray]:
    """How alike faces are before and after, by their embeddings [N, D], which are NaN where there is no face.

    Returns:
        "identity", their cosines [N], NaN where either has no face; and "face" [N], whether the second has one, 1 or 0,
        NaN where the first has none.
    """
    there, seen = (np.isfinite(vectors).all(axis=1) for vectors in (before, after))
    face = np.where(there, seen.astype(float), math.nan)
    return {"identity": identity_similarity(before, after), "face": face}
