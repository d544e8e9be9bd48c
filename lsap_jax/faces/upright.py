"""The face of a picture, searched for twice.

MTCNN finds a face that lies on its side now and then, and places eyes and mouth as if it stood nearly upright. So what
is cut out by them is searched again. Where no face is found in it, or one elsewhere, the landmarks are not trusted, and
the picture is searched on both sides and upside down too. The second look at 99 portraits (scikit-image's
`lfw_subset`) is off by 0.02 of the crop's side in the median and 0.07 at most, tilted by 40 degrees by 0.16 at most; at
`astronaut`, turned too far, by 0.2 and more, where it finds a face at all.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lsap_jax.faces.align import align, crop_quad
from lsap_jax.faces.atlas import Search, pyramid
from lsap_jax.faces.choose import LEAST_SCORE, FaceError, RivalError, choose_face, nose_inside
from lsap_jax.faces.detect import Detector, Faces, check_search, detect_small, scaled_back

LOOK = 256  # px of the crop that is looked at again
# From a corner of the crop to where the second look would put it, in sides: from where on the picture is turned, and
# from where on no position of it is trusted.
DOUBTFUL, WRONG = 0.15, 0.25
_QUARTERS = (1, 2, 3)


class Small(NamedTuple):
    """A picture as it is searched: `levels` of `detect.shrunk`, and its own `size`, width and height."""

    levels: np.ndarray
    size: tuple[int, int]


class Meant(NamedTuple):
    """Faces of a picture in its own coordinates, and which of them is meant."""

    faces: Faces
    chosen: int


class _Look(NamedTuple):
    """A face as found; if there is none, `error` says why and `off` is infinite."""

    meant: Meant
    off: float
    error: FaceError | None


def find_meant(
    detector: Detector,
    pictures: Sequence[Small],
    resolution: int,
    *,
    min_face: float = 20.0,
    batch_size: int | None = None,
    **options: Any,
) -> list[Meant | FaceError]:
    """The face that is meant in every picture, or an error that says why there is none.

    A picture without a face, or with a doubtful one, is turned by 90, 180 and 270 degrees, and the face that agrees
    best with its second look is taken. A picture with several faces is not turned: that would not tell which one is
    meant.

    Args:
        detector: of `load_detector`.
        pictures: of any sizes.
        resolution: R, of the aligned pictures, in pixels.
        min_face, batch_size: as of `detect`.
        options: `face`, `enlarge` and `profiles` of `choose_face`; profiles are taken at the first look, since the
            second may miss them.

    Raises:
        LsapError: settings out of range.
    """
    search = check_search(min_face)
    first = _looks(detector, [(small, 0) for small in pictures], resolution, search, batch_size, options)
    open = [i for i, look in enumerate(first) if look.off > DOUBTFUL and not isinstance(look.error, RivalError)]
    tries = [(pictures[i], quarter) for i in open for quarter in _QUARTERS]
    turned = _looks(detector, tries, resolution, search, batch_size, options)
    found: list[Meant | FaceError] = [look.error or look.meant for look in first]
    for place, i in enumerate(open):
        looks = [first[i], *turned[len(_QUARTERS) * place :][: len(_QUARTERS)]]
        best = min(looks, key=lambda look: look.off)
        if best.off <= WRONG:
            found[i] = best.meant
        elif first[i].error is not None:
            found[i] = FaceError(f"{first[i].error}{_limits(pictures[i], first[i], search)}")
        elif nose_inside(first[i].meant.faces.landmarks[first[i].meant.chosen]):
            found[i] = FaceError(
                "the face is not found again once it is cut out; if it lies on its side or upside down, turn the "
                "picture"
            )
    return found


def _looks(
    detector: Detector,
    tries: Sequence[tuple[Small, int]],
    resolution: int,
    search: Search,
    batch_size: int | None,
    options: dict[str, Any],
) -> list[_Look]:
    """Both looks at each picture, turned by so many quarters, anticlockwise."""
    found = detect_small(detector, [np.rot90(small.levels, turns) for small, turns in tries], search, batch_size)
    looks, crops = [], {}
    for place, ((small, turns), faces) in enumerate(zip(tries, found, strict=True)):
        faces = turned_back(faces, turns, small.levels.shape[1], small.levels.shape[0])
        whole, chosen, error = scaled_back(faces, small.levels, small.size), 0, None
        try:
            chosen = choose_face(whole, small.size, resolution, **options)
            crops[place] = align(small.levels, faces.landmarks[chosen], LOOK)
        except FaceError as refused:
            error = refused
        except ValueError as refused:  # landmarks in one point have no direction
            error = FaceError(str(refused))
        looks.append(_Look(Meant(whole, chosen), float("inf"), error))
    second = detect_small(detector, list(crops.values()), Search(), batch_size)
    for place, faces in zip(crops, second, strict=True):
        looks[place] = looks[place]._replace(off=off_centre(faces))
    return looks


def off_centre(faces: Faces) -> float:
    """How far the crop of the nearest of these faces is from that of `LOOK` px which they were found in, in its sides;
    infinite without a face.
    """
    corners = np.array([[0, 0], [0, LOOK], [LOOK, LOOK], [LOOK, 0]])
    return min((float(np.abs(crop_quad(a) - corners).max()) / LOOK for a in faces.landmarks), default=float("inf"))


def turned_back(faces: Faces, quarters: int, width: int, height: int) -> Faces:
    """Faces of `np.rot90(image, quarters)`, quarters from 0 on, in the image of this size itself."""
    if quarters == 0:
        return faces
    landmarks, corners = faces.landmarks - np.float32(0.5), faces.boxes - np.array([1, 1, 0, 0], np.float32)[None]
    for turn in range(quarters, 0, -1):  # the last one first
        wide = np.float32(width if turn % 2 else height)  # of the image before this turn
        x, y = landmarks[..., 0], landmarks[..., 1]
        landmarks = np.stack([wide - y, x], axis=-1)
        left, top, right, bottom = (corners[:, k] for k in range(4))
        corners = np.stack([wide - bottom, left, wide - top, right], axis=1)
    return Faces(corners + np.array([1, 1, 0, 0], np.float32)[None], faces.scores, landmarks + np.float32(0.5))


def _limits(small: Small, look: _Look, search: Search) -> str:
    """A remark for a picture without a face: which faces its size makes too small to be found."""
    if (look.meant.faces.scores >= LEAST_SCORE).any():
        return ""
    (width, height), (h, w) = small.size, small.levels.shape[:2]
    if not pyramid(h, w, search):
        return f"; the picture has only {width} x {height} px, faces of {search.min_face:g} px and more are looked for"
    if (h, w) == (height, width):
        return ""
    least = search.min_face * max(width, height) / max(w, h)
    return f"; it was searched at {w} x {h} px, where faces of less than {least:.0f} px of the picture are not found"
