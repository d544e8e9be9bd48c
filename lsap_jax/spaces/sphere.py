"""Geometry of the hypersphere of radius √d, for vectors in the last axis of [..., d]."""

import jax
import jax.numpy as jnp


def retract(z: jax.Array) -> jax.Array:
    """Eq. 5 of arXiv 2307.08995: z_i ← √d · z_i / |z_i|. A zero vector, which has no direction, stays zero."""
    squared = jnp.sum(jnp.square(z), -1, keepdims=True)
    safe = jnp.where(squared > 0, squared, 1.0)
    return z * (jnp.sqrt(jnp.float32(z.shape[-1])) * jax.lax.rsqrt(safe)).astype(z.dtype)


def tangent(z: jax.Array, v: jax.Array) -> jax.Array:
    """The part of v [..., d] that is tangent to the sphere at z [..., d]."""
    squared = jnp.sum(jnp.square(z), -1, keepdims=True)
    along = jnp.sum(z * v, -1, keepdims=True) / jnp.where(squared > 0, squared, 1.0)
    return v - along * z


def rotate(z: jax.Array, direction: jax.Array, angle: jax.Array) -> jax.Array:
    """z moved by an angle along the great circle through z and a direction, towards the direction.

    Going α and then -α returns z as long as the way does not cross the direction or its opposite, where the great
    circle's course turns round.

    Args:
        z: [..., d] on the sphere.
        direction: [..., d], of any length; where it is parallel to z there is no circle, and z stays.
        angle: [..., 1] in radians.
    """
    course = tangent(z, direction)
    length = jnp.sum(jnp.square(course), -1, keepdims=True)
    # Rounding leaves a tangent of about 1e-7 of a parallel direction.
    there = length > 1e-10 * jnp.sum(jnp.square(direction), -1, keepdims=True)
    turned = jnp.cos(angle) * z + jnp.sin(angle) * retract(course)
    return jnp.where(there, retract(turned), z)


def slerp(a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
    """The point t of the way along the shorter great arc from a to b.

    Args:
        a, b: [..., d] on the sphere. From a to its opposite there is no shortest arc, and a stays.
        t: [..., 1] in [0, 1].
    """
    cosine = jnp.sum(a * b, -1, keepdims=True) / a.shape[-1]
    # The half angle from the chord: the arc cosine has no digits left where a and b are close.
    chord = jnp.sqrt(jnp.sum(jnp.square(a - b), -1, keepdims=True) / a.shape[-1])
    angle = jnp.where(cosine > 0, 2 * jnp.arcsin(jnp.clip(chord / 2, 0, 1)), jnp.arccos(jnp.clip(cosine, -1, 1)))
    return rotate(a, b, t * angle)
