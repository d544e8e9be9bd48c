"""Training an encoder for a generator on its own samples: what base-code and latent encoders share.

Pairs are synthetic: z ~ N(0, I) gives ws and an image x. What an encoder makes of x becomes an image again, and its
losses compare the two.
"""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from ml_collections import ConfigDict

from lsap_jax.losses.judges import Networks
from lsap_jax.losses.likeness import Likeness
from lsap_jax.losses.pixel import mse
from lsap_jax.models.embedder import ARCFACE, MOCO
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import load
from lsap_jax.models.perceptual import from_discriminator
from lsap_jax.networks.pixel_maps import lanczos
from lsap_jax.pixels import to_uint8
from lsap_jax.storage.pictures import grid, save_png
from lsap_jax.training.dataset import batch
from lsap_jax.training.loop import Log, Logs, note, resumable
from lsap_jax.training.source import check_source

LIKENESS = {"identity": ARCFACE, "moco": MOCO}  # terms of networks that a file brings -> its kind
VALIDATION = 64  # samples on which an encoder is judged as it will be used, with running statistics
RESUMED_WITH = ("total_images", "snapshot_images", "generator", "name")  # what a resumed run may change


class Losses(Protocol):
    """The objective of an encoder; hashable."""

    def __call__(self, networks: Networks, code: jax.Array, ws: jax.Array, x: jax.Array) -> tuple[Logs, jax.Array]:
        """({"loss": the weighted total, and its unweighted terms}, images y made of the codes) for codes of images x.

        The first images are samples of ws, any others have none.
        """


@dataclass(frozen=True, kw_only=True)
class EncoderTraining:
    """Schedule of Adam: the rate is multiplied by `decay_factor` after every `decay_images` images; 0 is never."""

    batch_size: int = 16
    lr: float = 1e-3
    decay_images: int = 0
    decay_factor: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned from which samples; compiled in.

    Attributes:
        network: module with a `config.input_resolution`, called with (images, train).
        truncation_psi, truncation_cutoff: of the samples.
    """

    network: nn.Module
    losses: Losses
    train: EncoderTraining
    truncation_psi: float = 1.0
    truncation_cutoff: int | None = None


@struct.dataclass(kw_only=True)
class EncoderState:
    """Everything a run needs to go on: a pytree, saved whole."""

    variables: Any
    optimizer: optax.OptState


def optimizer(train: EncoderTraining) -> optax.GradientTransformation:
    """Adam with the rate of a schedule."""
    if not train.decay_images:
        return optax.adam(train.lr)
    every = max(train.decay_images // train.batch_size, 1)
    return optax.adam(optax.exponential_decay(train.lr, every, train.decay_factor, staircase=True))


def task_from_config(config: ConfigDict, network: nn.Module, losses: Losses) -> Task:
    """The task of a configuration's `train` and `truncation`; cutoff -1 is all rows."""
    psi, cutoff = config.truncation.psi, config.truncation.cutoff
    train = EncoderTraining(**config.train)
    cutoff = None if cutoff < 0 else cutoff
    return Task(network=network, losses=losses, train=train, truncation_psi=psi, truncation_cutoff=cutoff)


def weight_of(config: ConfigDict, term: str) -> float:
    """The weight of a term of the loss, or of the same term after a cycle (StyleRes), the larger one."""
    return max(float(config.loss.get(name, 0)) for name in (term, f"cycle_{term}"))


def networks_of(G: Generator, config: ConfigDict, log: Log) -> Networks:
    """G with what an encoder is judged by: LPIPS where `config.perceptual.weights` names a converted file, else the
    discriminator's features, else nothing.
    """
    if not weight_of(config, "perceptual"):
        return Networks(generator=G)
    if config.perceptual.weights:
        lpips = replace(load(config.perceptual.weights, "lpips"), resolution=config.perceptual.resolution)
        return Networks(generator=G, judges={"perceptual": lpips})
    if G.discriminator is not None:
        return Networks(generator=G, judges={"perceptual": from_discriminator(G)})
    log("warning: no perceptual term, as there is neither perceptual.weights nor a discriminator; MSE alone")
    return Networks(generator=G)


def judged(G: Generator, config: ConfigDict, log: Log) -> Networks:
    """`networks_of`, and the judges of likeness of the terms whose weight is not 0; one without weights is left out."""
    networks = networks_of(G, config, log)
    judges = dict(networks.judges)
    for term, kind in LIKENESS.items():
        weight = weight_of(config, term)
        if weight and not config[term].weights:
            log(f"warning: no {term} term, as {term}.weights names no file")
        elif weight:
            judges[term] = Likeness(embedder=load(config[term].weights, kind))
    return networks.replace(judges=judges)


def sample_pairs(
    G: Generator, rng: jax.Array, count: int, psi: float = 1.0, cutoff: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """(ws [B, num_ws, w_dim], images x [B, R, R, C], unclipped) of random z, with random labels where G has labels."""
    z_rng, c_rng = jax.random.split(rng)
    c = jax.nn.one_hot(jax.random.randint(c_rng, (count,), 0, G.c_dim), G.c_dim) if G.c_dim else None
    z = jax.random.normal(z_rng, (count, G.z_dim))
    ws = G.mapping(z, c, truncation_psi=psi, truncation_cutoff=cutoff)
    return ws, G.synthesis(ws)


def image_terms(networks: Networks, y: jax.Array, x: jax.Array) -> Logs:
    """Mean MSE of images y from x, and mean distance by each judge under its name.

    MSE is against x as it is, judges see x clipped to [-1, 1], as a PNG would hold it.
    """
    found = {"mse": mse(y, x).mean()}
    for name, judge in networks.judges.items():
        target = jax.lax.stop_gradient(judge.features(jnp.clip(x, -1, 1)))
        found[name] = judge.distance(judge.features(y), target).mean()
    return found


def seen_by(task: Task, x: jax.Array) -> jax.Array:
    """Images as the encoder takes them: what a PNG would hold, at its resolution."""
    return lanczos(jnp.clip(x, -1, 1), task.network.config.input_resolution)  # type: ignore[attr-defined]


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def encoder_step(
    task: Task,
    networks: Networks,
    state: EncoderState,
    rng: jax.Array,
    real: jax.Array | np.ndarray | None = None,
) -> tuple[EncoderState, Logs]:
    """One step of Adam on a fresh batch of samples, and on real uint8 images [B, R, R, C] beside them.

    Batch normalisation is by the batch, G stays as it is.
    """
    pairs = sample_pairs(networks.generator, rng, task.train.batch_size, task.truncation_psi, task.truncation_cutoff)
    ws, x = jax.lax.stop_gradient(pairs)
    if real is not None:
        x = jnp.concatenate([x, real.astype(jnp.float32) / 127.5 - 1])
    seen = seen_by(task, x)

    def loss(params: Any) -> tuple[jax.Array, Any]:
        variables = {**state.variables, "params": params}
        code, moved = task.network.apply(variables, seen, train=True, mutable=["batch_stats"])
        logs, _ = task.losses(networks, code, ws, x)
        return logs["loss"], (moved, logs)

    grads, (moved, logs) = jax.grad(loss, has_aux=True)(state.variables["params"])
    updates, adam = optimizer(task.train).update(grads, state.optimizer, state.variables["params"])
    params = optax.apply_updates(state.variables["params"], updates)
    return EncoderState(variables={"params": params, **moved}, optimizer=adam), logs


def train_encoder(
    task: Task,
    variables: Any,
    config: ConfigDict,
    networks: Networks,
    out: Path,
    log: Log,
    images: np.ndarray | None = None,
) -> tuple[Any, int]:
    """Train until `config.total_images` samples were seen, or go on from the newest checkpoint in `out`.

    Args:
        variables: of the network, before the first step.
        config: with name, seed, total_images, snapshot_images.
        out: gets `checkpoints/`, `samples/` and `log.jsonl`.
        images: uint8 [N, R, R, C], of which a batch joins every batch of samples.

    Returns:
        (the trained variables, samples seen).
    """
    size = task.train.batch_size
    data_rng, judge_rng = (jax.random.fold_in(jax.random.key(config.seed), i) for i in (0, 2))
    check_source(out, config, networks.generator.sha256, free=RESUMED_WITH)
    # Placed as a restored state is: a resumed run is the same program.
    fresh = EncoderState(variables=variables, optimizer=optimizer(task.train).init(variables["params"]))
    state = jax.device_put(fresh, jax.local_devices()[0])

    def advance(state: EncoderState, step: int) -> tuple[EncoderState, Logs]:
        real = None if images is None else batch(images, step, size, config.seed, mirror=False)
        return encoder_step(task, networks, state, jax.random.fold_in(data_rng, step), real)

    def show(state: EncoderState, seen: int, means: dict[str, float]) -> None:
        snapshot(task, networks, state, judge_rng, seen, means, out, log)

    state, seen = resumable(out, state, advance, show, (config.total_images, config.snapshot_images, size), log)
    return state.variables, seen


@partial(jax.jit, static_argnums=0)
def judge(task: Task, networks: Networks, variables: Any, rng: jax.Array) -> tuple[Logs, jax.Array, jax.Array]:
    """(losses, x, reconstructions) of `VALIDATION` samples of one key, with running statistics."""
    ws, x = sample_pairs(networks.generator, rng, VALIDATION, task.truncation_psi, task.truncation_cutoff)
    logs, y = task.losses(networks, task.network.apply(variables, seen_by(task, x)), ws, x)  # type: ignore[arg-type]
    return logs, x, y


def snapshot(
    task: Task, networks: Networks, state: EncoderState, rng: jax.Array, seen: int,
    means: dict[str, float], out: Path, log: Log,
) -> None:  # fmt: skip
    """A line in log.jsonl, a line of progress, a grid with rows of samples above their reconstructions."""
    judged, x, y = judge(task, networks, state.variables, rng)
    line = {"images": seen, **means, **{f"{k}_unseen": float(v) for k, v in judged.items()}}
    rows = [to_uint8(np.asarray(a[i : i + 8])) for i in (0, 8) for a in (x, y)]
    save_png(out / "samples" / f"{seen:08d}.png", grid(np.concatenate(rows), columns=8))
    note(out, line, log)


def made_of(config: ConfigDict, seen: int, G: Generator) -> dict[str, Any]:
    """How an encoder for G came about, for its provenance; G is without it."""
    return {"name": config.name, "images_seen": seen, "config": config.to_dict(), "generator_sha256": G.sha256}


def save_joined(joined: Generator, part: str, config: ConfigDict, seen: int, out: Path) -> tuple[Path, dict[str, Any]]:
    """Write `generator.safetensors`, G with its new encoder; returns its path and how the encoder came about.

    Args:
        part: "basecode", "encoder" or "psp", its place in the provenance.
    """
    made = made_of(config, seen, joined.without(part))
    provenance = {**joined.provenance, part: made}
    path = out / "generator.safetensors"
    joined.replace(provenance_json=json.dumps(provenance, sort_keys=True)).save(path)
    return path, made
