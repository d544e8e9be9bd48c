"""One training step of StyleRes' networks: a step of the discriminator, then one of the residual networks.

Each image goes one of two ways, at random. Unedited, it must come back as itself. Edited, its code is moved towards
that of a random z by e = α (w(z) - ws). Either way its image y must look real, and is encoded again: with the edit
undone, ws(y) - e, it must be the image that it was (the cycle). No gradient flows through that second encoding.

Reference: Pehlivan, Dalva, Dundar, StyleRes (arXiv 2212.14359), section 3.2; the sums are those of the authors' code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from lsap_jax.losses.judges import Networks
from lsap_jax.losses.pixel import mse
from lsap_jax.models.discriminator import Discriminator
from lsap_jax.models.generator import Generator
from lsap_jax.models.styleres import StyleRes
from lsap_jax.networks.irse import adaptive_average
from lsap_jax.networks.stylegan2.discriminator import DiscriminatorConfig
from lsap_jax.networks.styleres import StyleResConfig
from lsap_jax.networks.view import viewed
from lsap_jax.rendering.transforms import ScaleShift
from lsap_jax.training.loop import Logs
from lsap_jax.training.stylegan2 import r1_penalty

JUDGED = ("perceptual", "identity")
TERMS = ("mse", *JUDGED, "adversarial", "addition", *(f"cycle_{name}" for name in JUDGED))


@dataclass(frozen=True, kw_only=True)
class StyleResTraining:
    """Hyper-parameters of a step.

    Attributes:
        lr: Adam's rate, of the discriminator, too; it is halved after every `halve_images` images, `halvings` times.
        r1_gamma: of R1, at every step.
        noise_mode: of the generator, "const" or "none".
        mirror, precision: as in `on_images.Batches`.
    """

    batch_size: int = 8
    lr: float = 1e-4
    halve_images: int = 0
    halvings: int = 3
    r1_gamma: float = 10.0
    noise_mode: str = "const"
    mirror: bool = True
    precision: str = "default"


@dataclass(frozen=True, kw_only=True)
class Edits:
    """Random edits: their probability, and the range of α, the share of the way to the random code."""

    probability: float = 0.5
    low: float = 0.4
    high: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned; compiled in.

    Attributes:
        side: pixels a side at which images are compared.
        weights: (term, weight) of the loss.
        critic: of the discriminator, or None where no term needs one.
        critic_file: its first weights, or "" for those that come with the generator, else random ones.
    """

    shape: StyleResConfig
    side: int
    weights: tuple[tuple[str, float], ...]
    train: StyleResTraining = field(default_factory=StyleResTraining)
    edits: Edits = field(default_factory=Edits)
    critic: DiscriminatorConfig | None = None
    critic_file: str = ""


class StyleResState(struct.PyTreeNode, kw_only=True):
    """Everything that a step changes."""

    params: Any
    optimizer: optax.OptState
    critic: Any = struct.field(default_factory=dict)
    critic_optimizer: optax.OptState = struct.field(default_factory=dict)


class Moments(NamedTuple):
    """State of `scale_by_adam`."""

    steps: jax.Array
    mean: Any
    square: Any


def scale_by_adam(b1: float = 0.9, b2: float = 0.99, eps: float = 1e-8) -> optax.GradientTransformation:
    """Adam as TensorFlow has it: √(1 - b2ᵗ) / (1 - b1ᵗ) · m / (√v + ε), ε beside the uncorrected moment."""

    def update(grads: Any, state: Moments, params: Any = None) -> tuple[Any, Moments]:
        steps = state.steps + 1
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, grads)
        square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.square, grads)
        factor = jnp.sqrt(1 - b2**steps) / (1 - b1**steps)
        return jax.tree.map(lambda m, v: factor * m / (jnp.sqrt(v) + eps), mean, square), Moments(steps, mean, square)

    def init(params: Any) -> Moments:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return Moments(jnp.zeros((), jnp.int32), zeros, zeros)

    return optax.GradientTransformation(init, update)


def optimizer(train: StyleResTraining) -> optax.GradientTransformation:
    """Adam with a rate that is halved a few times."""
    steps = max(train.halve_images // train.batch_size, 1)
    halved = {steps * (k + 1): 0.5 for k in range(train.halvings if train.halve_images else 0)}
    rate = optax.piecewise_constant_schedule(train.lr, halved)
    return optax.chain(scale_by_adam(), optax.scale_by_learning_rate(rate))


class Seen(NamedTuple):
    """What is known of images before residuals: their codes, the encoder's features c, the generator's features F."""

    ws: jax.Array
    c: jax.Array
    features: jax.Array


def encoded(task: Task, G: Generator, x: jax.Array) -> Seen:
    """Images [B, side, side, C] as frozen networks see them."""
    ws, c = G.parts["psp"].with_unit(viewed(x, G.parts["psp"].view), task.shape.tap)
    return Seen(ws, c, before(task, G, ws))


def before(task: Task, G: Generator, ws: jax.Array) -> jax.Array:
    """Features of the layer that is added to, without an addition."""
    name = StyleRes(config=task.shape, params={}).layer(G.config).name
    return G.features(ws, task.train.noise_mode)[1][name]  # type: ignore[arg-type]


def rendered(task: Task, G: Generator, params: Any, seen: Seen, ws: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(image of ws [B, side, side, C] with the residuals of what was seen, the raw addition dF)."""
    networks = StyleRes(config=task.shape, params=params)
    added, gate = networks.addition(before(task, G, ws), networks.residual(seen.c, seen.features))
    moved = ScaleShift(scale=jnp.ones((len(ws), 1, 1, 1)), shift=gate * added)
    image = G.synthesis(ws, task.train.noise_mode, transforms={networks.layer(G.config).name: moved})  # type: ignore[arg-type]
    return adaptive_average(image, task.side), added


def random_edits(task: Task, G: Generator, ws: jax.Array, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(e [B, num_ws, w_dim], 1 where an image is edited [B], else 0, and e with it)."""
    z_rng, way_rng, share_rng = jax.random.split(rng, 3)
    towards = G.mapping(jax.random.normal(z_rng, (len(ws), G.z_dim))) - ws
    edited = jax.random.bernoulli(way_rng, task.edits.probability, (len(ws),)).astype(ws.dtype)
    share = jax.random.uniform(share_rng, (len(ws),), minval=task.edits.low, maxval=task.edits.high)
    return (edited * share)[:, None, None] * towards, edited


def loss_of(
    weights: Mapping[str, float], networks: Networks, D: Discriminator | None, x: jax.Array, edited: jax.Array,
    y: jax.Array, cycled: jax.Array, added: jax.Array,
) -> tuple[jax.Array, Logs]:  # fmt: skip
    """(weighted sum of the terms, {"loss": the same, term: its mean}).

    Terms of judges that are not there are left out. Of "mse" and judges the mean is over the unedited images, 0 where
    there is none; of "cycle_" and all others over all.
    """
    kept = 1 - edited
    plain = kept / jnp.maximum(kept.sum(), 1)
    found = {"mse": (mse(y, x) * plain).sum(), "addition": jnp.abs(added).mean()}
    for name, judge in networks.judges.items():
        seen = jax.lax.stop_gradient(judge.features(x))
        found[name] = (judge.distance(judge.features(y), seen) * plain).sum()
        found[f"cycle_{name}"] = judge.distance(judge.features(cycled), seen).mean()
    if D is not None:
        found["adversarial"] = jax.nn.softplus(-D(y)).mean()
    used = {name: weight for name, weight in weights.items() if weight and name in found}
    loss = sum((weight * found[name] for name, weight in used.items()), start=jnp.zeros(()))
    return loss, {"loss": loss, **{name: found[name] for name in used}}


def critic_loss(task: Task, D: Discriminator, real: jax.Array, fake: jax.Array) -> tuple[jax.Array, Logs]:
    """E softplus(D(y)) + E softplus(-D(x)) + γ/2 E|∇D(x)|²."""
    loss = jax.nn.softplus(D(fake)).mean() + jax.nn.softplus(-D(real)).mean()
    penalty = r1_penalty(D, real, task.train.r1_gamma)
    return loss + penalty, {"critic_loss": loss, "r1": penalty}


def styleres_step(
    task: Task, networks: Networks, state: StyleResState, x: jax.Array, step: jax.Array, rng: jax.Array
) -> tuple[StyleResState, Logs]:
    """One step.

    Args:
        networks: generator with its encoder, and judges; their weights stay as they are.
        x: images [B, side, side, C] in [-1, 1].

    Returns:
        (state, means of the terms and of the discriminator's).
    """
    G, tx = networks.generator, optimizer(task.train)
    seen = jax.lax.stop_gradient(encoded(task, G, x))
    e, edited = jax.lax.stop_gradient(random_edits(task, G, seen.ws, rng))

    def both(params: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        y, added = rendered(task, G, params, seen, seen.ws + e)
        again = jax.lax.stop_gradient(encoded(task, G, y))
        return y, rendered(task, G, params, again, again.ws - e)[0], added

    (y, cycled, added), back = jax.vjp(both, state.params)
    D, more, new = None, {}, state
    if task.critic is not None:
        fake = jax.lax.stop_gradient(y)

        def critic(params: Any) -> tuple[jax.Array, Logs]:
            return critic_loss(task, Discriminator(config=task.critic, params=params), x, fake)  # type: ignore[arg-type]

        grads, more = jax.grad(critic, has_aux=True)(state.critic)
        updates, own = tx.update(grads, state.critic_optimizer, state.critic)
        new = new.replace(critic=optax.apply_updates(state.critic, updates), critic_optimizer=own)
        D = Discriminator(config=task.critic, params=new.critic)

    def loss(images: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, Logs]:
        return loss_of(dict(task.weights), networks, D, x, edited, *images)

    slope, logs = jax.grad(loss, has_aux=True)((y, cycled, added))
    updates, own = tx.update(back(slope)[0], state.optimizer, state.params)
    return new.replace(params=optax.apply_updates(state.params, updates), optimizer=own), logs | more
