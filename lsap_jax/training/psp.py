"""Training encoders of the family of pSp for a generator: pSp, e4e, LSAP_E, ReStyle (`lsap-jax train-encoder`)."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lsap_jax.encoding.attach import with_encoder
from lsap_jax.losses.alignment import mean_nscd, nscd
from lsap_jax.losses.judges import Networks
from lsap_jax.metrics.distortion import mse, psnr
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import save
from lsap_jax.models.psp import PspEncoder
from lsap_jax.networks.irse import adaptive_average
from lsap_jax.networks.parameters import halved
from lsap_jax.networks.view import viewed
from lsap_jax.training.encoder import RESUMED_WITH, made_of, save_joined
from lsap_jax.training.latent_discriminator import initial_critic
from lsap_jax.training.loop import Log, Logs, say
from lsap_jax.training.on_images import check_shape, snapshot, train_on_images, training_images
from lsap_jax.training.psp_step import PspState, Task, optimizer, psp_step, settled
from lsap_jax.training.psp_task import check_config, first_params, networks_for, task_for
from lsap_jax.training.source import check_source

WRITTEN = ("generator_file", "float16")  # what files are written and how, which a resumed run may change


def train_psp(config: ConfigDict, generator: Generator, out: str | Path, log: Log = say) -> Path:
    """Train until `config.total_images` images were seen, or go on from the newest checkpoint in `out`.

    Args:
        config: see `configs/train_e4e.py`.
        generator: its weights do not change.
        out: folder for `checkpoints/`, `samples/`, `log.jsonl`, `validation.csv`, `encoder.safetensors` and, with
            `config.generator_file`, `generator.safetensors`.
        log: takes a line of progress.

    Returns:
        The path of the encoder.

    Raises:
        LsapError: configuration, generator and files do not fit together, or the images do not fill a batch.
    """
    out, G = Path(out).resolve(), generator
    check_config(G, config)
    networks = networks_for(G.bare("discriminator"), config, log)
    task = task_for(G, config, networks)
    check_shape(task.shape)
    networks = networks.replace(generator=networks.generator.bare("statistics"))
    images, heldout = training_images(task, config, networks)
    check_source(out, config, G.sha256, free=(*RESUMED_WITH, *WRITTEN))
    state = initial_state(task, first_params(task.shape, config.encoder.init, config.seed), config.seed)

    def show(state: PspState, seen: int, means: dict[str, float]) -> None:
        judge = partial(validate, task, networks, encoder_of(task, G, state, seen))
        snapshot(judge, heldout, task.train.batch_size, seen, means, out, log)

    state, seen = train_on_images(psp_step, task, networks, state, images, config, show, out, log)
    return finish(G, encoder_of(task, G, state, seen), config, seen, out)


def initial_state(task: Task, params: Any, seed: int) -> PspState:
    """State before the first step."""
    critic: Any = {}
    if task.critic is not None:
        critic = initial_critic(task.critic, task.shape.w_dim, seed)
    return PspState(params=params, optimizer=optimizer(task.train).init(params), critic=critic)


def encoder_of(task: Task, G: Generator, state: PspState, seen: int) -> PspEncoder:
    """The encoder of a state, as it is used: rows that have not been trained yet are the first one."""
    stage = int(task.stage(max(seen // task.train.batch_size - 1, 0)))
    mean = jnp.broadcast_to(G.w_avg[None], (G.num_ws, G.w_dim))
    params = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), settled(state.params, stage))
    return PspEncoder(config=task.shape, params={"encoder": params, "w_avg": mean})


@partial(jax.jit, static_argnums=0)
def validate(task: Task, networks: Networks, E: PspEncoder, x: jax.Array) -> tuple[Logs, tuple[jax.Array]]:
    """(metrics [B] by name, (reconstructions,)) of held-out images [B, side, side, C]."""
    G = networks.generator
    ws = E(viewed(x, task.shape.view), G)
    y = adaptive_average(G.synthesis(ws), task.side)
    found = {"mse": mse(y, x), "psnr": psnr(y, x)}
    for name, judge in networks.judges.items():
        found[name] = judge.distance(judge.features(jnp.clip(y, -1, 1)), judge.features(x))
    distances = nscd(G.config, G.styles(ws), G.statistics.anchors)
    return found | {"nscd": mean_nscd(distances)["nscd"]}, (y,)


def finish(G: Generator, E: PspEncoder, config: ConfigDict, seen: int, out: Path) -> Path:
    """Write the encoder and, if the configuration wants it, the generator with it; returns the encoder's path."""
    path, bare = out / "encoder.safetensors", G.without(*(kind for kind, p in G.parts.items() if hasattr(p, "codes")))
    made = made_of(config, seen, bare)
    if config.float16:
        E = E.replace(params=halved(E.params))
    if config.generator_file:
        _, made = save_joined(with_encoder(bare, E), E.kind, config, seen, out)
    save(path, E, made)
    return path
