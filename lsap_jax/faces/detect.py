"""Face detection by MTCNN: `load_detector`, once, and `detect` on images of any sizes.

    detector = load_detector()
    faces = detect(detector, images)[0]         # of the first image, largest first
    faces.boxes, faces.scores, faces.landmarks

Coordinates are the original's, which counts pixels from 1: the centre of the upper left one is (1, 1), and a box of the
whole image is (1, 1, W, H).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from lsap_jax.errors import LsapError
from lsap_jax.faces.atlas import Search, atlas, level_sizes, pyramid
from lsap_jax.faces.cascade import cascade
from lsap_jax.models.detector import Detector
from lsap_jax.models.network_file import load
from lsap_jax.networks.mtcnn import LANDMARKS, WINDOW

LONGEST = 1024  # px of the side of a picture that is searched
CANVAS = 256  # px: sides of canvases are multiples of it
BATCH = 8  # on accelerators; a CPU is no faster with more than one image at once


@dataclass(frozen=True)
class Faces:
    """Faces of one image, the largest first.

    Attributes:
        boxes: float32 [K, 4], left, top, right, bottom; they may reach out of the image.
        scores: float32 [K], 0 to 1.
        landmarks: float32 [K, 5, 2], (x, y) of left eye, right eye, nose, left and right corner of the mouth, left and
            right as they are seen.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


def bundled_detector() -> Path:
    """File of the weights inside the package."""
    return Path(str(resources.files("lsap_jax") / "assets")) / "mtcnn.safetensors"


def load_detector(path: str | Path | None = None) -> Detector:
    """The detector of the package, or of a file that `lsap-jax convert` wrote from facenet-pytorch's wheel, or of the
    wheel itself.

    Raises:
        LsapError, ConversionError: there is no such file, it is damaged, incomplete, or holds something else.
    """
    found: Detector = load(bundled_detector() if path is None else path, "mtcnn")
    return found


def detect(
    detector: Detector,
    images: np.ndarray | Sequence[np.ndarray],
    min_face: float = 20.0,
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
    factor: float = 0.709,
    *,
    longest: int = LONGEST,
    batch_size: int | None = None,
) -> list[Faces]:
    """Faces of every image, as facenet-pytorch 2.6 finds them.

    Images whose longer side is above `longest` are scaled down to it by area, and coordinates are scaled back. They are
    laid on canvases whose sides are multiples of 256 px, and those of one canvas go through together, filled up to
    `batch_size`: one program for each of at most 16 canvases, at the default `longest`, whatever the sizes.

    Args:
        detector: of `load_detector`.
        images: uint8 [N, H, W, 3], or a list of [H, W, 3] of any sizes.
        min_face: side of the smallest face in pixels, of the image as it is searched; 12 or more.
        thresholds: of the three networks' probabilities.
        factor: between levels of the pyramid, between 0 and 1.
        longest: largest side that is searched as it is, in pixels.
        batch_size: images at once; by default 8, on a CPU 1.

    Returns:
        as many `Faces` as images.

    Raises:
        LsapError: the images have another shape or dtype, or a setting is out of range.
    """
    search = check_search(min_face, thresholds, factor)
    if longest < 1:
        raise LsapError(f"longest={longest}: must be 1 or more")
    small = [_scaled_down(_checked(image), longest) for image in images]
    found = detect_small(detector, small, search, batch_size)
    sizes = [(image.shape[1], image.shape[0]) for image in images]
    return [scaled_back(faces, one, size) for faces, one, size in zip(found, small, sizes, strict=True)]


def detect_small(
    detector: Detector, images: Sequence[np.ndarray], search: Search, batch_size: int | None = None
) -> list[Faces]:
    """As `detect`, of images of `shrunk`, in their own coordinates."""
    count = together(batch_size)
    found: list[Faces] = [nobody() for _ in images]
    groups: dict[tuple[int, int], list[int]] = {}
    for index, image in enumerate(images):
        if pyramid(image.shape[0], image.shape[1], search):
            groups.setdefault(canvas(image.shape[0], image.shape[1]), []).append(index)
    for size, indices in groups.items():
        for start in range(0, len(indices), count):
            some = indices[start : start + count]
            faces = _search_batch(detector, [images[i] for i in some], count, size, search)
            for index, one in zip(some, faces, strict=True):
                found[index] = one
    return found


def together(batch_size: int | None = None) -> int:
    """How many images are searched at once: as many as are asked for, by default 8, on a CPU 1.

    Raises:
        LsapError: `batch_size` is less than one.
    """
    if batch_size is None:
        return 1 if jax.default_backend() == "cpu" else BATCH
    if batch_size < 1:
        raise LsapError(f"batch_size={batch_size}: must be 1 or more")
    return batch_size


def shrunk(picture: Image.Image, longest: int = LONGEST) -> np.ndarray:
    """A picture as it is searched: uint8 [h, w, 3] of at most `longest` px, scaled down by area."""
    ratio = longest / max(picture.size)
    if ratio < 1:
        size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
        picture = picture.resize(size, Image.Resampling.BOX)
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def nobody() -> Faces:
    """No faces."""
    return Faces(*(np.zeros(shape, np.float32) for shape in ((0, 4), (0,), (0, LANDMARKS, 2))))


def canvas(height: int, width: int) -> tuple[int, int]:
    """Size of the canvas that images of a size are searched on."""
    return -(-height // CANVAS) * CANVAS, -(-width // CANVAS) * CANVAS


def check_search(
    min_face: float = 20.0, thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7), factor: float = 0.709
) -> Search:
    """The settings of `detect` as one; raises LsapError where one is out of range."""
    if not WINDOW <= min_face < float("inf"):
        raise LsapError(
            f"min_face={min_face:g}: must be at least {WINDOW} pixels, which is what the first network sees"
        )
    if not 0 < factor < 1:
        raise LsapError(f"factor={factor:g} between levels of the pyramid: must lie between 0 and 1")
    if len(thresholds) != 3 or not all(0 < t < 1 for t in thresholds):
        raise LsapError(f"thresholds={thresholds}: must be three probabilities between 0 and 1")
    return Search(float(min_face), (float(thresholds[0]), float(thresholds[1]), float(thresholds[2])), float(factor))


def _checked(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
        raise LsapError(f"faces are looked for in uint8 images [H, W, 3], got {image.dtype} {list(image.shape)}")
    return image


def _scaled_down(image: np.ndarray, longest: int) -> np.ndarray:
    return image if max(image.shape) <= longest else shrunk(Image.fromarray(image), longest)


def _search_batch(
    detector: Detector, images: Sequence[np.ndarray], count: int, size: tuple[int, int], search: Search
) -> list[Faces]:
    """Faces of up to `count` images that share a canvas."""
    canvases = np.zeros((count, *size, 3), np.uint8)
    sizes = np.zeros((count, 2), np.int32)
    for slot, image in enumerate(images):
        canvases[slot, : image.shape[0], : image.shape[1]] = image
        sizes[slot] = image.shape[:2]
    levels = level_sizes(sizes, len(pyramid(*size, search)), search)
    result = jax.device_get(cascade(detector.params, atlas(*size, search), canvases, sizes, levels, search))
    return [
        _largest_first(result.boxes[i][kept], result.scores[i][kept], result.landmarks[i][kept])
        for i, kept in enumerate(result.faces[: len(images)])
    ]


def _largest_first(boxes: np.ndarray, scores: np.ndarray, landmarks: np.ndarray) -> Faces:
    sides = boxes[:, 2:] - boxes[:, :2]
    order = np.argsort(-sides[:, 0] * sides[:, 1], kind="stable")
    return Faces(boxes[order], scores[order], landmarks[order])


def scaled_back(faces: Faces, small: np.ndarray, size: tuple[int, int]) -> Faces:
    """Faces of `small` [h, w, 3] in the picture of this size (width, height) that it was made of."""
    x, y = size[0] / small.shape[1], size[1] / small.shape[0]  # what scales are edges of pixels, counted from 0
    scale, corners = np.array([x, y], np.float32), np.array([1, 1, 0, 0], np.float32)[None]
    boxes = (faces.boxes - corners) * np.tile(scale, 2)[None] + corners
    landmarks = (faces.landmarks - np.float32(0.5)) * scale[None, None] + np.float32(0.5)
    return Faces(boxes, faces.scores, landmarks)
