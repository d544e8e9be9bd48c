"""How alignment copes with a picture that is turned: scikit-image's `astronaut` in steps of 15 degrees, clockwise.

    python benchmarks/turned.py

Prints how far a corner of the crop is from where that of the upright picture has gone, in sides of the crop, or why the
picture is refused.
"""

import numpy as np
from PIL import Image
from skimage import data

from lsap_jax.faces.align import crop_quad
from lsap_jax.faces.choose import FaceError
from lsap_jax.faces.detect import load_detector, shrunk
from lsap_jax.faces.upright import Small, find_meant

RESOLUTION = 256


def quad(detector, picture: Image.Image) -> np.ndarray | str:
    """Corners [4, 2] of the crop, or the reason for none."""
    (found,) = find_meant(detector, [Small(shrunk(picture), picture.size)], RESOLUTION)
    return str(found) if isinstance(found, FaceError) else crop_quad(found.faces.landmarks[found.chosen])


def main() -> None:
    detector, upright = load_detector(), Image.fromarray(data.astronaut())
    start = quad(detector, upright)
    side = np.linalg.norm(start[1] - start[0])
    errors = []
    for degrees in range(-180, 180, 15):
        picture = upright.rotate(-degrees, Image.Resampling.BICUBIC, expand=True)
        angle = np.deg2rad(degrees)
        matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        expected = (start - np.array(upright.size) / 2) @ matrix.T + np.array(picture.size) / 2
        found = quad(detector, picture)
        if isinstance(found, str):
            print(f"{degrees:5d}  refused: {found}")
            continue
        errors.append(np.linalg.norm(found - expected, axis=1).max() / side)
        print(f"{degrees:5d}  {errors[-1]:.3f}")
    print(f"{len(errors)} of 24 cut out, the farthest corner off by {max(errors):.3f} sides")


if __name__ == "__main__":
    main()
