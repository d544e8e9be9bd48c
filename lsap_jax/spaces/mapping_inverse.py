"""z for given w: the mapping network has no inverse in practice, so the z with the nearest w is searched for."""

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
    tx = optax.adam(optax.cosine_decay_schedule(RATE, steps))

    def step(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], None]:
        z, state = carry
        gradient = jax.grad(lambda z: jnp.square(G.map_rows(z) - w[:, None]).sum())(z)
        updates, state = tx.update(gradient, state)
        return (retract(optax.apply_updates(z, updates)), state), None

    (z, _), _ = jax.lax.scan(step, (z, tx.init(z)), length=steps)
    best = jnp.argmin(jnp.sum(jnp.square(G.map_rows(z) - w[:, None]), -1), axis=1)[:, None, None]
    return jnp.take_along_axis(z, best, axis=1)[:, 0]
