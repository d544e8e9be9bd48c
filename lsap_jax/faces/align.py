"""Alignment as in FFHQ: a square around the face, upright with it, from the places of eyes and mouth.

Karras et al., A Style-Based Generator Architecture for Generative Adversarial Networks (CVPR 2019), appendix A, and the
published dataset tool, with one landmark for each eye and each corner of the mouth in place of dlib's many.
"""

import numpy as np
from PIL import Image, ImageFilter

BY_EYES, BY_MOUTH = 2.0, 1.8  # half the crop's side, in distances between the eyes and from eyes to mouth
DOWN = 0.1  # of the way from the eyes to the mouth to the crop's centre
SUPERSAMPLING = 4
# Centres of the eyes in the square that dlib cuts out, in sides: the means of the corners in its table of mean places
# (dlib/image_transforms/interpolation.h, get_face_chip_details), with padding 0.25.
DLIB_EYES = ((0.31822, 0.31427), (0.66854, 0.31415))
_MARGIN = 0.1  # around the crop that the blur may need, in sides of the crop
_PADDING, _BLUR = 0.3, 0.02  # the least padding and the blur of its border, in sides
_CLOSE = 4  # px to the picture's edge from which it is padded


def crop_quad(landmarks: np.ndarray) -> np.ndarray:
    """Corners of the square to cut out.

    Args:
        landmarks: [5, 2], (x, y) of left eye, right eye, nose, left and right corner of the mouth, as `detect` gives
            them: the centre of the picture's upper left pixel is (1, 1).

    Returns:
        float64 [4, 2]: upper left, lower left, lower right, upper right, as the face stands; here (0, 0) is the upper
        left corner of the picture.

    Raises:
        ValueError: not such landmarks, or eyes and mouth in one point.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise ValueError(f"landmarks are 5 finite points [5, 2], not {points.tolist()}")
    points = points - 0.5
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    across, down = points[1] - points[0], mouth - eyes
    # The face's own horizontal: as the eyes say and, turned by a right angle, as the way to the mouth says.
    x = across + np.array([down[1], -down[0]])
    length = np.hypot(*x)
    if length == 0:
        raise ValueError(f"landmarks {points.tolist()} have no direction: eyes and mouth cancel out")
    x *= max(BY_EYES * np.hypot(*across), BY_MOUTH * np.hypot(*down)) / length
    y = np.array([-x[1], x[0]])
    centre = eyes + DOWN * down
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def eyes_quad(landmarks: np.ndarray) -> np.ndarray:
    """Corners [4, 2] of the square that has the eyes where dlib's 5-point alignment puts them (padding 0.25).

    dlib fits the corners of the eyes and the nose; here the centres of the eyes decide, as `detect` finds them.

    Args:
        landmarks: as for `crop_quad`.

    Raises:
        ValueError: both eyes in one point.
    """
    left, right = np.asarray(landmarks, np.float64)[:2] - 0.5
    across = right - left
    if not np.isfinite(across).all() or not across.any():
        raise ValueError(f"eyes at {left.tolist()} and {right.tolist()} give no direction")
    x = across / (DLIB_EYES[1][0] - DLIB_EYES[0][0])  # a side of the square
    y = np.array([-x[1], x[0]])
    u, v = np.mean(DLIB_EYES, axis=0)
    corner = (left + right) / 2 - u * x - v * y
    return np.stack([corner, corner + y, corner + x + y, corner + x])


def quad_side(quad: np.ndarray) -> float:
    """Side of the square, in pixels."""
    return float(np.hypot(*(quad[3] - quad[0])))


def align(picture: Image.Image | np.ndarray, landmarks: np.ndarray, resolution: int) -> np.ndarray:
    """The face upright in the middle, as uint8 [R, R, 3].

    A crop of more than twice the resolution is made of a picture that is scaled down first. Where it reaches over the
    picture's edge, the picture is continued by its reflection, which blurs and fades to the median colour. It is then
    turned at 4 R px, bilinear, and scaled down by Lanczos.

    Args:
        picture: of Pillow, or uint8 [H, W, 3].
        landmarks: as for `crop_quad`.
        resolution: R, in pixels.
    """
    return cut_out(picture, crop_quad(landmarks), resolution)


def cut_out(picture: Image.Image | np.ndarray, quad: np.ndarray, resolution: int) -> np.ndarray:
    """A square of a picture, as `align` makes it: uint8 [R, R, 3].

    Args:
        quad: [4, 2], its corners, as `crop_quad` gives them.
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image = image if image.mode == "RGB" else image.convert("RGB")
    image, quad = _scaled_down(image, quad, resolution)
    image, quad = _cut(image, quad)
    image, quad = _padded(image, quad)
    large = SUPERSAMPLING * resolution
    data = tuple(float(v) for v in quad.ravel())
    image = image.transform((large, large), Image.Transform.QUAD, data, Image.Resampling.BILINEAR)
    return np.array(image.resize((resolution, resolution), Image.Resampling.LANCZOS))


def _scaled_down(image: Image.Image, quad: np.ndarray, resolution: int) -> tuple[Image.Image, np.ndarray]:
    """By a whole number, so that the crop has 2 to 4 times the resolution, where it is larger than that."""
    factor = int(quad_side(quad) / resolution / 2)
    if factor < 2:
        return image, quad
    size = (max(1, round(image.width / factor)), max(1, round(image.height / factor)))
    scale = np.array(size) / np.array(image.size)
    return image.resize(size, Image.Resampling.LANCZOS), quad * scale


def _bounds(quad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.floor(quad.min(axis=0)).astype(int), np.ceil(quad.max(axis=0)).astype(int)


def _border(quad: np.ndarray) -> int:
    return max(round(quad_side(quad) * _MARGIN), 3)


def _cut(image: Image.Image, quad: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """What lies around the crop, for speed."""
    first, last = _bounds(quad)
    border = _border(quad)
    size = np.array(image.size)
    # At least a pixel is left of a picture that the crop misses.
    first = np.clip(first - border, 0, size - 1)
    last = np.maximum(np.minimum(last + border, size), first + 1)
    box = (int(first[0]), int(first[1]), int(last[0]), int(last[1]))
    return image.crop(box), quad - first


def _padded(image: Image.Image, quad: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """A picture that the crop reaches over, continued."""
    first, last = _bounds(quad)
    border, size = _border(quad), np.array(image.size)
    missing = np.maximum(np.concatenate([border - first, last + border - size]), 0)  # left, top, right, bottom
    if missing.max() <= border - _CLOSE:
        return image, quad
    left, top, right, bottom = np.maximum(missing, round(quad_side(quad) * _PADDING)).tolist()
    wide = np.pad(np.asarray(image), ((top, bottom), (left, right), (0, 0)), mode="reflect")
    blurred = np.asarray(Image.fromarray(wide).filter(ImageFilter.GaussianBlur(quad_side(quad) * _BLUR)))
    # How deep in the padding: 1 at the outer edge, 0 where the picture begins, negative inside.
    x, y = np.arange(wide.shape[1], dtype=np.float32), np.arange(wide.shape[0], dtype=np.float32)
    depth = np.maximum(
        1 - np.minimum(x / left, (len(x) - 1 - x) / right)[None, :],
        1 - np.minimum(y / top, (len(y) - 1 - y) / bottom)[:, None],
    )[..., None]
    mixed = wide + (blurred - wide.astype(np.float32)) * np.clip(3 * depth + 1, 0, 1)
    median = np.median(mixed[:: 1 + len(y) // 512, :: 1 + len(x) // 512], axis=(0, 1))  # of some of the pixels
    mixed += (median.astype(np.float32)[None, None] - mixed) * np.clip(depth, 0, 1)
    padded = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return Image.fromarray(padded), quad + np.array([left, top])
