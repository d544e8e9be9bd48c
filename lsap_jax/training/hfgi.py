"""Training HFGI's networks for a generator and an encoder, whose weights stay as they are (`training.refiner`).

The aligner is shown the details that the encoder's codes lost, in a changed perspective, and has to put them back; the
consultation encoder makes a scale and a shift of what it puts back, and the image is compared with its target. As in
the authors' code, and unlike the paper, nothing is adversarial.

Reference: Wang et al., High-Fidelity GAN Inversion for Image Attribute Editing (arXiv 2109.06590), section 3.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Networks
from lsap_jax.losses.pixel import mse
from lsap_jax.models.generator import Generator
from lsap_jax.models.hfgi import Hfgi
from lsap_jax.networks import hfgi
from lsap_jax.networks.hfgi import HfgiConfig
from lsap_jax.networks.irse import BATCH, adaptive_average
from lsap_jax.networks.pixel_maps import lanczos
from lsap_jax.networks.view import viewed
from lsap_jax.refinement.hfgi import HfgiRefiner
from lsap_jax.rendering.transforms import ScaleShift
from lsap_jax.spaces import parse_space
from lsap_jax.training.initial import initial_params
from lsap_jax.training.loop import Logs
from lsap_jax.training.on_images import LARGE, compared, side_for
from lsap_jax.training.perspective import random_perspective
from lsap_jax.training.psp_step import PspTraining, moved_statistics, optimizer

# Networks by name: what differs from the public ones. Those of "small" take images of 64 px to features of 16 px.
SIZES: dict[str, dict[str, Any]] = {
    "public": {},
    "small": {
        "stem": 24, "stages": ((32, 2, 2), (48, 2, 2)), "head_width": 64, "aligner_stem": 16,
        "aligner_stages": ((24, 2, 2), (32, 2, 2), (48, 2, 2)), "rises": ((32, 32), (24, 16), (16, 3)),
    },
}  # fmt: skip
TERMS = ("mse", "perceptual", "identity", "moco", "residual")


@dataclass(frozen=True, kw_only=True)
class HfgiTask:
    """What is learned; compiled in.

    Attributes:
        side: pixels a side at which images are compared.
        weights: (term, weight) of the loss: "mse", "residual", and the judges'.
        perspective: (largest move of a corner, as a share of half a side; chance) of the details that are shown.
    """

    shape: HfgiConfig
    side: int
    weights: tuple[tuple[str, float], ...]
    train: PspTraining = field(default_factory=PspTraining)
    perspective: tuple[float, float] = (0.15, 0.9)


class HfgiState(struct.PyTreeNode, kw_only=True):
    """Everything a run needs to go on: a pytree, saved whole."""

    params: Any
    optimizer: optax.OptState


def shape_for(G: Generator, options: ConfigDict) -> HfgiConfig:
    """Shape of the networks for G.

    Args:
        options: `network` of a configuration: `size` is "public", "small" or "auto", `resolution` that of the block, 0
            for 64 px, or for 16 px where images are smaller than 256 px.

    Raises:
        LsapError: there are no such networks, or G has no such block.
    """
    size = options.size if options.size != "auto" else "public" if G.img_resolution >= LARGE else "small"
    if size not in SIZES:
        raise LsapError(f"network.size={size!r}: choose auto, {', '.join(SIZES)}")
    own = {"rises": HfgiConfig().rises, **SIZES[size]}
    rises = (*own["rises"][:-1], (*own["rises"][-1][:-1], G.img_channels))
    resolution = options.resolution or (64 if G.img_resolution >= LARGE else min(16, G.img_resolution))
    shape = HfgiConfig(
        resolution=resolution, in_channels=G.img_channels, input_resolution=min(LARGE, G.img_resolution),
        **{**own, "rises": rises},
    )  # fmt: skip
    layer = Hfgi(config=shape, params={}).layer(G.config)
    return HfgiConfig(**{**vars(shape), "channels": layer.channels})


def first_params(shape: HfgiConfig, seed: int) -> dict[str, Any]:
    """Params before the first step, as torch draws them, but for the last layers of the heads: these are 0, so that a
    training begins at the images of the codes.
    """
    flat, rng = flatten_dict(initial_params(hfgi.param_shapes(shape), seed)), np.random.default_rng((seed, 1))
    for path, leaf in flat.items():
        if path[1].startswith("condition_") and path[-1] == "weight":
            drawn = rng.standard_normal(leaf.shape, np.float32)
            flat[path] = jnp.asarray(drawn if path[2] == "0" else np.zeros_like(drawn))
    return unflatten_dict(flat)


def task_for(config: ConfigDict, G: Generator) -> HfgiTask:
    """The task of a configuration; LsapError if there are no networks of its shape."""
    return HfgiTask(
        shape=shape_for(G, config.network), side=side_for(config, G), weights=tuple(config.loss.items()),
        train=PspTraining(**config.train),
        perspective=(config.perspective.scale, config.perspective.chance),
    )  # fmt: skip


def first_state(task: HfgiTask, networks: Networks, seed: int, params: Any = None) -> HfgiState:
    """State before the first step, of these params, or of drawn ones."""
    params = first_params(task.shape, seed) if params is None else params
    return HfgiState(params=params, optimizer=optimizer(task.train).init(params))


def hfgi_step(
    task: HfgiTask, networks: Networks, state: HfgiState, x: jax.Array, number: jax.Array, rng: jax.Array
) -> tuple[HfgiState, Logs]:
    """One step of Ranger on images x [B, side, side, C] in [-1, 1].

    Args:
        networks: judges, and the generator with its encoder.

    Returns:
        (state, means of the terms over the batch, and "loss", their weighted sum).
    """
    G, shape = networks.generator, task.shape
    E = G.encoder
    assert E is not None, "checked beforehand"
    held, noise_mode = Hfgi(config=shape, params={}), task.train.noise_mode
    layer = held.layer(G.config).name
    noise_rng, perspective_rng = jax.random.split(rng)
    ws = jax.lax.stop_gradient(E(viewed(x, E.view), G))
    guide = jax.lax.stop_gradient(held.seen(G.synthesis(ws, noise_mode, noise_rng)))  # type: ignore[arg-type]
    details = lanczos(x, shape.input_resolution) - guide
    scale, chance = task.perspective
    moved = random_perspective(details, perspective_rng, scale=scale, chance=chance)
    seen = {name: jax.lax.stop_gradient(judge.features(x)) for name, judge in networks.judges.items()}

    def loss(params: Any) -> tuple[jax.Array, Any]:
        beside = jnp.concatenate([moved, guide], axis=-1)
        aligned, align = hfgi.Aligner(shape).apply({"params": params["grid_align"]}, beside, mutable=[BATCH])
        conditions, residue = hfgi.Consultation(shape).apply({"params": params["residue"]}, aligned, mutable=[BATCH])
        change = ScaleShift(scale=1 + conditions[0], shift=conditions[1])
        image = adaptive_average(
            G.synthesis(ws, noise_mode, noise_rng, transforms={layer: change}),  # type: ignore[arg-type]
            task.side,
        )
        terms = {"mse": mse(image, x), "residual": jnp.abs(aligned - details).mean((1, 2, 3))}
        for name, judge in networks.judges.items():
            terms[name] = judge.distance(judge.features(image), seen[name])
        means = {name: terms[name].mean() for name, weight in task.weights if weight and name in terms}
        total = sum((weight * means[name] for name, weight in task.weights if name in means), start=jnp.zeros(()))
        return total, ({"loss": total, **means}, {"grid_align": align[BATCH], "residue": residue[BATCH]})

    grads, (logs, batch) = jax.grad(loss, has_aux=True)(state.params)
    updates, ranger_state = optimizer(task.train).update(grads, state.optimizer, state.params)
    params = optax.apply_updates(moved_statistics(state.params, batch), updates)
    return HfgiState(params=params, optimizer=ranger_state), logs


def part_of(task: HfgiTask, state: HfgiState) -> Hfgi:
    """The networks of a state."""
    return Hfgi(config=task.shape, params=jax.tree.map(np.asarray, state.params))


def judge(task: HfgiTask, networks: Networks, trained: Hfgi, x: jax.Array) -> tuple[Logs, tuple[jax.Array, jax.Array]]:
    """`on_images.compared` of held-out images [B, side, side, C], by the refiner as it is used."""
    networks = networks.replace(generator=networks.generator.with_part(Hfgi.kind, trained))
    G, space = networks.generator, parse_space("w+")
    E = G.encoder
    assert E is not None, "checked beforehand"
    codes = {"w": E(viewed(x, E.view), G)}
    _, refinement = HfgiRefiner()(G, space, codes, lanczos(x, task.shape.input_resolution), jax.random.key(0), None)
    return compared(task, networks, space.decode(G, codes), refinement, x)
