"""The optimisation: one compiled scan of K steps for a batch of independent images, with no word from the host inside."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from lsap_jax.generator import Generator
from lsap_jax.inversion.objective import Targets, terms, weighted
from lsap_jax.losses.perceptual import Perceptual
from lsap_jax.metrics import distortion
from lsap_jax.spaces import Space

Codes = dict[str, jax.Array]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What stays the same over a run and is compiled in: the space, the weights of the loss and the optimiser."""

    space: Space
    weights: tuple[tuple[str, float], ...]
    optimizer: optax.GradientTransformation
    keep_best: bool

    def loss(
        self, G: Generator, perceptual: Perceptual | None, codes: Codes, targets: Targets
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(total [B], terms by name, each [B])."""
        found, _ = terms(G, perceptual, self.space, codes, targets)
        return weighted(found, dict(self.weights)), found


@struct.dataclass(kw_only=True)
class State:
    """An inversion under way. `active` [B] is False once an image's loss or gradient was not finite: it moves no more."""

    codes: Codes
    optimizer: Any
    best: Codes
    best_loss: jax.Array
    best_step: jax.Array
    active: jax.Array
    step: jax.Array


def initial_state(problem: Problem, codes: Codes) -> State:
    """State before the first step."""
    batch = next(iter(codes.values())).shape[0]
    return State(
        codes=codes,
        optimizer=problem.optimizer.init(codes),
        best=codes,
        best_loss=jnp.full((batch,), jnp.inf),
        best_step=jnp.full((batch,), -1, jnp.int32),
        active=jnp.ones((batch,), bool),
        step=jnp.zeros((), jnp.int32),
    )


def select(chosen: jax.Array, a: Any, b: Any) -> Any:
    """Leaves of `a` for the images where `chosen` [B] holds, of `b` elsewhere. Leaves without a batch axis are a's."""

    def pick(x: jax.Array, y: jax.Array) -> jax.Array:
        if x.ndim == 0:
            return x
        return jnp.where(chosen.reshape(-1, *(1,) * (x.ndim - 1)), x, y)

    return jax.tree.map(pick, a, b)


def finite(tree: Any) -> jax.Array:
    """[B]: whether all values of an image's leaves [B, ...] are finite."""
    leaves = [jnp.isfinite(leaf).reshape(leaf.shape[0], -1).all(axis=1) for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves).all(axis=0)


def step(
    problem: Problem, G: Generator, perceptual: Perceptual | None, state: State, targets: Targets, steps: jax.Array
) -> tuple[State, dict[str, jax.Array]]:
    """One step of every image; the losses returned are those of the codes before it. Past `steps` nothing moves."""

    def total(codes: Codes) -> tuple[jax.Array, tuple[jax.Array, dict[str, jax.Array]]]:
        value, found = problem.loss(G, perceptual, codes, targets)
        return value.sum(), (value, found)  # images do not mix: the gradient of the sum is each image's own

    (_, (value, found)), grads = jax.value_and_grad(total, has_aux=True)(state.codes)
    active = state.active & finite((value, grads))
    better = active & (value < state.best_loss)
    running = state.step < steps
    grads = select(active, grads, jax.tree.map(jnp.zeros_like, grads))
    updates, optimizer = problem.optimizer.update(grads, state.optimizer, state.codes)
    moved = optax.apply_updates(state.codes, updates)
    new = State(
        codes=select(active & running, moved, state.codes),
        optimizer=optimizer,
        best=select(better & running, state.codes, state.best),
        best_loss=jnp.where(better & running, value, state.best_loss),
        best_step=jnp.where(better & running, state.step, state.best_step),
        active=jnp.where(running, active, state.active),
        step=state.step + 1,
    )
    return new, {"loss": value, **found}


def chunk(
    problem: Problem,
    length: int,
    G: Generator,
    perceptual: Perceptual | None,
    state: State,
    targets: Targets,
    steps: jax.Array,
) -> tuple[State, dict[str, jax.Array]]:
    """`length` steps in one scan; the curves are [length, B] per term."""

    def body(state: State, _: None) -> tuple[State, dict[str, jax.Array]]:
        return step(problem, G, perceptual, state, targets, steps)

    return jax.lax.scan(body, state, None, length=length)


@struct.dataclass(kw_only=True)
class Outcome:
    """A finished batch: codes on the sphere, images [B, R, R, C] clipped to [-1, 1], metrics by name, each [B]."""

    codes: Codes
    images: jax.Array
    metrics: dict[str, jax.Array]
    step: jax.Array
    active: jax.Array
    found: jax.Array


def finish(problem: Problem, G: Generator, perceptual: Perceptual | None, state: State, targets: Targets) -> Outcome:
    """Choose each image's codes (the last, or the best so far; the best where it became non-finite), retract, render, measure."""
    value, _ = problem.loss(G, perceptual, state.codes, targets)
    last = state.active & jnp.isfinite(value)
    if problem.keep_best:
        last = last & (value < state.best_loss)
    codes = problem.space.retract(select(last, state.codes, state.best))
    images = jnp.clip(G.synthesis(**problem.space.decode(G, codes)), -1, 1)
    metrics = measure(perceptual, images, targets)
    return Outcome(
        codes=codes,
        images=images,
        metrics=metrics,
        step=jnp.where(last, state.step, state.best_step),
        active=state.active,
        found=last | (state.best_step >= 0),
    )


def measure(perceptual: Perceptual | None, images: jax.Array, targets: Targets) -> dict[str, jax.Array]:
    """Metrics of clipped images against the whole targets, masks or not: mse, psnr, ssim and the perceptual distance by its name."""
    found = {
        "mse": distortion.mse(images, targets.images),
        "psnr": distortion.psnr(images, targets.images),
        "ssim": distortion.ssim(images, targets.images),
    }
    if perceptual is not None:
        found[metric_name(perceptual)] = perceptual.distance(perceptual.features(images), targets.features)
    return found


def metric_name(perceptual: Perceptual) -> str:
    """Column of the perceptual distance in results."""
    return "discriminator_distance" if perceptual.name == "discriminator" else perceptual.name
