"""`lsap_jax.edit`: codes along a direction, and their images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lsap_jax.data.masks import masks_from_arrays
from lsap_jax.editing.direction import Direction, family
from lsap_jax.editing.layers import Layers
from lsap_jax.editing.limits import FEATHER, check_feather, feathered, laid_over
from lsap_jax.editing.moves import checked, move
from lsap_jax.editing.named import find
from lsap_jax.errors import LsapError
from lsap_jax.metrics.identity import IdentityMeter, kept, meter_of
from lsap_jax.models.generator import Generator
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.render import fitted, render
from lsap_jax.spaces import Space


@dataclass(frozen=True, kw_only=True)
class Edited:
    """Codes and images, first axes S (strengths, or points of the way) and N (images).

    Attributes:
        space: pass it to `render` with the codes of one strength, `{k: a[s] for k, a in codes.items()}`.
        strengths: S of them, in the order given.
        codes: by name [S, N, ...]; what does not change is repeated without copying, and read-only.
        images: float32 [S, N, R, R, C], clipped to [-1, 1].
        identity: [S, N], cosine of the face embeddings of reconstruction and edit, NaN where either has no face; None
            where it is not asked for.
    """

    space: Space
    strengths: tuple[float, ...]
    codes: dict[str, np.ndarray]
    images: np.ndarray
    identity: np.ndarray | None = None


def edit(
    G: Generator,
    space: str | Space,
    codes: Mapping[str, np.ndarray],
    direction: Direction | np.ndarray | str,
    strengths: Sequence[float],
    *,
    unit: str = "step",
    layers: Layers = None,
    absolute: str | None = None,
    images: np.ndarray | None = None,
    batch_size: int = 16,
    refinement: Refinement | None = None,
    identity: IdentityMeter | str | Path | None = None,
    masks: np.ndarray | None = None,
    originals: np.ndarray | None = None,
    feather: float = FEATHER,
) -> Edited:
    """Codes moved along a direction, by every strength, and their images. The table in `lsap_jax.editing.moves` says
    what a strength means.

    Args:
        space: a name, or the Space of an inversion with its truncation.
        codes: by name, first axis N, as `invert` returns them.
        direction: a `Direction`; a text as for `lsap-jax edit --direction` ("smile", "ganspace:3", "random:0",
            "FILE:NAME"); or an array of the space's own coordinates: [d] for every row, or one per row.
        strengths: S of them; 0 gives back the code untouched.
        unit: "step" or, in z spaces, "angle" in radians.
        layers: "coarse", "middle", "fine", rows as "4-7" or numbers; the direction's own range by default, which
            "all" lifts.
        absolute: "own" or "first": a strength is the coordinate to reach (GANSpace in flat spaces), and 0 the mean's.
        images: [N, R, R, C] of the codes, e.g. `Inversion.images`: shown at strength 0 as they are. Without them
            strength 0 is what `render` makes of the codes, bit for bit.
        batch_size: images rendered at once.
        refinement: of the same N images; it stays at every strength, and transforms that look at codes see the moved
            ones.
        masks: [N, H, W] in [0, 1], square: edits are limited to where they are 1, and fade in from the edge; strength 0
            is not, it shows what it does without them.
        originals: [N, R, R, C], what edits are laid over where masks are less than 1; the unedited pictures by default.
        feather: width over which they fade in, in sides of the picture.
        identity: a face network for photographs of faces: "dlib" (bundled), or a file (`load_meter`).

    Returns:
        an `Edited`.

    Raises:
        LsapError: codes, direction, range, images, masks or refinement of another space or generator, no strengths, or
            no such face network.
    """
    meter = meter_of(identity)
    G, space, codes = fitted(G, space, codes)
    count = len(checked(G, space, codes))
    if isinstance(direction, str):
        direction = _named(G, space, direction)
    elif not isinstance(direction, Direction):
        direction = Direction(name="given", space=family(space), vector=np.asarray(direction, np.float32))
    steps = np.asarray(strengths, np.float64)
    if steps.ndim != 1 or not steps.size:
        raise LsapError(f"strengths of shape {list(steps.shape)}: give a list of one or more numbers")
    shown = None if images is None else _checked_images(G, images, count)
    shares = None if masks is None else _shares(G, masks, count, feather)
    below = None if originals is None else _checked_images(G, originals, count)
    if below is not None and masks is None:
        raise LsapError("originals: are what edits are laid over by masks; give masks, too")
    moved = [move(G, space, codes, direction, s, unit=unit, layers=layers, absolute=absolute) for s in steps]
    pictures = [
        shown
        if shown is not None and s == 0 and absolute is None
        else render(G, space, one, batch_size, refinement=refinement)
        for s, one in zip(steps, moved, strict=True)
    ]
    if shown is None and (meter is not None or shares is not None and below is None):
        shown = render(G, space, codes, batch_size, refinement=refinement)
    if shares is not None:
        below = shown if below is None else below
        assert below is not None
        untouched = [s == 0 and absolute is None for s in steps]
        pictures = [p if same else laid_over(below, p, shares) for p, same in zip(pictures, untouched, strict=True)]
    return Edited(
        space=space,
        strengths=tuple(steps.tolist()),
        codes=_stacked(codes, moved, space.key),
        images=np.stack(pictures),
        identity=None if meter is None or shown is None else _identities(meter, shown, pictures, batch_size),
    )


def _identities(
    meter: IdentityMeter, reconstructions: np.ndarray, edited: Sequence[np.ndarray], batch_size: int
) -> np.ndarray:
    """[S, N] similarities of S times N edited images with N reconstructions."""
    faces = meter.faces(reconstructions, batch_size)
    return np.stack([kept(faces, meter.faces(images, batch_size))["identity"] for images in edited])


def _named(G: Generator, space: Space, text: str) -> Direction:
    found = find(G, space, text)
    if len(found) > 1:
        names = ", ".join(one.name for one in found[:8])
        raise LsapError(f"direction {text!r}: stands for {len(found)} directions ({names}); name one of them")
    return found[0]


def _stacked(codes: Mapping[str, np.ndarray], moved: list[dict[str, np.ndarray]], key: str) -> dict[str, np.ndarray]:
    """[S, N, ...] of the code that moved; views of the others."""
    still = {name: np.broadcast_to(a, (len(moved), *a.shape)) for name, a in codes.items() if name != key}
    return {key: np.stack([one[key] for one in moved]), **still}


def _shares(G: Generator, masks: np.ndarray, count: int, feather: float) -> np.ndarray:
    """Feathered masks [N, R, R] at the generator's resolution."""
    check_feather(feather)
    if np.ndim(masks) != 3 or np.shape(masks)[1] != np.shape(masks)[2]:
        raise LsapError(f"masks of shape {list(np.shape(masks))}: give squares, [{count}, H, H] in [0, 1]")
    read = masks_from_arrays(masks, (count, *np.shape(masks)[1:]), G.img_resolution, "crop")
    return np.stack([feathered(mask, feather) for i in range(count) if (mask := read(i)) is not None])


def _checked_images(G: Generator, images: np.ndarray, count: int) -> np.ndarray:
    shape = (count, G.img_resolution, G.img_resolution, G.img_channels)
    if np.shape(images) != shape or not np.issubdtype(np.asarray(images).dtype, np.floating):
        raise LsapError(
            f"images are {np.asarray(images).dtype} of shape {list(np.shape(images))}; give the float images of the "
            f"codes, {list(shape)} in [-1, 1], as `invert` and `render` return them"
        )
    return np.asarray(images, np.float32)
