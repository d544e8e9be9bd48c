"""What a strength means. All moves of the package are made here.

| option           | spaces               | code after the move                                                     |
|------------------|----------------------|-------------------------------------------------------------------------|
| unit="step"      | w, w+, s, p, pn, pn+ | x + strength · scale · vector                                           |
| unit="step"      | z, z+                | √d · y / norm(y), y = z_i + strength · scale · vector, each z_i alone   |
| unit="angle"     | z, z+                | z_i turned by `strength` radians on the great circle through z_i and    |
|                  |                      | the vector, towards it; the vector's length does not matter             |
| absolute="own"   | all but z, z+        | x + (strength - c) · scale · vector, c the coordinate of the row itself |
|                  |                      | about the direction's mean: every row arrives at `strength` (GANSpace)  |
| absolute="first" | all but z, z+        | the same with the coordinate of row 0 for all rows (PTI, e4e); row 0 of |
|                  |                      | F spaces reaches no pixel, take "own" there                             |
| layers=...       | all with rows, and s | rows (styles) outside of the range stay, bit for bit                    |
| a trajectory     | as the direction     | as above, in equal steps whose vectors depend on where the code has     |
|                  |                      | come to (StyleCLIP's mappers, the gradient of an attribute)             |
| f, noise         | f/..., noise maps    | stay as they are at every strength (BDInvert, F/Z+)                     |

Moves are relative unless `absolute` is given: strength 0 returns the code untouched, bit for bit. At another strength a
z_i that has left its sphere is first brought back (eq. 5 of arXiv 2307.08995), so that a step is as strong for every
code. In steps of strength ±1 a unit vector turns z by about 1/√d radians (2.5 degrees for d = 512). An angle and its
opposite cancel, as long as the way does not cross the vector or its opposite (the poles), where the course turns round.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.editing.direction import Direction, check_fits, fitted
from lsap_jax.editing.layers import Layers, layer_mask
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.render import check_keys, per_batch
from lsap_jax.spaces import Space

UNITS = ("step", "angle")
ABSOLUTE = ("own", "first")
GROUP = 16  # codes that follow a trajectory at once


def move(
    G: Generator,
    space: Space,
    codes: Mapping[str, np.ndarray],
    direction: Direction,
    strength: float | np.ndarray,
    *,
    unit: str = "step",
    layers: Layers = None,
    absolute: str | None = None,
) -> dict[str, np.ndarray]:
    """Codes moved along a direction; the table above says how.

    Args:
        codes: by name, first axis N.
        strength: one for all images, or [N].
        unit: "step" or, in z spaces, "angle" in radians.
        layers: a range (`layer_rows`) instead of the direction's own.
        absolute: "own" or "first": the strength is the coordinate to reach.

    Raises:
        LsapError: the direction, the range or the option does not belong to this space or generator; a strength is not
            finite.
    """
    key = space.key
    check_move(space, direction, unit=unit, absolute=absolute)
    check_fits(G, space, direction)
    code = checked(G, space, codes)
    strengths = _strengths(strength, len(code))
    resolution = space.f_resolution(codes)
    mask = layer_mask(G, space, direction.layers if layers is None else layers, resolution)
    if direction.trajectory is not None:
        moved = _follow(G, space, codes, direction, unit, mask, strengths)
        return {**{name: np.asarray(a) for name, a in codes.items()}, key: moved}
    vector = fitted(G, space, direction) * np.float32(direction.scale)
    if absolute is None:
        moved = np.asarray(_move(space, unit, code, vector, mask, strengths))
    else:
        away = coordinates(code, direction)
        moved = _moved_to(code, vector, mask, strengths, away[:, :1] if absolute == "first" else away)
    return {**{name: np.asarray(a) for name, a in codes.items()}, key: moved}


def move_back(
    G: Generator, space: Space, codes: Mapping[str, np.ndarray], direction: Direction, strengths: np.ndarray
) -> dict[str, np.ndarray]:
    """Codes that steps of these strengths [N] move to those given: in flat spaces, and along trajectories, which have
    no inverse, steps of the opposite strengths.

    On the sphere a step and its opposite do not cancel. From y = √d · (z + v) / norm(z + v) follows z = λy - v, whose
    norm is √d for two values of λ; the larger one is taken, that of the z nearer to y (the only positive one where v is
    shorter than √d). Where no z leads to y, it is the one that leads nearest.

    Raises:
        LsapError: as `move` does.
    """
    if direction.trajectory is not None or not space.on_sphere:
        return move(G, space, codes, direction, -strengths)
    check_fits(G, space, direction)
    code = checked(G, space, codes)
    strengths = _strengths(strengths, len(code)).reshape(-1, *(1,) * (code.ndim - 1))
    v = strengths.astype(np.float64) * fitted(G, space, direction) * direction.scale
    y = np.asarray(space.detail.retract(jnp.asarray(code)), np.float64)
    along, squared, d = np.sum(y * v, -1, keepdims=True), np.sum(v * v, -1, keepdims=True), y.shape[-1]
    factor = (along + np.sqrt(np.maximum(along**2 - d * (squared - d), 0))) / d
    z = np.asarray(space.detail.retract(jnp.asarray(factor * y - v, jnp.float32)))
    mask = layer_mask(G, space, direction.layers, space.f_resolution(codes))
    moved = np.where(mask & (strengths != 0), z, code)
    return {**{name: np.asarray(a) for name, a in codes.items()}, space.key: moved}


def coordinates(code: np.ndarray, direction: Direction) -> np.ndarray:
    """[N, rows] (rows 1 where there is one code per image): how far codes are along a direction [d] from its mean, in
    steps of strength 1.
    """
    step = np.asarray(direction.vector, np.float64) * direction.scale
    away = code.astype(np.float64) - np.asarray(direction.mean, np.float64)
    return (away @ step / np.square(step).sum()).reshape(len(code), -1)


def _follow(
    G: Generator,
    space: Space,
    codes: Mapping[str, np.ndarray],
    direction: Direction,
    unit: str,
    mask: np.ndarray,
    strength: np.ndarray,
) -> np.ndarray:
    """Detail codes moved along a direction's trajectory, in its number of equal steps."""
    assert (trajectory := direction.trajectory) is not None
    step = per_batch(_FOLLOWED[unit], G, space, GROUP, jax.local_devices()[:1], beside=trajectory)
    found = {name: np.asarray(codes[name], np.float32) for name in space.keys}
    code = found[space.key]
    masks, scale = np.broadcast_to(mask, code.shape), np.full(len(code), direction.scale, np.float32)
    for _ in range(trajectory.steps):
        found[space.key] = step(found, None, masks, scale, strength / np.float32(trajectory.steps))
    return np.where(strength.reshape(-1, *(1,) * (code.ndim - 1)) == 0, code, found[space.key])


def _followed(
    unit: str,
    networks: Any,
    space: Space,
    codes: dict[str, jax.Array],
    refinement: Refinement | None,
    mask: jax.Array,
    scale: jax.Array,
    strength: jax.Array,
) -> jax.Array:
    """One step of codes [B, ...] along the vectors that a trajectory has for them."""
    G, trajectory = networks
    vectors = trajectory.at(G, space, codes) * scale.reshape(-1, *(1,) * (codes[space.key].ndim - 1))

    def one(code: jax.Array, vector: jax.Array, mask: jax.Array, strength: jax.Array) -> jax.Array:
        return _move(space, unit, code[None], vector, mask, strength[None])[0]

    return jax.vmap(one)(codes[space.key], vectors, mask, strength)


_FOLLOWED = {unit: partial(_followed, unit) for unit in UNITS}  # kept, since programs are cached by function


def _moved_to(
    code: np.ndarray, step: np.ndarray, mask: np.ndarray, strength: np.ndarray, away: np.ndarray
) -> np.ndarray:
    """Codes moved by (strength [N] - away [N, 1 or rows]) steps [d], where the mask of one code lets them."""
    amount = (strength[:, None] - away).astype(np.float32)
    amount = amount[..., None] if code.ndim == 3 else amount
    return np.where(mask & (amount != 0), code + amount * step, code)


@partial(jax.jit, static_argnums=(0, 1))
def _move(
    space: Space, unit: str, code: jax.Array, vector: jax.Array, mask: jax.Array, strength: jax.Array
) -> jax.Array:
    """Codes [B, ...] along a vector [d] or [num_ws, d] by strengths [B], where the mask of one code lets them."""
    key = space.key
    start = {key: space.detail.retract(code)}
    moved = (space.turn if unit == "angle" else space.move)(start, vector, strength)[key]
    still = (strength == 0).reshape(-1, *(1,) * (code.ndim - 1))
    return jnp.where(still | ~jnp.broadcast_to(mask, code.shape[1:])[None], code, moved)


def checked(G: Generator, space: Space, codes: Mapping[str, np.ndarray]) -> np.ndarray:
    """The detail code [N, ...] as float32; LsapError where an array is missing or has another shape."""
    check_keys(space, codes)
    code, shape = np.asarray(codes[space.key], np.float32), space.shape(G)
    if code.shape[1:] != shape:
        raise LsapError(
            f"codes of space {space.name} of this generator have shape [N, {', '.join(map(str, shape))}], not "
            f"{list(code.shape)}; they are of another space or generator"
        )
    if wrong := [key for key in space.keys if len(codes[key]) != len(code)]:
        raise LsapError(f"{len(code)} codes, but {len(codes[wrong[0]])} of {wrong[0]}: they do not belong together")
    return code


def _strengths(strength: float | np.ndarray, count: int) -> np.ndarray:
    found = np.asarray(strength, np.float32)
    if found.shape not in ((), (count,)):
        raise LsapError(f"strengths of shape {list(found.shape)} for {count} codes: give one, or one for each")
    if not np.isfinite(found).all():
        raise LsapError(f"strength {strength}: strengths must be finite numbers")
    return np.broadcast_to(found, (count,))


def check_move(space: Space, direction: Direction, *, unit: str, absolute: str | None) -> None:
    """Raises LsapError where the space or the direction does not have such a unit or coordinate."""
    if unit not in UNITS:
        raise LsapError(f"unit {unit!r}: choose {' or '.join(UNITS)}")
    if unit == "angle" and not space.on_sphere:
        raise LsapError(f"space {space.name} is flat: angles are for z spaces only; give strengths as steps")
    if absolute is None:
        return
    if absolute not in ABSOLUTE:
        raise LsapError(f"absolute {absolute!r}: choose {' or '.join(ABSOLUTE)}, or None for relative moves")
    if space.on_sphere:
        raise LsapError(f"absolute coordinates belong to flat spaces, not to {space.name}; use relative moves")
    if (
        direction.mean is None
        or np.ndim(direction.vector) != 1
        or np.shape(direction.mean) != np.shape(direction.vector)
    ):
        raise LsapError(f"direction {direction.name} has no mean to count a coordinate from; use relative moves")
