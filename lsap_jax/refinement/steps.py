"""Steps of Adam on what belongs to single images: one that is not finite stops at its best step, the others go on."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lsap_jax.inversion.optimizers import per_image
from lsap_jax.refinement.refiner import Course

Params = dict[str, jax.Array]


class _Now(NamedTuple):
    params: Params
    adam: Any
    best: Params
    best_loss: jax.Array
    best_step: jax.Array
    finite: jax.Array


def descend(
    loss: Callable[[Params], jax.Array],
    start: Mapping[str, jax.Array],
    rates: Mapping[str, float],
    steps: int,
    *,
    schedule: Callable[[jax.Array], jax.Array],
    land: Callable[[Params], Params] = lambda params: params,
    keep: str = "last",
) -> tuple[Params, Course]:
    """Minimises the loss of every image.

    Args:
        loss: params to [B], each value a function of the params of its image alone.
        start: name -> [B, ...].
        rates: name -> learning rate, multiplied by `schedule` of the part of the steps that is done, in [0, 1).
        land: what is done to the params after each step.
        keep: "last" or "best" step; where a loss or a gradient was not finite, it is the best.
    """
    adam = optax.scale_by_adam()

    def total(params: Params) -> tuple[jax.Array, jax.Array]:
        values = loss(params)
        return jnp.sum(values), values

    def round_(step: jax.Array, now: _Now) -> _Now:
        (_, values), grads = jax.value_and_grad(total, has_aux=True)(now.params)
        whole = [jnp.isfinite(g).all(tuple(range(1, g.ndim))) for g in grads.values()]
        finite = now.finite & jnp.isfinite(values) & jnp.stack(whole).all(0)
        # Those of an image that stopped would make moments of Adam NaN that nothing reads.
        updates, adam_state = adam.update(grads, now.adam)
        part = schedule(step / max(steps, 1))
        moved = land({name: a - rates[name] * part * updates[name] for name, a in now.params.items()})  # type: ignore
        better = finite & (values < now.best_loss)
        return _Now(
            params=_where(finite & (step < steps), moved, now.params),
            adam=adam_state,
            best=_where(better, now.params, now.best),
            best_loss=jnp.where(better, values, now.best_loss),
            best_step=jnp.where(better, step, now.best_step),
            finite=finite,
        )

    params = dict(start)
    count = len(next(iter(params.values())))
    begin = _Now(
        params=params,
        adam=adam.init(params),
        best=params,
        best_loss=jnp.full(count, jnp.inf, jnp.float32),
        best_step=jnp.full(count, -1, jnp.int32),
        finite=jnp.ones(count, bool),
    )
    # The last round only judges what the last step made.
    end: _Now = jax.lax.fori_loop(0, steps + 1, round_, begin)
    last = end.finite & (keep == "last")
    step = jnp.where(last, steps, end.best_step)
    return _where(last, end.params, end.best), Course(step=step, finite=end.finite)


def _where(chosen: jax.Array, a: Params, b: Params) -> Params:
    """Params of the images [B] that are chosen from a, those of the others from b."""
    return {name: jnp.where(per_image(chosen, a[name]), a[name], b[name]) for name in a}
