"""Training of e4e's latent discriminator: pools of real and false codes, non-saturating loss, lazy R1.

Reference: Tov et al., Designing an Encoder for StyleGAN Image Manipulation (arXiv 2102.02766), section 4.2; the numbers
are those of the authors' code.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lsap_jax.networks.latent_discriminator import LatentDiscriminator, param_shapes
from lsap_jax.training.initial import initial_params


@dataclass(frozen=True, kw_only=True)
class CriticTraining:
    """Hyper-parameters: Adam's rate, R1's γ and the steps between its turns, codes that a pool keeps (0 is no pool)."""

    lr: float = 2e-5
    r1_gamma: float = 10.0
    r1_interval: int = 16
    pool: int = 50


class Pool(NamedTuple):
    """Codes [P, w_dim] of earlier steps, and how many there are."""

    codes: jax.Array
    filled: jax.Array


class CriticState(NamedTuple):
    """Everything that a step changes."""

    params: Any
    optimizer: optax.OptState
    real: Pool
    fake: Pool


def initial_critic(train: CriticTraining, w_dim: int, seed: int) -> CriticState:
    """State before the first step."""
    params = initial_params(param_shapes(w_dim), seed)
    real, fake = (Pool(jnp.zeros((train.pool, w_dim)), jnp.zeros((), jnp.int32)) for _ in range(2))
    return CriticState(params, optax.adam(train.lr).init(params), real, fake)


def logits(params: Any, w: jax.Array) -> jax.Array:
    """Logits [...] of codes w [..., w_dim]; positive is real."""
    return LatentDiscriminator().apply({"params": params}, w)  # type: ignore[return-value]


def query(pool: Pool, codes: jax.Array, rng: jax.Array) -> tuple[Pool, jax.Array]:
    """What the discriminator sees of codes [B, w_dim], which enter the pool one after another: each of them itself
    until the pool is full, then with probability ½ one of the pool, whose place it takes.
    """
    size = len(pool.codes)
    if not size:
        return pool, codes
    chance, place = jax.random.split(rng)
    swapped, places = (
        jax.random.bernoulli(chance, 0.5, (len(codes),)),
        jax.random.randint(place, (len(codes),), 0, size),
    )

    def enter(pool: Pool, one: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Pool, jax.Array]:
        code, swap, index = one
        full = pool.filled == size
        at = jnp.where(full, index, pool.filled)
        old = pool.codes[at]
        kept = jnp.where(full & ~swap, old, code)
        return Pool(pool.codes.at[at].set(kept), jnp.minimum(pool.filled + 1, size)), jnp.where(full & swap, old, code)

    return jax.lax.scan(enter, pool, (codes, swapped, places))


def one_row(train: CriticTraining, ws: jax.Array, stage: jax.Array, rng: jax.Array) -> jax.Array:
    """A row of each of ws [B, num_ws, w_dim] at random, from 0 to `stage`; without a pool row 0, as in the code."""
    if not train.pool:
        return ws[:, 0]
    rows = jax.random.randint(rng, (len(ws),), 0, stage + 1)
    return jnp.take_along_axis(ws, rows[:, None, None], axis=1)[:, 0]


def critic_loss(params: Any, real: jax.Array, fake: jax.Array) -> jax.Array:
    """Non-saturating loss of codes [B, w_dim]: E softplus(-D(real)) + E softplus(D(fake))."""
    return jax.nn.softplus(-logits(params, real)).mean() + jax.nn.softplus(logits(params, fake)).mean()


def r1(params: Any, real: jax.Array) -> jax.Array:
    """E |∇D(w)|² at real codes [B, w_dim] (Mescheder et al., ICML 2018)."""
    grads = jax.grad(lambda w: logits(params, w).sum())(real)
    return jnp.square(grads).sum(axis=-1).mean()


def critic_step(
    train: CriticTraining,
    state: CriticState,
    real: jax.Array,
    ws: jax.Array,
    stage: jax.Array,
    step: jax.Array,
    rng: jax.Array,
) -> tuple[CriticState, dict[str, jax.Array]]:
    """A step on real codes [B, w_dim] and the encoder's ws [B, num_ws, w_dim], and every `r1_interval` steps one of R1
    alone, times that interval. Returns the state and the mean loss and logits.
    """
    real_rng, fake_rng, row_rng = jax.random.split(rng, 3)
    real_pool, real = query(state.real, real, real_rng)
    fake_pool, fake = query(state.fake, one_row(train, ws, stage, row_rng), fake_rng)
    tx = optax.adam(train.lr)

    def updated(grads: Any, params: Any, optimizer: optax.OptState) -> tuple[Any, optax.OptState]:
        updates, optimizer = tx.update(grads, optimizer, params)
        return optax.apply_updates(params, updates), optimizer

    loss, grads = jax.value_and_grad(critic_loss)(state.params, real, fake)
    moved = updated(grads, state.params, state.optimizer)
    if train.r1_gamma:
        factor = train.r1_gamma / 2 * train.r1_interval

        def regularised(params: Any, optimizer: optax.OptState) -> tuple[Any, optax.OptState]:
            return updated(jax.grad(lambda p: factor * r1(p, real))(params), params, optimizer)

        moved = jax.lax.cond(step % train.r1_interval == 0, regularised, lambda *same: same, *moved)
    seen = {"critic_loss": loss} | {
        f"critic_{name}": logits(state.params, w).mean() for name, w in (("real", real), ("fake", fake))
    }
    return CriticState(*moved, real_pool, fake_pool), seen


@partial(jax.jit, static_argnums=1)
def real_codes(G: Any, count: int, rng: jax.Array) -> jax.Array:
    """w [count, w_dim] of random z, without truncation."""
    return G.map_w(jax.random.normal(rng, (count, G.z_dim)))  # type: ignore[no-any-return]
