"""Training a generator from images: batches, steps, checkpoints, logs, sample grids (`lsap-jax train-generator`)."""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.models.discriminator import Discriminator
from lsap_jax.models.generator import Generator
from lsap_jax.models.generator_file import load_generator
from lsap_jax.networks import stylegan2
from lsap_jax.networks.arithmetic import convolutions_in
from lsap_jax.networks.families import GeneratorConfig, initial_params
from lsap_jax.networks.stylegan2 import discriminator
from lsap_jax.pixels import to_uint8
from lsap_jax.storage.pictures import grid, save_png
from lsap_jax.training.dataset import batch, load_training_images
from lsap_jax.training.loop import Log, Logs, note, resumable, say
from lsap_jax.training.source import check_source
from lsap_jax.training.stylegan2 import (
    WHOLE,
    TrainConfig,
    TrainState,
    Window,
    initial_state,
    learning_rate,
    local_config,
    train_step,
)

# What a resumed run may change: how long it goes on and how its rate ends, what it is called and what it writes.
RESUMED_WITH = (
    "total_images", "snapshot_images", "name", "licence", "train.lr", "train.decay_start", "train.decay_images",
)  # fmt: skip


# Compiled whole: operation by operation, initialisation takes several times as long.
_initial_discriminator = jax.jit(discriminator.initial_params, static_argnums=0)


def build(config: ConfigDict) -> Generator:
    """Untrained networks of a configuration, or those of `config.init` (a file or a bundled name).

    Raises:
        LsapError: the networks cannot be trained here.
    """
    if config.init:
        G = load_generator(config.init)
        if G.discriminator is None:
            raise LsapError(f"{config.init}: has no discriminator to go on training with; choose a file that has one")
        _check_trainable(G.config, G.discriminator.config)
        return G.replace(parts={"discriminator": G.discriminator})
    g_config = stylegan2.GeneratorConfig(**config.generator)
    d_config = discriminator.DiscriminatorConfig(**config.discriminator)
    _check_trainable(g_config, d_config)
    g_rng, d_rng = jax.random.split(jax.random.key(config.seed))
    critic = Discriminator(config=d_config, params=_initial_discriminator(d_config, d_rng))
    return Generator(config=g_config, params=initial_params(g_config, g_rng), parts={"discriminator": critic})


def train_config(config: ConfigDict) -> TrainConfig:
    """Settings of a step, from `train` and `windows` of a configuration."""
    windows = sorted(config.get("windows", {}).items())
    return TrainConfig(**config.train, windows=tuple(Window(name=name, **where) for name, where in windows))


def check_windows(windows: Sequence[Window], side: int) -> None:
    """Every window lies inside images of this side.

    Raises:
        LsapError: one does not, or is of a size that no discriminator has, or has the name of that of whole images.
    """
    for w in windows:
        if min(w.top, w.left) < 0 or max(w.top, w.left) + w.size > side:
            raise LsapError(f"windows.{w.name}: {w.size} px from {w.top}, {w.left} on leave an image of {side} px")
        if w.size < 8 or w.size != 2 << len(w.channels):
            raise LsapError(
                f"windows.{w.name}: {w.size} px with {len(w.channels)} numbers of channels; one is needed for each "
                "resolution from 4 px upward, and a window has 8 px at least"
            )
        if w.name == WHOLE:
            raise LsapError(f"windows.{WHOLE}: is the name of the discriminator of whole images; choose another")


def initial_local(G: Generator, train: TrainConfig, seed: int) -> dict[str, Any]:
    """Params of the untrained local discriminators, by the names of their windows."""
    assert G.discriminator is not None
    rng = jax.random.fold_in(jax.random.key(seed), 1)
    return {
        window.name: _initial_discriminator(local_config(G.discriminator.config, window), jax.random.fold_in(rng, i))
        for i, window in enumerate(train.windows)
    }


def _check_trainable(g: GeneratorConfig, d: discriminator.DiscriminatorConfig) -> None:
    """The two networks fit each other and need no labels."""
    if not isinstance(g, stylegan2.GeneratorConfig):
        raise LsapError("only StyleGAN2 can be trained here; this generator is of another family")
    if (g.img_resolution, g.img_channels) != (d.img_resolution, d.img_channels):
        raise LsapError(
            f"the generator makes images of {g.img_resolution} px and {g.img_channels} channels, the discriminator "
            f"takes {d.img_resolution} px and {d.img_channels}; set both alike"
        )
    if g.c_dim or d.c_dim:
        raise LsapError(f"conditional generators (c_dim {g.c_dim or d.c_dim}) are not trained here; set c_dim to 0")


def train_generator(config: ConfigDict, out: str | Path, log: Log = say, stop_after: float | None = None) -> Path:
    """Train until `config.total_images` were seen, or go on from the newest checkpoint in `out`.

    Args:
        config: see `configs/toonhead64.py`.
        out: folder for `checkpoints/`, `samples/`, `log.jsonl` and the final `generator.safetensors`.
        log: takes a line of progress.
        stop_after: seconds after which the run ends with a checkpoint and weights, however far it is.

    Returns:
        The path of the weights: the moving average of the generator, with the discriminator.

    Raises:
        LsapError: data, weights and configuration do not fit together.
    """
    out = Path(out).resolve()
    G = build(config)
    train = train_config(config)
    check_windows(train.windows, G.img_resolution)
    images, heldout = load_training_images(
        config.data, config.extra_data, config.heldout, G.img_resolution, G.img_channels
    )
    log(f"{len(images)} training and {len(heldout)} held-out images, batches of {train.batch_size}")
    assert G.discriminator is not None
    check_source(out, config, G.sha256, free=RESUMED_WITH)
    step_fn, rng = compiled_step(G.config, G.discriminator.config, train), jax.random.key(config.seed)

    def advance(state: TrainState, step: int) -> tuple[TrainState, Logs]:
        return step_fn(  # type: ignore[no-any-return]
            state,
            batch(images, step, train.batch_size, config.seed, config.mirror),
            jax.random.fold_in(rng, step),
            learning_rate(train, step * train.batch_size),
            r1=bool(train.r1_gamma) and step % train.r1_interval == 0,
            path_length=bool(train.path_length_weight) and step % train.path_length_interval == 0,
        )

    def show(state: TrainState, seen: int, means: dict[str, float]) -> None:
        snapshot(G, state, seen, means, images, heldout, config, out, log)

    # Placed as a restored state is: both take one compilation, and a resumed run is the same program.
    fresh = jax.device_put(initial_state(G, train, initial_local(G, train, config.seed)), jax.local_devices()[0])
    length = (config.total_images, config.snapshot_images, train.batch_size)
    state, _ = resumable(out, fresh, advance, show, length, log, stop_after)
    return finish(G, state, config, out)


@lru_cache(maxsize=4)
def compiled_step(
    g_config: stylegan2.GeneratorConfig, d_config: discriminator.DiscriminatorConfig, train: TrainConfig
) -> Callable[..., Any]:
    """`train_step` of networks of these shapes, compiled on its first call."""
    critic = Discriminator(config=d_config, params={})
    G = Generator(config=g_config, params={}, parts={"discriminator": critic})
    step = jax.jit(partial(train_step, G, train), static_argnames=("r1", "path_length"), donate_argnums=0)

    def in_precision(*args: Any, **kwargs: Any) -> Any:
        with convolutions_in(train.precision):
            return step(*args, **kwargs)

    return in_precision


def snapshot(
    G: Generator, state: TrainState, seen: int, logs: dict[str, float], images: np.ndarray, heldout: np.ndarray,
    config: ConfigDict, out: Path, log: Log,
) -> None:  # fmt: skip
    """A line in log.jsonl, a line of progress, a grid of samples of the moving average."""
    assert G.discriminator is not None
    D = G.discriminator.replace(params=state.discriminators[WHOLE])
    count = min(len(heldout), len(images), 64)
    trained, unseen = mean_logit(D, images[:count]), mean_logit(D, heldout[:count])
    line = {"images": seen, **logs, "logit_training": trained, "logit_heldout": unseen}
    save_png(
        out / "samples" / f"{seen:08d}.png", grid(samples(G.replace(params=state.ema), 32, config.seed), columns=8)
    )
    note(out, line, log)


def mean_logit(D: Discriminator, images: np.ndarray) -> float:
    """Mean logit of uint8 images [N, R, R, C]; training images above held-out ones indicate overfitting."""
    group = min(D.config.mbstd_group_size or len(images), len(images))
    whole = images[: len(images) // group * group]
    return float(_logits(D, jnp.asarray(whole, jnp.float32) / 127.5 - 1).mean())


# Compiled once for all snapshots: the networks are arguments.
@jax.jit
def _logits(D: Discriminator, images: jax.Array) -> jax.Array:
    return D(images)


@partial(jax.jit, static_argnames="truncation_psi")
def _draw(G: Generator, z: jax.Array, truncation_psi: float) -> jax.Array:
    return G.synthesis(G.mapping(z, truncation_psi=truncation_psi))


def samples(G: Generator, count: int, seed: int, truncation_psi: float = 1.0) -> np.ndarray:
    """uint8 images [count, R, R, C] of seeded z."""
    z = jax.random.normal(jax.random.key(seed), (count, G.z_dim))
    return to_uint8(np.asarray(_draw(G, z, truncation_psi)))


def finish(G: Generator, state: TrainState, config: ConfigDict, out: Path) -> Path:
    """Write the moving average and the discriminator, with how they came about."""
    assert G.discriminator is not None
    before = G.provenance.get("images_seen", 0)  # by the weights that it started from
    provenance = {
        "name": config.name, "licence": config.licence, "images_seen": before + int(state.images_seen),
        "init": f"{config.init} ({before:,} images)" if before else config.init, "config": config.to_dict(),
    }  # fmt: skip
    trained = G.with_part("discriminator", G.discriminator.replace(params=state.discriminators[WHOLE])).replace(
        params=state.ema, provenance_json=json.dumps(provenance, sort_keys=True)
    )
    path = out / "generator.safetensors"
    trained.save(path)
    return path
