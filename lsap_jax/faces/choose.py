"""Which face of a picture is meant, whether it can be aligned, and if not, why.

Generators of faces know pictures of one face that looks about ahead. Everything else is refused with its reason, or
taken with a remark, so that nothing is cut out by mistake among thousands of pictures.
"""

import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.faces.align import crop_quad, quad_side
from lsap_jax.faces.detect import Faces

CHOICES = ("clear", "largest", "only")
ALL = "all"  # is not a choice: `lsap_jax.faces.every`
LEAST_SCORE = 0.9  # of what counts as a face; false alarms mostly score less
RIVAL = 0.5  # share of the largest face's side from which another one is a rival
ENLARGE = 4.0
MOST_ROLL = 45.0  # degrees
LEAST_OUTSIDE = 0.02


class FaceError(LsapError):
    """No face of a picture can be aligned; the message says why."""


class RivalError(FaceError):
    """There are several faces, and none is clearly the one that is meant."""


def choose_face(
    faces: Faces,
    size: tuple[int, int],
    resolution: int,
    *,
    face: str = "clear",
    enlarge: float = ENLARGE,
    profiles: bool = False,
) -> int:
    """Index of the face that is meant.

    Args:
        faces: of one picture, the largest first.
        size: width and height of the picture.
        resolution: R, of the aligned picture, in pixels.
        face: "clear" takes the largest and refuses where the second is more than half as large (by its box's side);
            "largest" takes it whatever there is besides; "only" refuses where there is any other.
        enlarge: a face is too small where its crop has to be enlarged more than so many times; at 4, the default, where
            the eyes of a frontal face are less than R / 16 px apart.
        profiles: take faces whose nose lies outside of eyes and mouth, which are seen from the side.

    Raises:
        FaceError: there is no face or more than one, or the face is cut off, too small or seen from the side.
        LsapError: as `check_options`.
    """
    check_options(face, enlarge)
    certain = np.flatnonzero(faces.scores >= LEAST_SCORE)
    if not len(certain):
        best = (
            f"; the best guess has a score of {faces.scores.max():.2f}, {LEAST_SCORE} is needed" if len(faces) else ""
        )
        raise FaceError(f"no face found{best}")
    chosen, others = int(certain[0]), certain[1:]
    sides = box_sides(faces.boxes)
    share = sides[others[0]] / sides[chosen] if len(others) else 0.0
    if len(others) and (face == "only" or (face == "clear" and share > RIVAL)):
        raise RivalError(
            f"{len(certain)} faces found, the second {share:.2f} times as large as the largest; crop the picture to "
            "the one that is meant (`lsap-jax align --face=largest` takes the largest)"
        )
    check_face(faces.landmarks[chosen], size, resolution, enlarge=enlarge, profiles=profiles)
    return chosen


def check_face(
    landmarks: np.ndarray, size: tuple[int, int], resolution: int, *, enlarge: float = ENLARGE, profiles: bool = False
) -> None:
    """Raises FaceError where a face is cut off, too small or seen from the side; arguments as of `choose_face`.

    Args:
        landmarks: [5, 2], of the face.
    """
    if not ((landmarks >= 0) & (landmarks <= np.array(size)[None])).all():
        raise FaceError("the face is cut off: an eye, the nose or a corner of the mouth lies outside of the picture")
    side = quad_side(crop_quad(landmarks))
    if resolution > enlarge * side:
        eyes = np.hypot(*(landmarks[1] - landmarks[0]))
        raise FaceError(
            f"the face is too small: its eyes are {eyes:.0f} px apart, its crop of {side:.0f} px would be enlarged "
            f"{resolution / side:.1f} times, at most {enlarge:g} are allowed (`lsap-jax align --enlarge`)"
        )
    if not profiles and not nose_inside(landmarks):
        raise FaceError(
            "the face is seen from the side, its nose lies outside of eyes and mouth (`lsap-jax align --profiles` "
            "takes it)"
        )


def check_options(face: str, enlarge: float) -> None:
    """Raises LsapError if `face` of `choose_face` is unknown or `enlarge` is not a positive, finite number."""
    if face not in CHOICES:
        raise LsapError(f"face {face!r} is unknown: {', '.join(CHOICES)}")
    if not 0 < enlarge < float("inf"):
        raise LsapError(f"enlarge {enlarge:g} is not a positive and finite factor")


def remarks(faces: Faces, chosen: int, size: tuple[int, int], resolution: int) -> list[str]:
    """Remarks about a face that was accepted, in words; usually none. Arguments as of `choose_face`."""
    others = int((faces.scores >= LEAST_SCORE).sum()) - 1
    beside = [f"the largest of {others + 1} faces"] if others > 0 else []
    return beside + remarks_of_face(faces.landmarks[chosen], size, resolution)


def remarks_of_face(landmarks: np.ndarray, size: tuple[int, int], resolution: int) -> list[str]:
    """The same of a face [5, 2] alone, whatever is beside it."""
    notes = []
    if abs(roll(landmarks)) > MOST_ROLL:
        notes.append(f"turned by {roll(landmarks):.0f} degrees in the plane")
    if not nose_inside(landmarks):
        notes.append("seen from the side")
    quad = crop_quad(landmarks)
    if (missing := outside(quad, size)) >= LEAST_OUTSIDE:
        notes.append(f"{100 * missing:.0f} % of the crop lies outside of the picture and is made up")
    if resolution > quad_side(quad):
        notes.append(f"enlarged {resolution / quad_side(quad):.1f} times")
    return notes


def outside(quad: np.ndarray, size: tuple[int, int]) -> float:
    """Share of a crop that is not in a picture of this size (width, height), 0 to 1."""
    u, v = (np.mgrid[:50, :50] + 0.5) / 50
    along, down = (quad[3] - quad[0])[None, None], (quad[1] - quad[0])[None, None]
    points = quad[0] + u[..., None] * along + v[..., None] * down
    return float(1 - ((points >= 0) & (points < np.array(size))).all(axis=-1).mean())


def box_sides(boxes: np.ndarray) -> np.ndarray:
    """Mean of width and height [K] of boxes [K, 4]."""
    return (boxes[:, 2:] - boxes[:, :2]).mean(axis=1)


def roll(landmarks: np.ndarray) -> float:
    """Degrees by which the line of the eyes is turned, clockwise as seen, -180 to 180."""
    dx, dy = np.asarray(landmarks[1], np.float64) - landmarks[0]
    return float(np.degrees(np.arctan2(dy, dx)))


def nose_inside(landmarks: np.ndarray) -> bool:
    """Whether the nose lies inside of the quadrilateral of eyes and corners of the mouth."""
    left_eye, right_eye, nose, left_mouth, right_mouth = np.asarray(landmarks, np.float64)
    corners = np.stack([left_eye, right_eye, right_mouth, left_mouth])
    along = np.roll(corners, -1, axis=0) - corners
    to = nose - corners
    return bool((along[:, 0] * to[:, 1] - along[:, 1] * to[:, 0] > 0).all())
