"""What a network sees of a generator's image: how much of it, at which size, by which filter."""

from typing import NamedTuple

import jax

FILTERS = {"lanczos": "lanczos3", "bilinear": "triangle"}  # names as Pillow's -> as jax.image's; both antialiased


class View(NamedTuple):
    """Images of `height` x `width` px, resized by one of `FILTERS`.

    A height below the width leaves out rows above and below: a generator of cars makes squares, and black bars fill
    what pictures of 4 by 3 leave of them.
    """

    height: int
    width: int
    filter: str = "lanczos"

    @property
    def barred(self) -> bool:
        """Whether rows above and below are left out."""
        return self.height < self.width


def square(side: int, filter: str = "lanczos") -> View:
    """The whole image at `side` x `side` px."""
    return View(side, side, filter)


def middle(side: int, view: View) -> slice:
    """The rows that a view shows of an image of side x side px."""
    rows = side * view.height // view.width
    return slice((side - rows) // 2, (side + rows) // 2)


def viewed(images: jax.Array, view: View) -> jax.Array:
    """Images [B, R, R, C] as [B, height, width, C]. On uint8 Pillow does the same and rounds (`inversion.jobs`)."""
    images = images[:, middle(images.shape[2], view)]
    size = (view.height, view.width)
    if images.shape[1:3] == size:
        return images
    method = FILTERS[view.filter]
    return jax.image.resize(images, (images.shape[0], *size, images.shape[3]), method, antialias=True)
