"""Optimisers on the hypersphere, as optax transformations: the retraction of eq. 5 ends the chain, so `apply_updates`
lands on the sphere.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lsap_jax.spaces import Space
from lsap_jax.spaces.sphere import tangent

RETRACTIONS = ("project", "normalise", "riemannian")


def retraction(space: Space, keys: Collection[str]) -> optax.GradientTransformation:
    """Changes updates u of codes p so that p + u lies where `space.retract` puts it (eq. 5 of arXiv 2307.08995), for
    the arrays named by `keys`.
    """

    def update(updates: optax.Updates, state: optax.EmptyState, params: Any = None) -> tuple[optax.Updates, Any]:
        landed = space.retract(optax.apply_updates(params, updates))  # type: ignore[arg-type]
        return {k: landed[k] - params[k] if k in keys else u for k, u in updates.items()}, state  # type: ignore

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)  # type: ignore[arg-type]


def per_image(values: jax.Array, like: jax.Array) -> jax.Array:
    """values [B], or one value, as [B | 1, 1, ..., 1], to go with a `like` of [B, ...]."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def each_image(one: optax.GradientTransformation) -> optax.GradientTransformation:
    """A transformation of one image's code, for batches [B, ...]: its state, step counts included, is per image."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.vmap(one.update)(updates, state, params)

    return optax.GradientTransformation(jax.vmap(one.init), update)


def learning_rate(rates: Mapping[str, float], schedule: str) -> optax.GradientTransformationExtraArgs:
    """Multiplies the updates of each array by -rate · schedule(t). `update` takes t, the part of the steps that is
    done, as `progress`: one value for all images, or one for each [B].
    """

    def update(updates: Any, state: Any, params: Any = None, *, progress: jax.Array, **_: Any) -> tuple[Any, Any]:
        part = SCHEDULES[schedule](progress)
        return {key: per_image(-(rates[key] * part), u) * u for key, u in updates.items()}, state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)  # type: ignore[arg-type]


def ramp(t: jax.Array) -> jax.Array:
    """The schedule of the StyleGAN2 projector: up over the first 5 %, down along a cosine over the last 25 %."""
    down = 0.5 - 0.5 * jnp.cos(jnp.pi * jnp.minimum(1.0, (1.0 - t) / 0.25))
    return down * jnp.minimum(1.0, t / 0.05)


def cosine(t: jax.Array) -> jax.Array:
    """From 1 to 0 along half a cosine."""
    return 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.minimum(1.0, t))


SCHEDULES: dict[str, Callable[[jax.Array], jax.Array]] = {"constant": jnp.ones_like, "ramp": ramp, "cosine": cosine}


class RiemannianAdamState(NamedTuple):
    """Step count, momentum (tangent where it was last used), and one second moment per z_i."""

    count: jax.Array  # type: ignore[assignment]
    mu: Any
    nu: Any


def scale_by_riemannian_adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """Adam on a product of spheres (after Bécigneul and Ganea, ICLR 2019), for leaves [..., d] with z_i in the last
    axis.

    Gradients are projected to the tangent space at z; the momentum is transported by projecting it there too; the
    second moment is one scalar per z_i, the mean square of its gradient, so that the step does not depend on the
    coordinates and keeps Adam's length: at most about lr · √d.
    """

    def init(params: Any) -> RiemannianAdamState:
        nu = jax.tree.map(lambda p: jnp.zeros((*p.shape[:-1], 1), p.dtype), params)
        return RiemannianAdamState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params), nu)

    def update(updates: Any, state: RiemannianAdamState, params: Any = None) -> tuple[Any, RiemannianAdamState]:
        count = state.count + 1
        grads = jax.tree.map(tangent, params, updates)
        mu = jax.tree.map(lambda p, m, g: b1 * tangent(p, m) + (1 - b1) * g, params, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.mean(jnp.square(g), -1, keepdims=True), state.nu, grads)
        c1, c2 = 1 - b1**count, 1 - b2**count
        steps = jax.tree.map(lambda m, v: (m / c1) / (jnp.sqrt(v / c2) + eps), mu, nu)
        return steps, RiemannianAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def make_optimizer(
    space: Space,
    retraction_name: str,
    lr: float,
    *,
    b1: float,
    b2: float,
    eps: float,
    schedule: str = "constant",
    lr_f: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """The optax chain of an inversion, its retraction last; `update` takes `progress` (see `learning_rate`).

    Args:
        retraction_name: "project" is Adam, then eq. 5; "normalise" is Adam alone, the space normalises inside the
            graph; "riemannian" is Riemannian Adam for z and Adam for the rest, then eq. 5. Noise maps are retracted
            in each.
        schedule: of the rates, a key of `SCHEDULES`.
        lr_f: rate of the base code; 0 is `lr`.
    """
    adam = optax.scale_by_adam(b1, b2, eps)
    if retraction_name == "riemannian":
        labels = {key: "sphere" if group == "detail" else "flat" for key, group in space.groups.items()}
        adam = optax.multi_transform({"sphere": scale_by_riemannian_adam(b1, b2, eps), "flat": adam}, labels)
    free = {"base", "detail"} if retraction_name == "normalise" else {"base"}
    kept = {key for key, group in space.groups.items() if group not in free}
    of_group = {"base": lr_f or lr, "class": 0.0}  # the class is given, and nothing changes it
    rates = {key: of_group.get(group, lr) for key, group in space.groups.items()}
    return optax.chain(each_image(adam), learning_rate(rates, schedule), retraction(space, kept))  # type: ignore
