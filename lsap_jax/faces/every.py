"""Every face of a picture, from left to right.

The largest is found as `lsap_jax.faces.upright` finds it, in a turned picture, too. The others that are there are then
held to the same: large enough, whole, not from the side, and found again in what is cut out by their landmarks.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lsap_jax.faces.align import align, crop_quad
from lsap_jax.faces.atlas import Search
from lsap_jax.faces.choose import ENLARGE, LEAST_SCORE, FaceError, check_face, nose_inside
from lsap_jax.faces.detect import Detector, Faces, check_search, detect_small, scaled_back
from lsap_jax.faces.upright import LOOK, WRONG, Meant, Small, find_meant, off_centre


class Every(NamedTuple):
    """The faces of a picture that can be aligned, from left to right, and why the others cannot."""

    meant: list[Meant]
    left_out: list[str]


def find_every(
    detector: Detector,
    pictures: Sequence[Small],
    resolution: int,
    *,
    min_face: float = 20.0,
    batch_size: int | None = None,
    enlarge: float = ENLARGE,
    profiles: bool = False,
) -> list[Every | FaceError]:
    """All faces of every picture that can be aligned, or an error that says why there is none.

    Args:
        detector: of `load_detector`.
        pictures: of any sizes.
        resolution: R, of the aligned pictures, in pixels.
        min_face, batch_size: as of `detect`.
        enlarge, profiles: as of `choose_face`.

    Returns:
        the faces in the order of the centres of their crops, from left to right.

    Raises:
        LsapError: settings out of range.
    """
    search, limits = check_search(min_face), dict[str, Any](enlarge=enlarge, profiles=profiles)
    options = {"min_face": min_face, "batch_size": batch_size, "face": "largest", **limits}
    largest = find_meant(detector, pictures, resolution, **options)
    lost = [i for i, found in enumerate(largest) if isinstance(found, FaceError)]
    again = dict(zip(lost, detect_small(detector, [pictures[i].levels for i in lost], search, batch_size), strict=True))
    faces = [
        scaled_back(again[i], small.levels, small.size) if isinstance(found, FaceError) else found.faces
        for i, (small, found) in enumerate(zip(pictures, largest, strict=True))
    ]
    kept = [[] if isinstance(found, FaceError) else [found.chosen] for found in largest]
    left_out: list[list[str]] = [[] for _ in pictures]
    crops: dict[tuple[int, int], np.ndarray] = {}
    for i, k in _others(faces, kept):
        landmarks, small = faces[i].landmarks[k], pictures[i]
        try:
            check_face(landmarks, small.size, resolution, **limits)
            crops[i, k] = align(small.levels, _in_levels(landmarks, small), LOOK)
        except (FaceError, ValueError) as refused:  # landmarks in one point have no direction
            left_out[i].append(str(refused))
    looks = detect_small(detector, list(crops.values()), Search(), batch_size)
    for (i, k), look in zip(crops, looks, strict=True):
        if off_centre(look) <= WRONG or not nose_inside(faces[i].landmarks[k]):  # the second look may miss a profile
            kept[i].append(k)
        else:
            left_out[i].append("the face is not found again once it is cut out")
    return [
        Every([Meant(own, k) for k in sorted(chosen, key=lambda k: _place(own, k))], why)
        if chosen
        else _none(found, why)
        for found, own, chosen, why in zip(largest, faces, kept, left_out, strict=True)
    ]


def _others(faces: Sequence[Faces], kept: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    """(picture, face) of the faces that are certain and not kept already."""
    for i, own in enumerate(faces):
        for k in np.flatnonzero(own.scores >= LEAST_SCORE).tolist():
            if k not in kept[i]:
                yield i, k


def _in_levels(landmarks: np.ndarray, small: Small) -> np.ndarray:
    """Landmarks of a picture in the small one that is searched: the inverse of `scaled_back`."""
    scale = np.array(small.size) / np.array(small.levels.shape[1::-1])
    return (landmarks - 0.5) / scale[None] + 0.5


def _place(faces: Faces, k: int) -> tuple[float, float]:
    x, y = crop_quad(faces.landmarks[k]).mean(axis=0)
    return float(x), float(y)


def _none(found: Meant | FaceError, why: Sequence[str]) -> FaceError:
    """Why a picture has no face to align: what is wrong with the only one, or with the first of several."""
    if len(why) > 1:
        return FaceError(f"none of {len(why)} faces can be aligned; of the largest: {why[0]}")
    return found if isinstance(found, FaceError) else FaceError("no face found")
