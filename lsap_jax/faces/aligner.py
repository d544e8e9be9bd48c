"""Cutting every picture of a source to its face on the way in, as `invert --align` does."""

import threading

from PIL import Image

from lsap_jax.data import ImageError
from lsap_jax.data.source import Align, Cut
from lsap_jax.faces.align import crop_quad, cut_out
from lsap_jax.faces.choose import FaceError, remarks
from lsap_jax.faces.detect import load_detector, shrunk
from lsap_jax.faces.upright import Small, find_meant


def aligner(resolution: int) -> Align:
    """For `Source.align`: finds the picture's one face with the bundled detector and cuts it out upright.

    Threads may share the function; they look for faces one after another, since each search uses the whole device.

    Args:
        resolution: side of the aligned picture in pixels.
    """
    detector, turn = load_detector(), threading.Lock()

    def aligned(picture: Image.Image) -> Cut:
        small = Small(shrunk(picture), picture.size)
        with turn:
            (found,) = find_meant(detector, [small], resolution)
        if isinstance(found, FaceError):
            raise ImageError(str(found))
        faces, chosen = found
        quad = crop_quad(faces.landmarks[chosen])
        notes = ["aligned to its face", *remarks(faces, chosen, picture.size, resolution)]
        return Cut(picture=Image.fromarray(cut_out(picture, quad, resolution)), quad=quad, notes=notes)

    return aligned
