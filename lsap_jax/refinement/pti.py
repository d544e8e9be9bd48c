"""Pivotal tuning (PTI, arXiv 2106.05744): the generator itself is trained for a few steps, for each image a copy of its
weights, until it makes the image from the image's code, which stays as it is.

    min over weights θ    mse · |G(w; θ) - x|² + perceptual · d(G(w; θ), x)

A change of weights is stored whole (`rank` 0), or as a product of two thin matrices of `rank` columns and rows for each
array of several axes. The thin ones start at the strongest directions of the first gradient.

The authors' MultiID tunes one generator to several images (`shared`): the sum over the images is minimised, a step for
each of them in turn.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.traverse_util import flatten_dict

from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Judge
from lsap_jax.losses.pixel import mse
from lsap_jax.models.generator import Generator
from lsap_jax.networks.arithmetic import FULL, convolutions_in
from lsap_jax.networks.winograd import paying_channels
from lsap_jax.refinement.locality import Locality, locality, random_z
from lsap_jax.refinement.refiner import Codes, Course
from lsap_jax.rendering.refinement import Full, LowRank, Refinement, as_matrix, rounded
from lsap_jax.rendering.render import decode, synthesise
from lsap_jax.spaces import Space

Changes = dict[str, Full | LowRank]
BUFFERS = ("noise_const", "w_avg")  # parameters here, which the original does not train
# The standard deviation at which the fixed factor of a low-rank change starts; its rates are larger by as much, so that
# a step moves a weight as far as a step of the weight itself would.
FACTOR = 0.1


class Pti(struct.PyTreeNode, kw_only=True):
    """Pivotal tuning as a `Refiner`.

    Attributes:
        judge: the perceptual distance; None leaves MSE alone, and no image stops early.
        steps: the most steps; an image whose distance is `stop` or less takes no further one.
        lr: of Adam.
        mse, perceptual: weights of the loss.
        shared: one generator is tuned to all images of a batch, with a step for each of them in each of `steps` rounds.
        rank: of the changes; 0 is full.
        layers: blocks ("b16") and layers ("b16.conv0") that are trained; none is all.
        mapping: whether the mapping network is trained, too, which codes on the sphere go through.
        keep: "last" or "best", which step is kept; where a loss was not finite, it is the best.
        dtype: in which changes are stored, and rendered.
        precision: of the convolutions in steps (`networks.arithmetic`).
    """

    judge: Judge | None
    steps: int = struct.field(pytree_node=False, default=350)
    lr: float = struct.field(pytree_node=False, default=3e-4)
    stop: float = struct.field(pytree_node=False, default=0.06)
    mse: float = struct.field(pytree_node=False, default=1.0)
    perceptual: float = struct.field(pytree_node=False, default=1.0)
    locality: Locality | None = struct.field(pytree_node=False, default=None)
    shared: bool = struct.field(pytree_node=False, default=False)
    rank: int = struct.field(pytree_node=False, default=0)
    layers: tuple[str, ...] = struct.field(pytree_node=False, default=())
    mapping: bool = struct.field(pytree_node=False, default=False)
    keep: str = struct.field(pytree_node=False, default="last")
    dtype: str = struct.field(pytree_node=False, default="float16")
    precision: str = struct.field(pytree_node=False, default="high")

    def __call__(
        self,
        G: Generator,
        space: Space,
        codes: Mapping[str, jax.Array],
        images: jax.Array,
        rng: jax.Array,
        mask: jax.Array | None,
    ) -> tuple[Codes, Refinement, Course]:
        """As `Refiner`; codes stay as they are.

        Raises:
            LsapError: an option that this space or this generator has no use for.
        """
        check_space(self, space)
        names = trained(G, space.f_resolution(codes), self.layers, self.mapping)
        winograd = paying_channels(jax.local_devices())
        frozen = self.replace(judge=None if self.judge is None else self.judge.freeze(G.img_resolution, winograd))

        def one(image: Image) -> tuple[Changes, Course]:
            return tune(frozen, G, space, names, image)

        batch = Image(codes=dict(codes), target=images, rng=rng, mask=mask)
        with convolutions_in(self.precision):
            if self.shared:
                change, course = tune_together(frozen, G, space, names, batch)
                found = jax.tree.map(lambda a: jnp.broadcast_to(a, (len(images), *a.shape)), change), course
            elif len(images) == 1:  # on processors: no weight has an axis for images
                found = jax.tree.map(lambda a: a[None], one(jax.tree.map(lambda a: a[0], batch)))
            else:
                found = jax.vmap(one)(batch)
        changes, course = found
        return dict(codes), Refinement(weights=rounded(changes, self.dtype)), course


class Image(struct.PyTreeNode, kw_only=True):
    """What is tuned to: a code, its target [R, R, C], a key, and the mask [R, R] or None."""

    codes: Codes
    target: jax.Array
    rng: jax.Array
    mask: jax.Array | None


class Tuning(NamedTuple):
    """A tuning under way. `running` ends with the last step, at the distance `stop`, or where a loss is not finite."""

    changes: Changes
    adam: Any
    best: Changes
    best_loss: jax.Array
    best_step: jax.Array
    step: jax.Array
    running: jax.Array
    finite: jax.Array


def check_space(pti: Pti, space: Space) -> None:
    """Raises LsapError where codes of this space cannot be tuned with these options."""
    if pti.mapping and not space.on_sphere:
        raise LsapError(
            f"refine.mapping=True: codes of space {space.name} do not go through the mapping network; set it to false"
        )
    if pti.locality is not None and not space.has_ws:
        raise LsapError(f"refine.locality=True: codes of space {space.name} are styles, which have no ws; leave it out")


def trained(G: Generator, base_resolution: int, layers: tuple[str, ...], mapping: bool) -> list[str]:
    """Names of the parameters that are trained, as "synthesis.b8.conv0.weight": all that reach the image, the strength
    of the noise among them, but not the noise itself.

    Args:
        base_resolution: of the base code, below which nothing is computed; 0 where there is none.
        layers: blocks and layers to which they belong; none is all.
        mapping: with those of the mapping network.

    Raises:
        LsapError: the generator has no such block or layer, or a base code stands in its place.
    """
    live = {f"synthesis.{layer.name}." for layer in G.config.live_layers(base_resolution)}
    every = {f"synthesis.{layer.name}." for layer in G.config.layers}
    blocks = {f"synthesis.b{r}.": r > base_resolution for r in G.config.resolutions}
    replaced = f"synthesis.{G.config.entries[base_resolution].name}." if base_resolution else ""
    found = []
    for name in flatten_dict(dict(G.params), sep="."):
        if name.endswith(BUFFERS):
            continue
        if name.startswith("mapping."):
            reaches = mapping
        elif layer := next((own for own in every if name.startswith(own)), None):
            # where f replaces the features that a layer styles, its style alone reaches the image
            reaches = layer in live and (layer != replaced or ".affine." in name)
        else:  # const, skip: of a block; the colours of StyleGAN1 are of none
            reaches = next((alive for block, alive in blocks.items() if name.startswith(block)), True)
        if reaches:
            found.append(name)
    if not layers:
        return found
    for item in layers:
        if not any(name.startswith(f"synthesis.{item}.") for name in found):
            known = ", ".join(layer.name for layer in G.config.live_layers(base_resolution))
            raise LsapError(
                f"refine.layers: {item!r} is not a block or layer that reaches the image; the layers are {known}, and "
                "what stands before the dot is their block"
            )
    chosen = tuple(f"synthesis.{item}." for item in layers)
    return [name for name in found if name.startswith((*chosen, "mapping."))]


Loss = Callable[[Changes, jax.Array], tuple[jax.Array, jax.Array]]


def objective(pti: Pti, G: Generator, space: Space, image: Image) -> Loss:
    """What is minimised for one image: (changes of the weights, number of the step) to (loss, perceptual distance)."""
    codes, target = jax.tree.map(lambda a: a[None], (image.codes, image.target))
    mask = None if image.mask is None else image.mask[None]
    seen = None if pti.judge is None else pti.judge.features(target)
    pivot = space.decode(G, codes)

    def loss(changes: Changes, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        own = Refinement(weights=jax.tree.map(lambda a: a[None], changes))
        shown = synthesise(G, decode(G, space, codes, own) if pti.mapping else pivot, own)
        shown = jax.lax.optimization_barrier(shown)
        distance = jnp.inf if pti.judge is None else pti.judge.distance(pti.judge.features(shown), seen, mask)[0]
        total = pti.mse * mse(shown, target, mask)[0]
        if pti.judge is not None:
            total = total + pti.perceptual * distance
        if pti.locality is not None:
            how, z = pti.locality, random_z(G, image.rng, step)
            value = jax.lax.cond(
                step % how.interval == 0,
                lambda: locality(how, pti.judge, G, pivot, own, z),
                lambda: jnp.float32(0),
            )
            total = total + value
        return total, jnp.asarray(distance, jnp.float32)

    return loss


def begun(pti: Pti, G: Generator, names: list[str], gradient: Callable[[Changes], Changes]) -> Changes:
    """The zero changes of the named parameters as they are trained: of the options' rank, by the first gradient."""
    params = flatten_dict(dict(G.params), sep=".")
    whole: dict[str, Any] = {name: Full(delta=jnp.zeros_like(params[name])) for name in names}
    if not pti.rank:
        return whole
    first: dict[str, Any] = gradient(whole)
    return {name: thin(pti.rank, whole[name], first[name]) for name in names}


def moved(pti: Pti, changes: Changes, updates: Changes) -> Changes:
    """Changes after a step of Adam."""
    rates = {name: pti.lr / (FACTOR if isinstance(one, LowRank) else 1.0) for name, one in changes.items()}
    return {
        name: jax.tree.map(lambda a, u, rate=rates[name]: a - rate * u, one, updates[name])
        for name, one in changes.items()
    }


def all_finite(tree: Any) -> jax.Array:
    """Whether all numbers of a tree are finite."""
    return jnp.stack([jnp.isfinite(a).all() for a in jax.tree.leaves(tree)]).all()


def tune(pti: Pti, G: Generator, space: Space, names: list[str], image: Image) -> tuple[Changes, Course]:
    """The changes of the named parameters for one image, float32."""
    gradient = jax.value_and_grad(objective(pti, G, space, image), has_aux=True)
    changes = begun(pti, G, names, lambda zero: gradient(zero, jnp.int32(0))[1])
    adam = optax.scale_by_adam()

    def round_(now: Tuning) -> Tuning:
        (value, distance), grads = gradient(now.changes, now.step)
        finite = all_finite((value, grads))
        running = finite & (distance > pti.stop) & (now.step < pti.steps)
        updates, state = adam.update(grads, now.adam)
        better = finite & (value < now.best_loss)
        return Tuning(
            changes=_where(running, moved(pti, now.changes, updates), now.changes),
            adam=state,
            best=_where(better, now.changes, now.best),
            best_loss=jnp.where(better, value, now.best_loss),
            best_step=jnp.where(better, now.step, now.best_step),
            step=now.step + running,
            running=running,
            finite=finite,
        )

    start = Tuning(
        changes=changes,
        adam=adam.init(changes),
        best=changes,
        best_loss=jnp.float32(jnp.inf),
        best_step=jnp.int32(-1),
        step=jnp.int32(0),
        running=jnp.bool_(True),
        finite=jnp.bool_(True),
    )
    end = jax.lax.while_loop(lambda now: now.running, round_, start)
    last = end.finite & (pti.keep == "last")
    step = jnp.where(last, end.step, end.best_step)
    return _where(last, end.changes, end.best), Course(step=step, finite=end.finite)


def tune_together(pti: Pti, G: Generator, space: Space, names: list[str], batch: Image) -> tuple[Changes, Course]:
    """The changes of the named parameters for all images of a batch, leaves [N, ...], float32. An image at the distance
    `stop` takes no step, nor does one whose loss is not finite; the others go on.
    """
    adam = optax.scale_by_adam()

    def gradient(changes: Changes, image: Image, step: jax.Array) -> Any:
        return jax.value_and_grad(objective(pti, G, space, image), has_aux=True)(changes, step)

    def summed(zero: Changes) -> Changes:
        def add(total: Changes, image: Image) -> tuple[Changes, None]:
            own = gradient(zero, image, jnp.int32(0))[1]
            return jax.tree.map(lambda a, b: a + jnp.where(jnp.isfinite(b), b, 0), total, own), None

        return jax.lax.scan(add, zero, batch)[0]

    def round_(number: jax.Array, now: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        def step(now: tuple[Changes, Any], image: Image) -> tuple[tuple[Changes, Any], jax.Array]:
            changes, state = now
            (value, distance), grads = gradient(changes, image, number)
            finite = all_finite((value, grads))
            updates, after = adam.update(grads, state)
            moves = finite & (distance > pti.stop)
            return _where(moves, (moved(pti, changes, updates), after), now), finite

        trained, finite = jax.lax.scan(step, now[0], batch)
        return trained, now[1] & finite

    changes = begun(pti, G, names, summed)
    start = (changes, adam.init(changes)), jnp.ones(len(batch.target), bool)
    (changes, _), finite = jax.lax.fori_loop(0, pti.steps, round_, start)
    return changes, Course(step=jnp.full(len(finite), pti.steps), finite=finite)


def _where(chosen: jax.Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(chosen, x, y), a, b)


def thin(rank: int, whole: Full, gradient: Full) -> Full | LowRank:
    """The zero change as a product of a first factor, whose columns are the strongest directions of a gradient, and
    zeros; a change of few numbers stays whole.
    """
    matrix = as_matrix(gradient.delta)
    rows, columns = matrix.shape
    if gradient.delta.ndim < 2 or rank * (rows + columns) >= rows * columns:
        return whole
    # Subspace iteration from a fixed start: the leading singular vectors, in products that any device computes well.
    right = jax.random.normal(jax.random.key(0), (columns, rank))
    for _ in range(3):
        left, _ = jnp.linalg.qr(jnp.matmul(matrix, right, precision=FULL))
        right, _ = jnp.linalg.qr(jnp.matmul(matrix.T, left, precision=FULL))
    return LowRank(up=left * (FACTOR * rows**0.5), down=jnp.zeros((rank, columns)))
