"""z for given w: the mapping network has no inverse in practice, so the z with the nearest w is searched for."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.spaces.sphere import retract

if TYPE_CHECKING:
    from lsap_jax.models.generator import Generator

STEPS = 300
CANDIDATES = 1024
STARTS = 3  # of each row: the mapping folds, and a single descent may end in a local minimum
RATE = 0.1


def fit_rows(G: "Generator", ws: jax.Array) -> jax.Array:
    """z [B, L, z_dim] for ws [B, L, w_dim] by `fit_z`, those of an image for its own class where `G` is given one."""
    if not G.config.repeat_w:
        return fit_own_rows(G, ws)
    if G.label is None or G.label.ndim == 1:
        return fit_z(G, ws.reshape(-1, G.w_dim)).reshape(*ws.shape[:-1], G.z_dim)
    bare = G.bare()
    return jax.vmap(lambda label, rows: fit_z(bare.replace(label=label), rows))(G.label, ws)


@partial(jax.jit, static_argnames="steps")
def fit_z(G: "Generator", w: jax.Array, steps: int = STEPS) -> jax.Array:
    """z [M, z_dim] on the sphere whose mapping outputs are near w [M, w_dim].

    From each of the three nearest of 1,024 fixed random samples, `steps` steps of Adam with a cosine schedule and the
    retraction of eq. 5 (arXiv 2307.08995) after each; the nearest result is kept. Rows do not influence each other.
    """
    candidates = retract(jax.random.normal(jax.random.key(0), (CANDIDATES, G.z_dim)))
    known = G.map_w(candidates)
    # |a - b|² without the [M, candidates, w_dim] array of differences
    distance = jnp.sum(jnp.square(known), -1)[None, :] - jnp.matmul(2 * w, known.T, precision=FULL)
    z = candidates[jax.lax.top_k(-distance, STARTS)[1]]  # [M, starts, z_dim]
    return _descended(G.map_rows, z, w[:, None], steps)


@partial(jax.jit, static_argnames="steps")
def fit_own_rows(G: "Generator", ws: jax.Array, steps: int = STEPS) -> jax.Array:
    """z [B, num_ws, z_dim] for ws [B, num_ws, w_dim], as `fit_z`, where the mapping makes each row by itself, as that
    of IDInvert's models does.
    """
    candidates = retract(jax.random.normal(jax.random.key(0), (CANDIDATES, G.z_dim)))
    known = G.map_ws(candidates)
    distance = jnp.sum(jnp.square(known), -1).T[None] - 2 * jnp.einsum("bld,cld->blc", ws, known, precision=FULL)
    z = jnp.moveaxis(candidates[jax.lax.top_k(-distance, STARTS)[1]], 2, 1)  # [B, starts, num_ws, z_dim]

    def mapped(z: jax.Array) -> jax.Array:
        return G.map_rows(z.reshape(-1, *z.shape[2:])).reshape(*z.shape[:-1], G.w_dim)

    return _descended(mapped, z, ws[:, None], steps)


def fit_one(G: "Generator", ws: jax.Array) -> jax.Array:
    """One z [B, z_dim] for all rows of ws [B, num_ws, w_dim]: that of the mean row, which is the nearest to all of them
    where the mapping makes one w for all rows; else the mean over the z of the rows, back on the sphere.
    """
    if G.config.repeat_w:
        return fit_rows(G, jnp.mean(ws, 1, keepdims=True))[:, 0]
    return retract(jnp.mean(fit_own_rows(G, ws), 1))


def _descended(mapped: Callable[[jax.Array], jax.Array], z: jax.Array, w: jax.Array, steps: int) -> jax.Array:
    """The nearest to w [B, 1, ..., w_dim] of what starts z [B, starts, ..., z_dim] become: [B, ..., z_dim]."""
    tx = optax.adam(optax.cosine_decay_schedule(RATE, steps))

    def step(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], None]:
        z, state = carry
        gradient = jax.grad(lambda z: jnp.square(mapped(z) - w).sum())(z)
        updates, state = tx.update(gradient, state)
        return (retract(optax.apply_updates(z, updates)), state), None

    (z, _), _ = jax.lax.scan(step, (z, tx.init(z)), length=steps)
    best = jnp.argmin(jnp.sum(jnp.square(mapped(z) - w), -1), axis=1, keepdims=True)[..., None]
    return jnp.take_along_axis(z, best, axis=1)[:, 0]
