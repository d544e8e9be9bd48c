"""One training step of an encoder of the family of pSp: one of Ranger on a batch of images, through all passes.

An encoder of several passes (ReStyle, arXiv 2104.02699, section 3) begins at the mean latent and its image. Every pass
has its loss, and the gradients of all are added; none flows from a pass to the one before.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict

from lsap_jax.losses.judges import Networks
from lsap_jax.networks.irse import BATCH, adaptive_average
from lsap_jax.networks.psp import PspConfig, PspEncoder, pooled
from lsap_jax.networks.view import viewed
from lsap_jax.training.latent_discriminator import CriticState, CriticTraining, critic_step, real_codes
from lsap_jax.training.loop import Logs
from lsap_jax.training.psp_terms import Context, Options, total
from lsap_jax.training.ranger import ranger

STATISTICS = ("running_mean", "running_var")  # live among the params, never trained by gradient
MOMENTUM = 0.1  # of the running statistics, as torch counts it


@dataclass(frozen=True, kw_only=True)
class PspTraining:
    """Hyper-parameters of a step.

    Attributes:
        noise_mode: of the generator; the originals train with "random" noise.
        mirror: whether real images are turned left to right with probability ½.
        precision: of convolutions on accelerators, a key of `arithmetic.PRECISIONS`.
    """

    batch_size: int = 8
    lr: float = 1e-4
    noise_mode: str = "random"
    mirror: bool = True
    precision: str = "default"


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Progressive training (e4e, section 4.3): row 1 gets its offset after `start` images, each next one after `every`
    more; before that it is row 0. `every` 0 is all at once.
    """

    start: int = 0
    every: int = 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned; compiled in.

    Attributes:
        side: pixels a side at which images are compared.
        weights: (term, weight) of the loss.
    """

    shape: PspConfig
    side: int
    weights: tuple[tuple[str, float], ...]
    train: PspTraining = field(default_factory=PspTraining)
    stages: Stages = field(default_factory=Stages)
    critic: CriticTraining | None = None
    options: Options = field(default_factory=Options)

    def stage(self, step: int | jax.Array) -> jax.Array:
        """The last row with an offset of its own in a step."""
        last, size = self.shape.num_ws - 1, self.train.batch_size
        start, every = self.stages.start // size, self.stages.every // size
        if not self.shape.progressive:
            return jnp.int32(last)
        reached = 1 + (jnp.int32(step) - start) // every if every else last
        return jnp.where(jnp.int32(step) < start, 0, jnp.minimum(reached, last))


class PspState(struct.PyTreeNode, kw_only=True):
    """Everything a run needs to go on: a pytree, saved whole."""

    params: Any
    optimizer: optax.OptState
    critic: CriticState | dict


def optimizer(train: PspTraining) -> optax.GradientTransformation:
    """Ranger for all but the running statistics."""

    def kinds(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: "statistics" if path[-1].key in STATISTICS else "weights", params
        )

    return optax.multi_transform({"weights": ranger(train.lr), "statistics": optax.set_to_zero()}, kinds)


def moved_statistics(params: Any, batch: Any) -> Any:
    """params with running statistics moved towards those of a batch (collection `irse.BATCH`)."""
    flat = flatten_dict(params)
    new = {path: (1 - MOMENTUM) * flat[path] + MOMENTUM * value for path, value in flatten_dict(batch).items()}
    return unflatten_dict(flat | new)


def psp_step(
    task: Task, networks: Networks, state: PspState, x: jax.Array, step: jax.Array, rng: jax.Array
) -> tuple[PspState, Logs]:
    """One step, of the latent discriminator too if there is one: each from the weights before it.

    Args:
        networks: generator with statistics, and judges; their weights stay as they are.
        x: images [B, side, side, C] in [-1, 1].
        step: from 0.

    Returns:
        (state, means of the terms in the last pass, "loss" summed over the passes, "stage").
    """
    G, shape, stage = networks.generator, task.shape, task.stage(step)
    network, active = PspEncoder(shape), jnp.arange(shape.num_ws) <= stage
    noise_rng, critic_rng, real_rng = jax.random.split(rng, 3)
    target = viewed(x, shape.view)
    seen = {name: jax.lax.stop_gradient(judge.features(x)) for name, judge in networks.judges.items()}
    critic = state.critic.params if isinstance(state.critic, CriticState) else None

    def shown(ws: jax.Array, noise_mode: Any, rng: jax.Array | None) -> jax.Array:
        return adaptive_average(G.synthesis(ws, noise_mode, rng), task.side)

    def judged(ws: jax.Array, rng: jax.Array) -> tuple[jax.Array, Any]:
        image = shown(ws, task.train.noise_mode, rng)
        context = Context(
            image=image, target=x, seen=seen, ws=ws, active=active, networks=networks, critic=critic,
            options=task.options,
        )  # fmt: skip
        loss, logs = total(dict(task.weights), context)
        return loss, (logs, image)

    def once(carried: Any, rng: jax.Array) -> tuple[Any, Any]:
        params, grads, ws, image = carried

        def offsets(params: Any) -> tuple[jax.Array, Any]:
            seen = jnp.concatenate([target, image], axis=-1) if shape.sees_result else target
            found, moved = network.apply({"params": params}, seen, stage, mutable=[BATCH])
            return found, moved[BATCH]

        offset, back, batch = jax.vjp(offsets, params, has_aux=True)
        ws = ws + offset
        (_, (logs, image)), slope = jax.value_and_grad(judged, has_aux=True)(ws, rng)
        grads = jax.tree.map(jnp.add, grads, back(slope)[0])
        image = pooled(image, shape.view)
        return (moved_statistics(params, batch), grads, ws, image), (logs, ws)

    ws = jnp.broadcast_to(G.w_avg[None, None], (len(x), shape.num_ws, shape.w_dim))
    image = pooled(shown(ws, "const", None), shape.view) if shape.sees_result else target
    start: Any = (state.params, jax.tree.map(jnp.zeros_like, state.params), ws, image)
    rngs = jax.random.split(noise_rng, shape.passes)
    if shape.passes == 1:
        (moved, grads, *_), (logs, first) = once(start, rngs[0])
    else:
        (moved, grads, *_), (each, codes) = jax.lax.scan(once, start, rngs)
        logs, first = {name: values[-1] for name, values in each.items()} | {"loss": each["loss"].sum()}, codes[0]
    updates, ranger_state = optimizer(task.train).update(grads, state.optimizer, state.params)
    new = state.replace(params=optax.apply_updates(moved, updates), optimizer=ranger_state)
    if task.critic is not None and isinstance(state.critic, CriticState):
        real = real_codes(G, len(x), real_rng)
        own, more = critic_step(task.critic, state.critic, real, first, stage, step, critic_rng)
        new, logs = new.replace(critic=own), logs | more
    return new, logs | {"stage": stage.astype(jnp.float32)}


def settled(params: Any, stage: int) -> Any:
    """Params of a progressive encoder whose rows above `stage`, which were never trained, have offsets of 0."""
    flat = flatten_dict(params)
    still = {
        path: jnp.zeros_like(leaf)
        for path, leaf in flat.items()
        if path[0] == "styles" and path[2] == "linear" and int(path[1]) > stage
    }
    return unflatten_dict(flat | still)
