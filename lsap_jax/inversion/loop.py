"""The optimisation: one compiled scan of K steps for a batch of independent images, without transfers to the host
inside. Each image counts its own steps, so that a new image may take the place of a finished one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from lsap_jax.inversion.objective import Objective, terms, weighted
from lsap_jax.inversion.optimizers import make_optimizer, per_image
from lsap_jax.losses.judges import Judge, Networks, column
from lsap_jax.losses.terms import Targets
from lsap_jax.metrics import distortion
from lsap_jax.models.generator import Generator
from lsap_jax.networks.arithmetic import convolutions_in
from lsap_jax.networks.image_by_image import in_groups
from lsap_jax.networks.layers import FEATURES
from lsap_jax.rendering.render import synthesise
from lsap_jax.spaces import Space

Codes = dict[str, jax.Array]


@dataclass(frozen=True, kw_only=True)
class LatentNoise:
    """Noise on w during the optimisation, as in the StyleGAN2 projector. After the part t of the steps its standard
    deviation is scale · w_spread · max(0, 1 - t / until)².
    """

    scale: float = 0.0
    until: float = 0.75

    def __call__(self, G: Generator, w: jax.Array, rng: jax.Array, step: jax.Array, t: jax.Array) -> jax.Array:
        """w [B, ...] with noise from a key, a step and a part t per image [B]."""
        assert G.statistics is not None
        deviation = self.scale * G.statistics.w_spread * jnp.square(jnp.maximum(0.0, 1.0 - t / self.until))
        noise = jax.vmap(lambda key, k: jax.random.normal(jax.random.fold_in(key, k), w.shape[1:]))(rng, step)
        return w + per_image(deviation, w) * noise


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The compiled-in constants of a run; hashable, so that equal problems share one compilation."""

    space: Space
    objective: Objective
    retraction: str
    lr: float
    b1: float
    b2: float
    eps: float
    keep_best: bool
    schedule: str = "constant"
    lr_f: float = 0.0
    latent_noise: LatentNoise = LatentNoise()
    together: int = 0  # images that are computed at once; 0 is the batch
    remat: bool = False  # keep only the outputs of blocks for the backward pass, and compute the rest again
    still: bool = False  # no step is taken: codes are evaluated, and there is no gradient
    precision: str = "highest"  # of the convolutions in steps, see `arithmetic`; pictures and metrics are always full

    @property
    def optimizer(self) -> optax.GradientTransformationExtraArgs:
        """The optax chain, its retraction last."""
        options = {name: getattr(self, name) for name in ("b1", "b2", "eps", "schedule", "lr_f")}
        return make_optimizer(self.space, self.retraction, self.lr, **options)

    @property
    def needs_statistics(self) -> bool:
        """Whether the generator's latent statistics are needed."""
        return self.space.needs_statistics or self.objective.needs_statistics or self.latent_noise.scale > 0

    def loss(
        self, networks: Networks, codes: Codes, targets: Targets, shown: Codes | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """(total [B], terms by name, each [B]); for `shown` see `terms`."""
        found = terms(self.objective, networks, self.space, codes, targets, shown)
        return weighted(found, self.objective.weight), found


class State(struct.PyTreeNode, kw_only=True):
    """An inversion under way, leaves [B, ...]. `active` is False once an image's loss or gradient was not finite: the
    image then moves no more. `step` counts each image's own steps.
    """

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
        best_loss=jnp.full((batch,), jnp.inf, jnp.float32),
        best_step=jnp.full((batch,), -1, jnp.int32),
        active=jnp.ones((batch,), bool),
        step=jnp.zeros((batch,), jnp.int32),
    )


def select(chosen: jax.Array, a: Any, b: Any) -> Any:
    """Leaves of `a` [B, ...] for the images where `chosen` [B] holds, of `b` elsewhere."""
    return jax.tree.map(lambda x, y: jnp.where(per_image(chosen, x), x, y), a, b)


def finite(tree: Any) -> jax.Array:
    """[B]: whether all values of an image's leaves [B, ...] are finite."""
    leaves = [jnp.isfinite(leaf).reshape(leaf.shape[0], -1).all(axis=1) for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves).all(axis=0)


remembering = partial(jax.checkpoint, policy=jax.checkpoint_policies.save_only_these_names(FEATURES))


def step(
    problem: Problem, networks: Networks, state: State, targets: Targets, steps: jax.Array
) -> tuple[State, dict[str, jax.Array]]:
    """Evaluate every image's codes, note the best, take one step.

    The losses returned are those before the step. Call it steps + 1 times: the last call evaluates the final codes
    and moves nothing, and so does any further one. Without steps the first call is the last, and a `still` problem's
    program has no backward pass.
    """

    t = jnp.where(steps > 0, state.step / jnp.maximum(steps, 1), 1.0)

    def total(codes: Codes) -> tuple[jax.Array, tuple[jax.Array, dict[str, jax.Array]]]:
        shown = None
        if targets.rng is not None:
            key, G = problem.space.key, networks.generator.given(codes.get("c"))
            shown = {**codes, key: problem.latent_noise(G, codes[key], targets.rng, state.step, t)}
        value, found = problem.loss(networks, codes, targets, shown)
        return value.sum(), (value, found)  # images do not mix: the gradient of the sum is each image's own

    grads = None
    if problem.still:
        _, (value, found) = total(state.codes)
    else:
        gradient = jax.value_and_grad(remembering(total) if problem.remat else total, has_aux=True)
        (_, (value, found)), grads = gradient(state.codes)
    active = state.active & finite((value, grads))
    better = active & (value < state.best_loss) & (state.step <= steps)
    codes, optimizer = state.codes, state.optimizer
    if grads is not None:
        moving = active & (state.step < steps)
        grads = select(active, grads, jax.tree.map(jnp.zeros_like, grads))
        updates, optimizer = problem.optimizer.update(grads, optimizer, codes, progress=t)
        codes = select(moving, optax.apply_updates(codes, updates), codes)
    new = State(
        codes=codes,
        optimizer=optimizer,
        best=select(better, state.codes, state.best),
        best_loss=jnp.where(better, value, state.best_loss),
        best_step=jnp.where(better, state.step, state.best_step),
        active=jnp.where(state.step <= steps, active, state.active),
        step=state.step + 1,
    )
    return new, {"loss": value, **found}


def chunk(
    problem: Problem,
    length: int,
    networks: Networks,
    state: State,
    targets: Targets,
    steps: jax.Array,
    live: jax.Array,
) -> tuple[State, dict[str, jax.Array]]:
    """`length` calls of `step` in one scan, for the images where `live` [B] holds; the curves are [B, length] per
    term.
    """

    def some(state: State, targets: Targets) -> tuple[State, dict[str, jax.Array]]:
        def body(state: State, _: None) -> tuple[State, dict[str, jax.Array]]:
            return step(problem, networks, state, targets, steps)

        state, curves = jax.lax.scan(body, state, None, length=length)
        return state, jax.tree.map(jnp.transpose, curves)

    with convolutions_in(problem.precision):
        return in_groups(problem.together, live, some, state, targets)  # type: ignore[no-any-return]


class Outcome(struct.PyTreeNode, kw_only=True):
    """A finished batch.

    Attributes:
        codes: on the sphere.
        images: [B, R, R, C], clipped to [-1, 1], rendered from these codes.
        metrics: by name, each [B].
        step: [B], how many steps made these codes; -1 where no loss was finite.
        active: [B], False where an image was frozen on the way.
    """

    codes: Codes
    images: jax.Array
    metrics: dict[str, jax.Array]
    step: jax.Array
    active: jax.Array


def finish(
    problem: Problem,
    networks: Networks,
    state: State,
    targets: Targets,
    steps: jax.Array,
    live: jax.Array,
) -> Outcome:
    """Choose the codes of each image where `live` [B] holds (the last, or the best; the best where it was frozen),
    retract, render, measure.
    """

    G = networks.generator

    def some(state: State, targets: Targets) -> Outcome:
        last = state.active & (not problem.keep_best)
        codes = problem.space.retract(select(last, state.codes, state.best))
        images = jnp.clip(synthesise(G, problem.space.decode(G, codes)), -1, 1)
        return Outcome(
            codes=codes,
            images=images,
            metrics=measure(networks.judges, images, targets),
            step=jnp.where(last, jnp.minimum(state.step, steps), state.best_step),
            active=state.active,
        )

    return in_groups(problem.together, live, some, state, targets)  # type: ignore[no-any-return]


def measure(judges: Mapping[str, Judge], images: jax.Array, targets: Targets) -> dict[str, jax.Array]:
    """Metrics of clipped images against the whole targets, masks or not: mse, psnr, ssim, and the distance by each
    judge under its `column`.
    """
    found = {
        "mse": distortion.mse(images, targets.images),
        "psnr": distortion.psnr(images, targets.images),
        "ssim": distortion.ssim(images, targets.images),
    }
    for name, judge in judges.items():
        found[column(judge)] = judge.distance(judge.features(images), targets.seen[name])
    return found
