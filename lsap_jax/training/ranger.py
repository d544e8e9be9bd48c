"""Ranger, with which pSp, e4e, ReStyle, HyperStyle and LSAP train: rectified Adam on centred gradients, with lookahead.

Its arithmetic is that of version 20.4.11, which these projects ship: epsilon is added to the square root of the second
moment before its bias is corrected, weight decay is decoupled and scaled by the learning rate, and gradients are always
centred, whatever `use_gc` says there.

References: Liu et al., On the Variance of the Adaptive Learning Rate and Beyond (RAdam, arXiv 1908.03265); Zhang et
al., Lookahead Optimizer (1907.08610); Yong et al., Gradient Centralization (2004.01461).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

RECTIFIED_FROM = 5  # length of the approximated moving average above which steps are adaptive

_EXACT = 256


class RangerState(NamedTuple):
    """Steps taken, first and second moments, and lookahead's slow weights."""

    step: jax.Array
    mu: Any
    nu: Any
    slow: Any


def ranger(
    learning_rate: float,
    b1: float = 0.95,
    b2: float = 0.999,
    eps: float = 1e-5,
    weight_decay: float = 0.0,
    sync_period: int = 6,
    slow_step: float = 0.5,
    convolutions_only: bool = False,
) -> optax.GradientTransformation:
    """Ranger as an optax transformation, whose update needs the params.

    Args:
        sync_period: steps after which the weights return to the slow ones, which move by `slow_step` of the way first.
        convolutions_only: centre the gradients of weights with four axes only, not of dense ones, too.
    """

    def init(params: Any) -> RangerState:
        # Buffers of their own: a training that donates its state may donate each only once.
        mu, nu = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return RangerState(jnp.zeros((), jnp.int32), mu, nu, jax.tree.map(jnp.copy, params))

    def update(grads: Any, state: RangerState, params: Any | None = None) -> tuple[Any, RangerState]:
        if params is None:
            raise ValueError("ranger needs the params: call update(grads, state, params)")
        count = state.step + 1
        grads = jax.tree.map(lambda g: centred(g, 3 if convolutions_only else 1), grads)
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.nu, grads)
        size, adaptive = step_size(count, b1, b2)
        synced = count % sync_period == 0

        def moved(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
            decayed = p - weight_decay * learning_rate * p
            direction = jnp.where(adaptive, m / (jnp.sqrt(v) + eps), m)
            return decayed - learning_rate * size * direction

        fast = jax.tree.map(moved, params, mu, nu)
        slow = jax.tree.map(lambda s, p: jnp.where(synced, s + slow_step * (p - s), s), state.slow, fast)
        new = jax.tree.map(lambda s, p: jnp.where(synced, s, p), slow, fast)
        return jax.tree.map(jnp.subtract, new, params), RangerState(count, mu, nu, slow)

    return optax.GradientTransformation(init, update)  # type: ignore[arg-type]


def centred(g: jax.Array, more_than: int) -> jax.Array:
    """A gradient less its mean over all axes but the last, the outputs, if it has more than so many axes."""
    return g - g.mean(axis=tuple(range(g.ndim - 1)), keepdims=True) if g.ndim > more_than else g


def step_size(count: jax.Array, b1: float, b2: float) -> tuple[jax.Array, jax.Array]:
    """Factor of the learning rate in step `count`, from 1, and whether the step is divided by the second moment: the
    rectification of RAdam (§4 there).
    """
    t = count.astype(jnp.float32)
    steps = np.arange(1, _EXACT + 1, dtype=np.float64)
    # A small difference of large numbers in the first steps, which float32 would round away.
    exact = jnp.asarray(_length(steps, b2), jnp.float32)[jnp.clip(count - 1, 0, _EXACT - 1)]
    longest, length = 2 / (1 - b2) - 1, jnp.where(count <= _EXACT, exact, _length(t, b2))
    adaptive = length > RECTIFIED_FROM
    variance = (length - 4) / (longest - 4) * (length - 2) / length * longest / (longest - 2)
    rectified = jnp.sqrt(jnp.where(adaptive, -jnp.expm1(t * np.log(b2)) * variance, 1.0))
    return rectified / -jnp.expm1(t * np.log(b1)), adaptive


def _length(t: Any, b2: float) -> Any:
    """Length of the approximated moving average after t steps."""
    return 2 / (1 - b2) - 1 - 2 * t * b2**t / (1 - b2**t)
