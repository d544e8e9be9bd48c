"""Training SAM's invertibility network for a generator and an encoder, whose weights stay as they are.

Images are fitted first, by the codes alone and by the offset of each layer alone, and where each of these fails is what
the network learns to predict: maps of the perceptual distance. Fits are kept in `maps/`, so that a training that goes
on does not repeat them.

Reference: Parmar et al., Spatially-Adaptive Multilayer Selection for GAN Inversion and Editing (arXiv 2206.08357),
section 3.1 and the authors' code.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Networks
from lsap_jax.models.generator import Generator
from lsap_jax.models.invertibility import InvertibilityNetwork
from lsap_jax.networks.image_by_image import images_at_once, in_groups
from lsap_jax.networks.invertibility import Invertibility, InvertibilityConfig, param_shapes
from lsap_jax.networks.irse import BATCH
from lsap_jax.networks.view import viewed
from lsap_jax.pixels import to_float, to_uint8
from lsap_jax.refinement.sam import Sam, single_latent_maps
from lsap_jax.refinement.sam_options import layers_for, resolutions_of
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.statistics import with_statistics
from lsap_jax.storage import atomic
from lsap_jax.training.initial import initial_params
from lsap_jax.training.loop import Log, Logs
from lsap_jax.training.on_images import check_judge, samples
from lsap_jax.training.psp_step import STATISTICS, moved_statistics

TERMS = ("mse", "perceptual", "mvg", "delta", "offset")  # of the fits
LARGE = 256  # px a side, from which on generators get the public network
# Networks by name: what differs from the public one. That of "small" reads images of 64 px.
SIZES: dict[str, dict[str, Any]] = {
    "public": {},
    "small": {
        "kernel": 3, "pooled": False, "stem": 16, "stages": ((8, 2, 1, (1,)), (16, 2, 2, (1,)), (24, 2, 1, (2, 4))),
        "rates": (1, 2, 4), "pyramid": 48, "low": 16, "decoder": 48,
    },
}  # fmt: skip
OPTIMIZERS = ("sgd", "adam")
SHOWN = 0.6  # distance of independent images, which is white in pictures of maps


@dataclass(frozen=True, kw_only=True)
class SamTraining:
    """Hyper-parameters of a step.

    Attributes:
        optimizer: "sgd", with momentum and decay of weights, or "adam".
        lr: of the ResNet, falling to 0 with the power 0.9; with SGD all else has ten times as much, with Adam the same.
        momentum, decay: of SGD.
        blur: chance that an image is blurred, by a Gaussian of up to one pixel.
        mirror: whether images and their maps are turned left to right with probability ½.
        precision: of convolutions on accelerators, a key of `arithmetic.PRECISIONS`.
    """

    batch_size: int = 16
    optimizer: str = "sgd"
    lr: float = 1e-4
    momentum: float = 0.9
    decay: float = 5e-4
    blur: float = 0.5
    mirror: bool = True
    precision: str = "default"


@dataclass(frozen=True, kw_only=True)
class SamTask:
    """What is learned; compiled in.

    Attributes:
        side: pixels a side of images and maps.
        steps: of the training, over which the rate falls.
        weights: (term, weight) of the loss of the fits, which take `map_steps` each.
    """

    shape: InvertibilityConfig
    side: int
    steps: int
    map_steps: int
    weights: tuple[tuple[str, float], ...]
    train: SamTraining = field(default_factory=SamTraining)


class SamState(struct.PyTreeNode, kw_only=True):
    """Everything a run needs to go on: a pytree, saved whole."""

    params: Any
    optimizer: optax.OptState


def task_for(config: ConfigDict, G: Generator) -> SamTask:
    """The task of a configuration.

    Raises:
        LsapError: there are no networks of its size, no such blocks, or a number is too small.
    """
    size = config.network.size
    size = size if size != "auto" else "public" if G.img_resolution >= LARGE else "small"
    if size not in SIZES:
        raise LsapError(f"network.size={size!r}: choose auto, {', '.join(SIZES)}")
    if config.map_steps < 1 or config.images < config.train.batch_size:
        raise LsapError(
            f"map_steps={config.map_steps}, images={config.images}: at least 1 step, and images for a batch of "
            f"{config.train.batch_size}"
        )
    if config.train.optimizer not in OPTIMIZERS:
        raise LsapError(f"train.optimizer={config.train.optimizer!r}: choose {' or '.join(OPTIMIZERS)}")
    if not config.loss.perceptual:
        raise LsapError("loss.perceptual=0: SAM's network predicts perceptual distances; give it a weight")
    side = min(LARGE, G.img_resolution)
    check_judge(config, G, side)
    if config.perceptual.weights and min(config.perceptual.resolution, G.img_resolution) > side:
        raise LsapError(
            f"perceptual.resolution={config.perceptual.resolution}: maps are of {side} px; set it to {side}"
        )
    shape = InvertibilityConfig(
        in_channels=G.img_channels, resolutions=resolutions_of(G, config.network.layers or layers_for(G, "original")),
        input_resolution=side, **SIZES[size],
    )  # fmt: skip
    train = SamTraining(**config.train)
    return SamTask(
        shape=shape, side=side, steps=max(config.total_images // train.batch_size, 1), map_steps=config.map_steps,
        weights=tuple(config.loss.items()), train=train,
    )  # fmt: skip


def prepared(
    task: SamTask, networks: Networks, images: np.ndarray | None, heldout: np.ndarray, config: ConfigDict, out: Path,
    log: Log,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """(the images of the training, uint8; their maps; those of the held-out images), maps [N, side, side, latents].

    Args:
        images: of which the first `config.images` are used; None is as many samples of the generator.
        heldout: [N, side, side, C] in [-1, 1].

    Raises:
        LsapError: there is no perceptual distance.
    """
    if "perceptual" not in networks.judges:
        raise LsapError(
            "SAM's network learns perceptual distances, and there is neither LPIPS nor a discriminator; name converted "
            "weights with --config.perceptual.weights"
        )
    if images is None:
        rng = jax.random.fold_in(jax.random.key(config.seed), 3)
        drawn = jax.jit(partial(samples, task, count=config.images))(networks, rng)
        images = to_uint8(np.asarray(drawn))
    images = images[: config.images]
    weights: dict[str, Any] = dict(task.weights)
    statistics = with_statistics(networks.generator).statistics if weights.get("mvg") else None
    sam = Sam(
        network=None, judge=networks.judges["perceptual"], statistics=statistics, resolutions=task.shape.resolutions,
        map_steps=task.map_steps, resolution=task.side, precision=task.train.precision, **weights,
    )  # fmt: skip
    fits = partial(_maps, networks.generator, sam)
    return (
        images,
        _kept(fits, to_float(images), out / "maps" / "train", log),
        _kept(fits, heldout, out / "maps" / "heldout", log),
    )


@jax.jit
def _maps(G: Generator, sam: Sam, x: jax.Array, live: jax.Array) -> jax.Array:
    """Maps of images [B, side, side, C] where `live` [B] holds."""
    space, E = parse_space("w+"), G.encoder
    assert E is not None, "checked beforehand"

    def some(x: jax.Array) -> jax.Array:
        return single_latent_maps(sam, G, space, {"w": E(viewed(x, E.view), G)}, x)

    return in_groups(images_at_once(jax.local_devices()), live, some, x)  # type: ignore[no-any-return]


def _kept(fits: Any, images: np.ndarray, folder: Path, log: Log, size: int = 25) -> np.ndarray:
    """Maps of all images, of which a file in the folder holds those of each few that are finished."""
    found = []
    for start in range(0, len(images), size):
        path, some = folder / f"{start:06d}.npy", images[start : start + size]
        if not path.is_file():
            padded = np.concatenate([some, np.repeat(some[-1:], size - len(some), axis=0)])
            maps = np.asarray(fits(jnp.asarray(padded), jnp.arange(size) < len(some)))[: len(some)]
            held = BytesIO()
            np.save(held, maps)
            atomic.write_files({path: held.getvalue()})
            log(f"fitted {min(start + size, len(images))} of {len(images)} images ({folder.name})")
        found.append(np.load(path, allow_pickle=False))
    return np.concatenate(found)


def optimizer(task: SamTask) -> optax.GradientTransformation:
    """SGD, by which the ResNet has a tenth of the rate of all else, or Adam."""
    train = task.train

    def kinds(params: Any) -> Any:
        def kind(path: Any, _: Any) -> str:
            return "statistics" if path[-1].key in STATISTICS else "backbone" if path[0].key == "backbone" else "rest"

        return jax.tree_util.tree_map_with_path(kind, params)

    def by(rate: float) -> optax.GradientTransformation:
        schedule = optax.polynomial_schedule(rate, 0.0, 0.9, task.steps)
        if train.optimizer == "adam":
            return optax.adam(schedule)
        return optax.chain(optax.add_decayed_weights(train.decay), optax.sgd(schedule, train.momentum))

    rest = train.lr * (1 if train.optimizer == "adam" else 10)
    rates = {"backbone": by(train.lr), "rest": by(rest), "statistics": optax.set_to_zero()}
    return optax.multi_transform(rates, kinds)


def first_state(task: SamTask, networks: Networks, seed: int, maps: np.ndarray, params: Any = None) -> SamState:
    """State before the first step, of these params, or of those that `first_params` draws."""
    params = first_params(task.shape, seed, maps) if params is None else params
    return SamState(params=params, optimizer=optimizer(task).init(params))


def first_params(shape: InvertibilityConfig, seed: int, maps: np.ndarray) -> dict[str, Any]:
    """Params as torch draws them, but for the last layer of each head: a head that is below 0 everywhere has no
    gradient, so each begins at the mean of its maps [N, side, side, latents], everywhere.
    """
    params = initial_params(param_shapes(shape), seed)
    for name, level in zip(shape.latents, maps.mean((0, 1, 2)), strict=True):
        last = params["heads"][name]["m"]["3"]
        params["heads"][name]["m"]["3"] = {
            "weight": jnp.zeros_like(last["weight"]), "bias": jnp.full_like(last["bias"], level)
        }  # fmt: skip
    return params


def sam_step(
    task: SamTask, networks: Networks, state: SamState, batch: tuple[jax.Array, jax.Array], number: jax.Array,
    rng: jax.Array,
) -> tuple[SamState, Logs]:  # fmt: skip
    """One step on (images [B, side, side, C] in [-1, 1], their maps [B, side, side, latents]): the mean squared
    error of the maps.
    """
    x, maps = batch
    blur_rng, drop_rng = jax.random.split(rng)
    x = blurred(x, blur_rng, task.train.blur)

    def loss(params: Any) -> tuple[jax.Array, Any]:
        found, moved = Invertibility(task.shape).apply(
            {"params": params}, x, rngs={"dropout": drop_rng}, mutable=[BATCH]
        )
        return jnp.mean(jnp.square(found - maps)), moved[BATCH]

    (value, batch_statistics), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    params = moved_statistics(state.params, batch_statistics)
    updates, opt_state = optimizer(task).update(grads, state.optimizer, state.params)
    return SamState(params=optax.apply_updates(params, updates), optimizer=opt_state), {"loss": value}


def blurred(x: jax.Array, rng: jax.Array, chance: float) -> jax.Array:
    """Images, each with this chance blurred by a Gaussian whose standard deviation is drawn from 0 to 1 pixel."""
    sigma_rng, which_rng = jax.random.split(rng)
    sigma = jax.random.uniform(sigma_rng, (len(x), 1), minval=1e-3)
    taps = jnp.exp(-0.5 * jnp.square(jnp.arange(-3.0, 4.0)[None] / sigma))
    taps = taps / taps.sum(1, keepdims=True)
    found = x
    for axis in (1, 2):
        wide = jnp.pad(found, [(3, 3) if a == axis else (0, 0) for a in range(4)], mode="edge")
        parts = (jax.lax.slice_in_dim(wide, k, k + x.shape[axis], axis=axis) for k in range(7))
        found = sum((taps[:, k, None, None, None] * part for k, part in enumerate(parts)), start=jnp.zeros(()))
    chosen = jax.random.bernoulli(which_rng, chance, (len(x), 1, 1, 1))
    return jnp.where(chosen, found, x)


def part_of(task: SamTask, state: SamState) -> InvertibilityNetwork:
    """The network of a state."""
    return InvertibilityNetwork(config=task.shape, params=jax.tree.map(np.asarray, state.params))


def judge(
    task: SamTask, networks: Networks, trained: InvertibilityNetwork, x: jax.Array, maps: jax.Array
) -> tuple[Logs, tuple[jax.Array, ...]]:
    """(errors [B] of predicted maps, over all and by latent, and by how much measured ones differ from their mean;
    pictures of the codes' map and of the last layer's, each predicted and measured) of held-out images.
    """
    found = trained.maps(x)
    found_metrics = {"maps_mse": jnp.mean(jnp.square(found - maps), (1, 2, 3))}
    centre = jnp.mean(maps, (0, 1, 2), keepdims=True)
    found_metrics["spread"] = jnp.mean(jnp.square(maps - centre), (1, 2, 3))
    for k, name in enumerate(task.shape.latents):
        found_metrics[f"maps_mse_{name}"] = jnp.mean(jnp.square(found[..., k] - maps[..., k]), (1, 2))
    return found_metrics, tuple(_pictures(found, maps, x.shape[-1]))


def _pictures(found: jax.Array, maps: jax.Array, channels: int) -> Iterator[jax.Array]:
    for k in (0, -1):
        for one in (found, maps):
            grey = jnp.clip(2 * one[..., k, None] / SHOWN - 1, -1, 1)
            yield jnp.broadcast_to(grey, (*grey.shape[:3], channels))
