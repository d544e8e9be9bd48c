"""Between two codes: the way from one to the other, and the layers of one in the other."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.editing.edit import Edited
from lsap_jax.editing.layers import Layers, layer_mask
from lsap_jax.editing.moves import checked
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.render import fitted, render
from lsap_jax.spaces import Space

_between = jax.jit(lambda space, a, b, t: space.between(a, b, t), static_argnums=0)


def interpolate(
    G: Generator,
    space: str | Space,
    a: Mapping[str, np.ndarray],
    b: Mapping[str, np.ndarray],
    points: Sequence[float],
    batch_size: int = 16,
    *,
    refinement: Refinement | None = None,
) -> Edited:
    """The way from codes a to codes b: z along great arcs, every z_i by itself (slerp), all else, f too, on straight
    lines (the F/Z+ authors' interpolation), the labels of a conditional generator, too.

    Args:
        a, b: codes by name, first axis N each.
        points: S numbers in [0, 1]; 0 is a and 1 is b, bit for bit.
        batch_size: images rendered at once.
        refinement: of N images, which stays the same on the way.

    Returns:
        an `Edited` with the points as its strengths.

    Raises:
        LsapError: codes of another space or generator or of different counts, or no points, or some outside [0, 1].
    """
    G, space, a = fitted(G, space, a)
    _, _, b = fitted(G, space, b)
    check_points(points)
    found = [between(G, space, a, b, t) for t in points]
    return Edited(
        space=space,
        strengths=tuple(float(t) for t in points),
        codes={key: np.stack([one[key] for one in found]) for key in space.keys},
        images=np.stack([render(G, space, one, batch_size, refinement=refinement) for one in found]),
    )


def mix_styles(
    G: Generator, space: str | Space, a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], layers: Layers
) -> dict[str, np.ndarray]:
    """Codes a with a range of layers taken from b (style mixing, StyleGAN §3.1); f and noise stay a's.

    Args:
        a, b: codes by name, first axis N each.
        layers: "coarse", "middle", "fine", rows as "4-7" or numbers (`layer_rows`).

    Returns:
        codes for `lsap_jax.render`; their rows are those of a and b bit for bit.

    Raises:
        LsapError: codes of another space or generator or of different counts; a range where one code serves all
            layers, or before the base code.
    """
    G, space, a = fitted(G, space, a)
    a, b = _pair(G, space, a, fitted(G, space, b)[2])
    if space.has_class and (space.on_sphere or space.needs_statistics) and (a["c"] != b["c"]).any():
        raise LsapError(f"space {space.name}: layers of images of different classes do not mix; a code has one class")
    key = space.key
    mask = layer_mask(G, space, layers, space.f_resolution(a))
    return {**a, key: np.where(mask, b[key], a[key])}


def between(
    G: Generator, space: Space, a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], t: float
) -> dict[str, np.ndarray]:
    """Codes at one point of the way; arguments and errors as `interpolate`. One code of b may stand for all of a."""
    a, b = _pair(G, space, a, b)
    if space.has_class and space.needs_statistics and (a["c"] != b["c"]).any():
        raise LsapError(
            f"space {space.name}: codes of different classes have other coordinates; there is no way between"
        )
    if t in (0, 1):
        return b if t else a
    count = len(a[space.key])
    return {key: np.asarray(v) for key, v in _between(space, a, b, jnp.full(count, t, jnp.float32)).items()}


def check_points(points: Sequence[float]) -> None:
    """Raises LsapError where there are none, or some are outside of [0, 1]."""
    if len(points) == 0 or not all(0 <= t <= 1 for t in points):
        raise LsapError(f"points {list(points)}: give one or more numbers in [0, 1]")


def _pair(
    G: Generator, space: Space, a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Both as float32 arrays of the space's keys; LsapError where their shapes differ."""
    counts = [len(checked(G, space, codes)) for codes in (a, b)]
    first, second = ({key: np.asarray(c[key], np.float32) for key in space.keys} for c in (a, b))
    if counts[1] == 1:
        second = {key: np.repeat(one, counts[0], axis=0) for key, one in second.items()}
    for key in space.keys:
        if first[key].shape != second[key].shape:
            raise LsapError(f"codes {key} differ in shape: {list(first[key].shape)} and {list(second[key].shape)}")
    return first, second
