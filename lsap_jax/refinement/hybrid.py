"""The two optimisations of domain-specific hybrid refinement (DHR, arXiv 2301.12141, section 3.2), from one forward
pass of each step:

    features <- features · m + f · (1 - m)
    min over weights    mse · |.|² + perceptual · d(.,.)    where m is 1,    min over f    the same where m is 0

Each gradient is of what the pass showed, with the features and weights from before the step.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.traverse_util import flatten_dict

from lsap_jax.losses.judges import Judge
from lsap_jax.models.generator import Generator
from lsap_jax.networks.pixel_maps import area, weighted_mean
from lsap_jax.networks.winograd import paying_channels
from lsap_jax.refinement.domain import nearest
from lsap_jax.refinement.pti import FACTOR, Changes, thin, trained
from lsap_jax.refinement.refiner import Codes, Course
from lsap_jax.rendering.refinement import Full, LowRank, Refinement
from lsap_jax.rendering.render import synthesise
from lsap_jax.rendering.transforms import ScaleShift
from lsap_jax.spaces import Space


class Hybrid(struct.PyTreeNode, kw_only=True):
    """The optimisations for a batch.

    Attributes:
        judge: the perceptual distance.
        place: name of `config.places`, the features that are replaced.
        steps, weight_steps: of the features, and of the weights, which end first.
        lr_feature, lr_weights: of Adam.
        mse, perceptual: weights of the loss.
        rank: of the changes of weights; 0 is full.
        keep: "last" or "best", which step is kept; where a loss was not finite, it is the best.
    """

    judge: Judge
    place: str = struct.field(pytree_node=False)
    steps: int = struct.field(pytree_node=False, default=100)
    weight_steps: int = struct.field(pytree_node=False, default=50)
    lr_feature: float = struct.field(pytree_node=False, default=9e-2)
    lr_weights: float = struct.field(pytree_node=False, default=1.5e-3)
    mse: float = struct.field(pytree_node=False, default=1.0)
    perceptual: float = struct.field(pytree_node=False, default=1.0)
    rank: int = struct.field(pytree_node=False, default=0)
    keep: str = struct.field(pytree_node=False, default="last")

    def __call__(
        self, G: Generator, space: Space, codes: Mapping[str, jax.Array], images: jax.Array, inside: jax.Array
    ) -> tuple[Refinement, Course]:
        """What refines codes [B, ...] to images [B, R, R, C], where `inside` [B, R, R] of 0 and 1 is the domain."""
        frozen = self.replace(judge=self.judge.freeze(G.img_resolution, paying_channels(jax.local_devices())))
        names = trained(G, space.f_resolution(codes), (), False)

        def one(image: Image) -> tuple[Refinement, Course]:
            return refine(frozen, G, space, names, image)

        batch = Image(codes=dict(codes), target=images, inside=inside)
        if len(images) == 1:  # on processors: no weight has an axis for images
            return jax.tree.map(lambda a: a[None], one(jax.tree.map(lambda a: a[0], batch)))  # type: ignore[no-any-return]
        return jax.vmap(one)(batch)


class Image(struct.PyTreeNode, kw_only=True):
    """What is refined: a code, its target [R, R, C], and where it is in the domain, [R, R] of 0 and 1."""

    codes: Codes
    target: jax.Array
    inside: jax.Array


class Parts(NamedTuple):
    """What is found for an image: changes of weights, and features [1, r, r, C]."""

    changes: Changes
    features: jax.Array


class Refined(NamedTuple):
    """A refinement under way; `finite` ends where a loss or a gradient is not."""

    now: Parts
    adam: tuple[Any, Any]
    best: Parts
    best_loss: jax.Array
    best_step: jax.Array
    finite: jax.Array


def refine(how: Hybrid, G: Generator, space: Space, names: list[str], image: Image) -> tuple[Refinement, Course]:
    """The refinement of one image, float32; `names` are the parameters that are tuned."""
    codes, target, full = jax.tree.map(lambda a: a[None], (image.codes, image.target, image.inside))
    decoded, seen = space.decode(G, codes), how.judge.features(target)
    side = G.config.places[how.place].resolution
    soft = area(full[..., None], (side, side))

    def refinement(parts: Parts) -> Refinement:
        weights = jax.tree.map(lambda a: a[None], parts.changes)
        replaced = ScaleShift(scale=soft, shift=parts.features * (1 - soft))
        return Refinement(weights=weights, transforms={how.place: replaced})

    def losses(parts: Parts) -> tuple[jax.Array, jax.Array]:
        """Of the domain, and of all else."""
        shown = jax.lax.optimization_barrier(synthesise(G, decoded, refinement(parts)))
        squared = jnp.sum(jnp.square(shown - target), -1)  # over channels: three times a mean, as in the original
        taps = [jnp.sum(jnp.square(a - b), -1) for a, b in zip(how.judge.features(shown), seen, strict=True)]

        def region(full: jax.Array, soft: jax.Array) -> jax.Array:
            distances = [weighted_mean(tap, nearest(soft[..., 0], tap.shape[1:]))[0] for tap in taps]
            return how.mse * weighted_mean(squared, full)[0] + how.perceptual * sum(distances, start=jnp.zeros(()))

        return region(full, soft), region(1 - full, 1 - soft)

    _, own = G.features(decoded.ws, decoded.noise_mode, f=decoded.f, styles=decoded.styles, noise=decoded.noise)
    params = flatten_dict(dict(G.params), sep=".")
    whole = {name: Full(delta=jnp.zeros_like(params[name])) for name in names}
    start = Parts(changes=dict(whole), features=own[how.place])
    if how.rank:
        first = jax.grad(lambda parts: losses(parts)[0])(start).changes
        start = Parts({name: thin(how.rank, whole[name], first[name]) for name in names}, start.features)
    adam = optax.scale_by_adam()
    rates = {n: how.lr_weights / (FACTOR if isinstance(one, LowRank) else 1.0) for n, one in start.changes.items()}

    def step(state: Refined, k: jax.Array) -> tuple[Refined, None]:
        (inside, outside), pull = jax.vjp(losses, state.now)
        zero, one = jnp.zeros(()), jnp.ones(())
        by_features = pull((zero, one))[0].features
        tuning = k < min(how.weight_steps, how.steps)
        idle = jax.tree.map(jnp.zeros_like, state.now.changes)
        by_weights = jax.lax.cond(tuning, lambda: pull((one, zero))[0].changes, lambda: idle)
        value, leaves = inside + outside, jax.tree.leaves((inside, outside, by_features, by_weights))
        finite = state.finite & jnp.stack([jnp.isfinite(a).all() for a in leaves]).all()
        better, moving = finite & (value < state.best_loss), finite & (k < how.steps)
        update, adam_features = adam.update(by_features, state.adam[1])
        updates, adam_changes = adam.update(by_weights, state.adam[0])
        features = state.now.features - how.lr_feature * update
        changes = {
            name: jax.tree.map(lambda a, u, rate=rates[name]: a - rate * u, own, updates[name])
            for name, own in state.now.changes.items()
        }
        after = Refined(
            now=Parts(
                changes=_where(moving & tuning, changes, state.now.changes),
                features=_where(moving, features, state.now.features),
            ),
            adam=(adam_changes, adam_features),
            best=_where(better, state.now, state.best),
            best_loss=jnp.where(better, value, state.best_loss),
            best_step=jnp.where(better, k, state.best_step),
            finite=finite,
        )
        return after, None

    begin = Refined(
        now=start,
        adam=(adam.init(start.changes), adam.init(start.features)),
        best=start,
        best_loss=jnp.float32(jnp.inf),
        best_step=jnp.int32(-1),
        finite=jnp.bool_(True),
    )
    end, _ = jax.lax.scan(step, begin, jnp.arange(how.steps + 1))  # the last one only judges what the last step made
    last = end.finite & (how.keep == "last")
    found = refinement(_where(last, end.now, end.best))
    return jax.tree.map(lambda a: a[0], found), Course(
        step=jnp.where(last, how.steps, end.best_step), finite=end.finite
    )


def _where(chosen: jax.Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(chosen, x, y), a, b)
