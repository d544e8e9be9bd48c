"""Training a base-code encoder E for any generator on its own samples, the paper's way (`lsap-jax train-basecode`).

Pairs are synthetic: z ~ N(0, I) gives ws and an image x; f = E(x) must let the generator reproduce x from f and the
true ws (arXiv 2307.08995 §3.2, with the loss and schedule of BDInvert's code). The synthesis that starts at f lacks the
RGB of the coarser blocks, so the f that is learned is not the generator's own feature: it makes up for that RGB.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import struct
from ml_collections import ConfigDict

from lsap_jax.basecode_file import attach_basecode, save_basecode
from lsap_jax.data import to_uint8
from lsap_jax.errors import LsapError
from lsap_jax.generator import BasecodeEncoder, Generator
from lsap_jax.inversion.pictures import grid, save_png
from lsap_jax.losses.lpips_file import load_lpips
from lsap_jax.losses.perceptual import Perceptual, from_discriminator
from lsap_jax.losses.pixel import mse
from lsap_jax.networks.basecode import BasecodeConfig, BasecodeNetwork, initial_variables, resize_input
from lsap_jax.spaces.feature import check_resolution
from lsap_jax.training.source import check_source

Log = Callable[[str], None]
VALIDATION = 64  # samples on which E is judged as it will be used, with running statistics


@dataclass(frozen=True, kw_only=True)
class EncoderLoss:
    """Weights of the terms and the truncation of the samples; the defaults are the paper's, but for the truncation."""

    mse: float = 1.0
    perceptual: float = 10.0
    feature: float = 0.0
    truncation_psi: float = 1.0
    truncation_cutoff: int | None = None


@dataclass(frozen=True, kw_only=True)
class EncoderTraining:
    """Schedule of Adam: the rate is multiplied by `decay_factor` after every `decay_images` images; 0 is never."""

    batch_size: int = 16
    lr: float = 1e-3
    decay_images: int = 0
    decay_factor: float = 0.1


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


def sample_pairs(G: Generator, terms: EncoderLoss, rng: jax.Array, batch: int) -> tuple[jax.Array, jax.Array]:
    """(ws [B, num_ws, w_dim], images x [B, R, R, C], unclipped) of random z, with random labels where G has labels."""
    z_rng, c_rng = jax.random.split(rng)
    c = jax.nn.one_hot(jax.random.randint(c_rng, (batch,), 0, G.c_dim), G.c_dim) if G.c_dim else None
    z = jax.random.normal(z_rng, (batch, G.z_dim))
    ws = G.mapping(z, c, truncation_psi=terms.truncation_psi, truncation_cutoff=terms.truncation_cutoff)
    return ws, G.synthesis(ws)


def own_code(G: Generator, ws: jax.Array, resolution: int) -> jax.Array:
    """The generator's own activation [B, s, s, C] of the layer that f replaces."""
    return G.features(ws)[1][f"b{resolution}.conv0" if resolution > 4 else "b4.conv1"]


def encoder_losses(
    G: Generator, perceptual: Perceptual | None, terms: EncoderLoss, f: jax.Array, ws: jax.Array, x: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean loss of base codes f [B, s, s, C] for samples x of ws, and its unweighted terms.

    MSE is against x as it is, the perceptual distance against x clipped to [-1, 1], as a PNG would hold it.
    """
    y = G.synthesis(ws, f=f)
    logs = {"mse": mse(y, x).mean()}
    loss = terms.mse * logs["mse"]
    if perceptual is not None and terms.perceptual:
        target = jax.lax.stop_gradient(perceptual.features(jnp.clip(x, -1, 1)))
        logs["perceptual"] = perceptual.distance(perceptual.features(y), target).mean()
        loss = loss + terms.perceptual * logs["perceptual"]
    if terms.feature:
        logs["feature"] = jnp.square(f - own_code(G, ws, f.shape[1])).mean()
        loss = loss + terms.feature * logs["feature"]
    return loss, {"loss": loss, **logs}


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=5)
def encoder_step(
    shape: BasecodeConfig,
    terms: EncoderLoss,
    train: EncoderTraining,
    G: Generator,
    perceptual: Perceptual | None,
    state: EncoderState,
    rng: jax.Array,
) -> tuple[EncoderState, dict[str, jax.Array]]:
    """One step of Adam on a fresh batch of samples; batch normalisation is by the batch, G stays as it is."""
    ws, x = jax.lax.stop_gradient(sample_pairs(G, terms, rng, train.batch_size))
    seen = resize_input(jnp.clip(x, -1, 1), shape)

    def loss(params: Any) -> tuple[jax.Array, Any]:
        variables = {**state.variables, "params": params}
        f, moved = BasecodeNetwork(shape).apply(variables, seen, train=True, mutable=["batch_stats"])
        value, logs = encoder_losses(G, perceptual, terms, f, ws, x)
        return value, (moved, logs)

    grads, (moved, logs) = jax.grad(loss, has_aux=True)(state.variables["params"])
    updates, adam = optimizer(train).update(grads, state.optimizer, state.variables["params"])
    params = optax.apply_updates(state.variables["params"], updates)
    return EncoderState(variables={"params": params, **moved}, optimizer=adam), logs


def perceptual_of(G: Generator, config: ConfigDict, log: Log) -> Perceptual | None:
    """LPIPS where `config.perceptual.weights` names a converted file, else the discriminator's features, else None."""
    if not config.loss.perceptual:
        return None
    if config.perceptual.weights:
        return load_lpips(config.perceptual.weights, config.perceptual.resolution)
    if G.discriminator is not None:
        return from_discriminator(G)
    log("warning: no perceptual term, as there is neither perceptual.weights nor a discriminator; MSE alone")
    return None


def encoder_config(G: Generator, config: ConfigDict) -> BasecodeConfig:
    """Shape of the encoder for G; LsapError where no base code can enter there."""
    resolution = check_resolution(G, config.base_resolution)
    channels = G.config.channels[G.config.resolutions.index(resolution)]
    if len(config.widths) != 3:
        raise LsapError(f"widths={tuple(config.widths)}: a base-code encoder has three stages; give three widths")
    return BasecodeConfig(
        base_resolution=resolution, out_channels=channels, widths=tuple(config.widths), in_channels=G.img_channels
    )


def train_basecode(config: ConfigDict, generator: Generator, out: str | Path, log: Log = print) -> Path:
    """Train until `config.total_images` samples were seen, or go on from the newest checkpoint in `out`.

    Args:
        config: see `configs/basecode_toonhead64.py`.
        generator: of architecture skip; its weights do not change.
        out: folder for `checkpoints/`, `samples/`, `log.jsonl`, `basecode.safetensors` and `generator.safetensors`.
        log: takes a line of progress.

    Returns:
        The path of the generator with its encoder attached; `basecode.safetensors` beside it holds the encoder alone.

    Raises:
        LsapError: no base code can enter this generator there, or perceptual weights cannot be read.
    """
    out, G = Path(out).resolve(), generator.replace(basecode=None)
    shape, train, perceptual = encoder_config(G, config), EncoderTraining(**config.train), perceptual_of(G, config, log)
    cutoff = config.truncation.cutoff
    terms = EncoderLoss(
        truncation_psi=config.truncation.psi, truncation_cutoff=None if cutoff < 0 else cutoff, **config.loss
    )
    batch = train.batch_size
    total, every = max(config.total_images // batch, 1), max(config.snapshot_images // batch, 1)
    data_rng, init_rng, judge_rng = (jax.random.fold_in(jax.random.key(config.seed), i) for i in range(3))
    check_source(out, config, G.sha256, free=("total_images", "snapshot_images", "generator", "name"))
    # Placed as a restored state is: a resumed run is the same program.
    state = jax.device_put(initial_state(shape, train, init_rng), jax.local_devices()[0])
    with ocp.CheckpointManager(out / "checkpoints", options=ocp.CheckpointManagerOptions(max_to_keep=2)) as manager:
        begun = manager.latest_step() or 0
        if begun:
            state = manager.restore(begun, args=ocp.args.StandardRestore(state))
            log(f"going on from {begun * batch} images")
        step_fn = partial(encoder_step, shape, terms, train, G, perceptual)
        for means, newest, step in run(step_fn, state, begun, total, every, batch, data_rng):
            state = newest
            E = BasecodeEncoder(config=shape, variables=state.variables)
            snapshot(G, E, perceptual, terms, judge_rng, step * batch, means, out, log)
            manager.save(step, args=ocp.args.StandardSave(state))
            manager.wait_until_finished()
    E = BasecodeEncoder(config=shape, variables=state.variables)
    return finish(G, E, config, max(begun, total) * batch, out)


def initial_state(shape: BasecodeConfig, train: EncoderTraining, rng: jax.Array) -> EncoderState:
    """State before the first step."""
    variables = initial_variables(shape, rng)
    return EncoderState(variables=variables, optimizer=optimizer(train).init(variables["params"]))


def run(
    step_fn: Callable[..., Any], state: EncoderState, step: int, total: int, every: int, batch: int, rng: jax.Array
) -> Iterator[tuple[dict[str, float], EncoderState, int]]:
    """Steps from `step` to `total`; yields (mean logs, state, step) after every `every` and at the end."""
    sums: dict[str, Any] = {}
    started, since = time.monotonic(), step
    while step < total:
        state, logs = step_fn(state, jax.random.fold_in(rng, step))
        step += 1
        sums = {k: sums.get(k, 0.0) + v for k, v in logs.items()}
        if step % every == 0 or step == total:
            means = {k: float(v) / (step - since) for k, v in sums.items()}
            means["images_per_second"] = (step - since) * batch / (time.monotonic() - started)
            yield means, state, step
            sums, started, since = {}, time.monotonic(), step


@partial(jax.jit, static_argnums=3)
def judge(
    G: Generator, E: BasecodeEncoder, perceptual: Perceptual | None, terms: EncoderLoss, rng: jax.Array
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """(losses, x, reconstructions) of `VALIDATION` samples of one key, with E's running statistics."""
    ws, x = sample_pairs(G, terms, rng, VALIDATION)
    f = E(resize_input(jnp.clip(x, -1, 1), E.config))
    return encoder_losses(G, perceptual, terms, f, ws, x)[1], x, G.synthesis(ws, f=f)


def snapshot(
    G: Generator, E: BasecodeEncoder, perceptual: Perceptual | None, terms: EncoderLoss, rng: jax.Array, seen: int,
    means: dict[str, float], out: Path, log: Log,
) -> None:  # fmt: skip
    """A line in log.jsonl, a line of progress, a grid with rows of samples above their reconstructions."""
    judged, x, y = judge(G, E, perceptual, terms, rng)
    line = {"images": seen, **means, **{f"{k}_unseen": float(v) for k, v in judged.items()}}
    rows = [to_uint8(np.asarray(a[i : i + 8])) for i in (0, 8) for a in (x, y)]
    save_png(out / "samples" / f"{seen:08d}.png", grid(np.concatenate(rows), columns=8))
    with open(out / "log.jsonl", "a") as file:
        file.write(json.dumps({k: round(v, 6) for k, v in line.items()}) + "\n")
    log(" ".join(f"{k}={v:.4g}" for k, v in line.items()))


def finish(G: Generator, E: BasecodeEncoder, config: ConfigDict, seen: int, out: Path) -> Path:
    """Write the encoder alone, and the generator with it, with how they came about."""
    made = {"name": config.name, "images_seen": seen, "config": config.to_dict(), "generator_sha256": G.sha256}
    save_basecode(out / "basecode.safetensors", E, made)
    joined = attach_basecode(G, E)
    provenance = {**{k: v for k, v in G.provenance.items() if k != "sha256"}, "basecode": made}
    path = out / "generator.safetensors"
    joined.replace(provenance_json=json.dumps(provenance, sort_keys=True)).save(path)
    return path
