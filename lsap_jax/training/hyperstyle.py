"""Training HyperStyle's hypernetwork for a generator and an encoder, whose weights stay as they are
(`training.refiner`).

A step takes all passes. Each begins at the changes that those before it have added up, and has its own loss; the
gradients of all passes are added, and none flows from a pass to the one before.

Reference: Alaluf et al., HyperStyle (arXiv 2111.15666), section 3; settings are those of the authors' code.
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
from lsap_jax.models.hyperstyle import HyperStyle
from lsap_jax.networks.hyperstyle import HyperConfig, HyperNetwork, param_shapes
from lsap_jax.networks.irse import BATCH, adaptive_average
from lsap_jax.networks.pixel_maps import lanczos
from lsap_jax.networks.view import viewed
from lsap_jax.refinement.hyperstyle import HyperStyleRefiner, weights_of
from lsap_jax.rendering.render import synthesise
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.decoded import Decoded
from lsap_jax.training.initial import initial_params
from lsap_jax.training.loop import Logs
from lsap_jax.training.on_images import LARGE, compared, on_own_device, side_for
from lsap_jax.training.psp_step import PspTraining, moved_statistics, optimizer

# Networks by name: what differs from the public ones. "small" makes 8 x 8 px of images of 64 px; larger ones it sees
# reduced to these.
SIZES: dict[str, dict[str, Any]] = {
    "public": {},
    "small": {
        "stem": 24, "units": ((24, 1), (32, 2), (48, 2), (48, 1)), "shared_code": 24, "input_resolution": 64,
        "shared_convs": ((32, 1), (32, 2), (32, 2), (32, 2)), "convs": ((24, 2), (24, 2), (12, 2)),
    },
}  # fmt: skip
TERMS = ("mse", "perceptual", "identity", "moco")
NOISE = ("const", "none")


@dataclass(frozen=True, kw_only=True)
class HyperStyleTask:
    """What is learned; compiled in.

    Attributes:
        side: pixels a side at which images are compared.
        weights: (term, weight) of the loss: "mse", and the judges'.
    """

    shape: HyperConfig
    side: int
    weights: tuple[tuple[str, float], ...]
    train: PspTraining = field(default_factory=PspTraining)


class HyperStyleState(struct.PyTreeNode, kw_only=True):
    """Everything a run needs to go on: a pytree, saved whole."""

    params: Any
    optimizer: optax.OptState


def shape_for(G: Generator, options: ConfigDict) -> HyperConfig:
    """Shape of the hypernetwork for G.

    Args:
        options: `network` of a configuration: `size` is "public", "small" or "auto"; `layers` names the convolutions
            whose weights change, () is all; `passes`.

    Raises:
        LsapError: there is no such network, or G has no such layers.
    """
    size = options.size if options.size != "auto" else "public" if G.img_resolution >= LARGE else "small"
    if size not in SIZES:
        raise LsapError(f"network.size={size!r}: choose auto, {', '.join(SIZES)}")
    convolutions = {
        layer.name: (index, layer.width, layer.channels)
        for index, layer in enumerate(G.config.layers)
        if layer.kind == "conv" and not layer.styles_features
    }
    if unknown := [name for name in options.layers if name not in convolutions]:
        known = ", ".join(convolutions) or "none, as styles do not change its weights"
        raise LsapError(f"network.layers={unknown[0]!r}: no such convolution; this generator has {known}")
    slots = tuple(slot for name, slot in convolutions.items() if name in (options.layers or convolutions))
    if not slots or options.passes < 1:
        raise LsapError(
            f"network.layers={list(options.layers)}, passes={options.passes}: a hypernetwork changes {len(slots)} "
            "convolutions of this generator; it needs one or more, and one pass or more"
        )
    own = {"shared": max(G.config.channels), "input_resolution": LARGE, **SIZES[size]}
    own["input_resolution"] = min(own["input_resolution"], G.img_resolution)
    return HyperConfig(slots=slots, in_channels=2 * G.img_channels, passes=options.passes, **own)


def first_params(shape: HyperConfig, seed: int) -> dict[str, Any]:
    """Params before the first step, as torch draws them, but for the last layers of the blocks and of the shared head:
    these are 0, so that a training begins at the images of the codes.
    """
    flat, rng = flatten_dict(initial_params(param_shapes(shape), seed)), np.random.default_rng((seed, 1))
    for path, leaf in flat.items():
        if path[-3:] == ("output", "1", "weight"):
            flat[path] = jnp.zeros_like(leaf)
        elif path[-1] == "w2":
            flat[path] = jnp.asarray(rng.standard_normal(leaf.shape, np.float32) / np.float32(np.sqrt(leaf.shape[0])))
    return unflatten_dict(flat)


def task_for(config: ConfigDict, G: Generator) -> HyperStyleTask:
    """The task of a configuration.

    Raises:
        LsapError: there is no network of its shape, or no such noise.
    """
    if config.train.noise_mode not in NOISE:
        raise LsapError(f"train.noise_mode={config.train.noise_mode!r}: choose {' or '.join(NOISE)}")
    return HyperStyleTask(
        shape=shape_for(G, config.network), side=side_for(config, G), weights=tuple(config.loss.items()),
        train=PspTraining(**config.train),
    )  # fmt: skip


def changed(task: HyperStyleTask, G: Generator) -> tuple[str, ...]:
    """Parameters of the generator that the hypernetwork changes."""
    return HyperStyle(config=task.shape, params={}).parameters(G.config)


def first_state(task: HyperStyleTask, networks: Networks, seed: int, params: Any = None) -> HyperStyleState:
    """State before the first step, of these params, or of drawn ones."""
    params = first_params(task.shape, seed) if params is None else params
    return HyperStyleState(params=params, optimizer=optimizer(task.train).init(params))


def hyperstyle_step(
    task: HyperStyleTask, networks: Networks, state: HyperStyleState, x: jax.Array, number: jax.Array, rng: jax.Array
) -> tuple[HyperStyleState, Logs]:
    """One step of Ranger on images x [B, side, side, C] in [-1, 1], through all passes.

    Args:
        networks: judges, and the generator with its encoder; weights that change are not frozen.

    Returns:
        (state, means of the terms in the last pass over the batch, and "loss", their weighted sum over all passes).
    """
    G, network = networks.generator, HyperStyle(config=task.shape, params={})
    E = G.encoder
    assert E is not None, "checked beforehand"
    ws = jax.lax.stop_gradient(E(viewed(x, E.view), G))
    decoded = Decoded(ws=ws, styles=G.styles(ws), noise_mode=task.train.noise_mode)  # type: ignore[arg-type]
    target, names = lanczos(x, task.shape.input_resolution), network.parameters(G.config)
    seen = {name: jax.lax.stop_gradient(judge.features(x)) for name, judge in networks.judges.items()}

    def predicted(params: Any, shown: jax.Array) -> tuple[Any, Any]:
        beside = jnp.concatenate([target, shown], axis=-1)
        found, batch = HyperNetwork(task.shape).apply({"params": params}, beside, mutable=[BATCH])
        return dict(zip(names, found, strict=True)), batch[BATCH]  # type: ignore[call-overload]

    def judged(changes: Any) -> tuple[jax.Array, Any]:
        whole = on_own_device(synthesise, G, decoded, weights_of(changes))
        image = adaptive_average(whole, task.side)
        terms = {"mse": mse(image, x)}
        for name, judge in networks.judges.items():
            terms[name] = judge.distance(judge.features(image), seen[name])
        means = {name: terms[name].mean() for name, weight in task.weights if weight and name in terms}
        loss = sum((weight * means[name] for name, weight in task.weights if name in means), start=jnp.zeros(()))
        return loss, ({"loss": loss, **means}, network.seen(whole))

    def once(carried: Any, _: None) -> tuple[Any, Logs]:
        params, grads, changes, shown = carried
        change, back, batch = jax.vjp(lambda params: predicted(params, shown), params, has_aux=True)
        changes = jax.tree.map(jnp.add, changes, change)
        (_, (logs, shown)), slope = jax.value_and_grad(judged, has_aux=True)(changes)
        grads = jax.tree.map(jnp.add, grads, back(slope)[0])
        return (moved_statistics(params, batch), grads, changes, shown), logs

    shown = network.seen(synthesise(G, decoded))
    none = jax.tree.map(lambda a: jnp.zeros(a.shape), jax.eval_shape(predicted, state.params, shown)[0])
    start = (state.params, jax.tree.map(jnp.zeros_like, state.params), none, shown)
    (moved, grads, *_), each = jax.lax.scan(once, start, length=task.shape.passes)
    logs = {name: values[-1] for name, values in each.items()} | {"loss": each["loss"].sum()}
    updates, ranger_state = optimizer(task.train).update(grads, state.optimizer, state.params)
    return HyperStyleState(params=optax.apply_updates(moved, updates), optimizer=ranger_state), logs


def part_of(task: HyperStyleTask, state: HyperStyleState) -> HyperStyle:
    """The hypernetwork of a state."""
    return HyperStyle(config=task.shape, params=jax.tree.map(np.asarray, state.params))


def judge(
    task: HyperStyleTask, networks: Networks, trained: HyperStyle, x: jax.Array
) -> tuple[Logs, tuple[jax.Array, jax.Array]]:
    """`on_images.compared` of held-out images [B, side, side, C], by the refiner as it is used, its changes in
    float32.
    """
    G, space = networks.generator, parse_space("w+")
    E = G.encoder
    assert E is not None, "checked beforehand"
    codes = {"w": E(viewed(x, E.view), G)}
    changes = HyperStyleRefiner(network=trained).deltas(G, space, codes, x)
    return compared(task, networks, space.decode(G, codes), weights_of(changes), x)
