"""Training encoders of the family of pSp for a generator: pSp, e4e, LSAP_E, ReStyle (`lsap-jax train-encoder`).

Images are real ones or, where no data are given, samples of the generator. Real images lie on the devices, as uint8,
from the start; a batch is gathered, computed on all devices, and averaged inside one program.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from lsap_jax.encoding.attach import with_encoder
from lsap_jax.errors import LsapError
from lsap_jax.losses.alignment import mean_nscd, nscd
from lsap_jax.losses.judges import Networks
from lsap_jax.metrics.distortion import mse, psnr
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import save
from lsap_jax.models.psp import PspEncoder
from lsap_jax.networks.arithmetic import convolutions_in
from lsap_jax.networks.irse import adaptive_average
from lsap_jax.networks.view import viewed
from lsap_jax.pixels import to_float, to_uint8
from lsap_jax.storage import atomic
from lsap_jax.storage.pictures import grid, save_png
from lsap_jax.training.dataset import load_training_images
from lsap_jax.training.encoder import RESUMED_WITH, VALIDATION, made_of, save_joined
from lsap_jax.training.latent_discriminator import initial_critic
from lsap_jax.training.loop import Log, Logs, lines, note, resumable
from lsap_jax.training.psp_step import PspState, Task, optimizer, psp_step, settled
from lsap_jax.training.psp_task import check_config, first_params, networks_for, task_for
from lsap_jax.training.source import check_source

TABLE, HELDOUT = "validation.csv", "heldout_"


def train_psp(config: ConfigDict, generator: Generator, out: str | Path, log: Log = print) -> Path:
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
    networks = networks.replace(generator=networks.generator.bare("statistics"))
    size, devices = task.train.batch_size, devices_for(task.train.batch_size)
    everywhere = NamedSharding(Mesh(np.array(devices), ("images",)), PartitionSpec())
    images, heldout = _images(task, config, networks)
    check_source(out, config, G.sha256, free=(*RESUMED_WITH, "generator_file"))
    log(f"{_data(images)} and {len(heldout)} held-out images, batches of {size} on {len(devices)} devices")
    frozen, data = jax.device_put((networks.freeze(), images), everywhere)
    first = first_params(task.shape, config.encoder.init, config.seed)
    state = jax.device_put(initial_state(task, first, config.seed), everywhere)
    step_fn, rng = compiled_step(task, devices), jax.random.fold_in(jax.random.key(config.seed), 0)
    per_epoch = 1 if images is None else len(images) // size

    @lru_cache(maxsize=1)
    def order(epoch: int) -> jax.Array | None:
        """Order of the images in an epoch."""
        if images is None:
            return None
        chosen = np.random.default_rng((config.seed, epoch)).permutation(len(images))
        return jax.device_put(chosen.astype(np.int32), everywhere)  # type: ignore[no-any-return]

    def advance(state: PspState, step: int) -> tuple[PspState, Logs]:
        epoch, place = divmod(step, per_epoch)
        with convolutions_in(task.train.precision):
            return step_fn(frozen, state, data, order(epoch), place, step, rng)  # type: ignore[no-any-return]

    def show(state: PspState, seen: int, means: dict[str, float]) -> None:
        snapshot(task, networks, encoder_of(task, G, state, seen), heldout, seen, means, out, log)

    budget = (config.total_images, config.snapshot_images, size)
    state, seen = resumable(out, state, advance, show, budget, log)
    return finish(G, encoder_of(task, G, state, seen), config, seen, out)


def devices_for(size: int) -> tuple[jax.Device, ...]:
    """As many local devices as share a batch evenly."""
    devices = jax.local_devices()
    return tuple(devices[: max(n for n in range(1, len(devices) + 1) if size % n == 0)])


def initial_state(task: Task, params: Any, seed: int) -> PspState:
    """State before the first step."""
    critic: Any = {}
    if task.critic is not None:
        critic = initial_critic(task.critic, task.shape.w_dim, seed)
    return PspState(params=params, optimizer=optimizer(task.train).init(params), critic=critic)


def _images(task: Task, config: ConfigDict, networks: Networks) -> tuple[np.ndarray | None, np.ndarray]:
    """(uint8 training images, or None for samples of the generator; held-out images as floats)."""
    if not config.data:
        rng = jax.random.fold_in(jax.random.key(config.seed), 2)
        drawn = jax.jit(partial(samples, task, count=min(VALIDATION, config.heldout)))(networks, rng)
        return None, np.asarray(drawn)
    channels = networks.generator.img_channels
    images, apart = load_training_images(config.data, config.extra_data, config.heldout, task.side, channels)
    if len(images) < task.train.batch_size:
        raise LsapError(
            f"{len(images)} training images do not fill a batch of {task.train.batch_size}; lower train.batch_size"
        )
    return images, to_float(apart[:VALIDATION])


def _data(images: np.ndarray | None) -> str:
    return "samples of the generator" if images is None else f"{len(images)} training images"


def samples(task: Task, networks: Networks, rng: jax.Array, count: int, sharding: Any = None) -> jax.Array:
    """Images [count, side, side, C] of random z, in [-1, 1] as a PNG would hold them."""
    G = networks.generator
    z = jax.random.normal(rng, (count, G.z_dim))
    if sharding is not None:
        z = jax.lax.with_sharding_constraint(z, sharding)
    return adaptive_average(jnp.clip(G.synthesis(G.mapping(z)), -1, 1), task.side)


@lru_cache(maxsize=4)
def compiled_step(task: Task, devices: tuple[jax.Device, ...]) -> Callable[..., Any]:
    """`psp_step` over devices that share each batch; compiled on its first call."""
    mesh = Mesh(np.array(devices), ("images",))
    apart, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("images",), ()))
    size = task.train.batch_size

    def step(
        networks: Networks, state: PspState, data: jax.Array | None, order: jax.Array | None, place: jax.Array,
        number: jax.Array, rng: jax.Array,
    ) -> tuple[PspState, Logs]:  # fmt: skip
        image_rng, flip_rng, own_rng = jax.random.split(jax.random.fold_in(rng, number), 3)
        if data is None or order is None:
            x = samples(task, networks, image_rng, size, apart)
        else:
            chosen = jax.lax.dynamic_slice_in_dim(order, place * size, size)
            x = data[jax.lax.with_sharding_constraint(chosen, apart)].astype(jnp.float32) / 127.5 - 1
            if task.train.mirror:
                flip = jax.random.bernoulli(flip_rng, 0.5, (size, 1, 1, 1))
                x = jnp.where(flip, x[:, :, ::-1], x)
        return psp_step(task, networks, state, jax.lax.with_sharding_constraint(x, apart), number, own_rng)

    return jax.jit(step, donate_argnums=1, out_shardings=everywhere)


def encoder_of(task: Task, G: Generator, state: PspState, seen: int) -> PspEncoder:
    """The encoder of a state, as it is used: rows that have not been trained yet are the first one."""
    stage = int(task.stage(max(seen // task.train.batch_size - 1, 0)))
    mean = jnp.broadcast_to(G.w_avg[None], (G.num_ws, G.w_dim))
    params = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), settled(state.params, stage))
    return PspEncoder(config=task.shape, params={"encoder": params, "w_avg": mean})


@partial(jax.jit, static_argnums=0)
def validate(task: Task, networks: Networks, E: PspEncoder, x: jax.Array) -> tuple[Logs, jax.Array]:
    """(metrics [B] by name, reconstructions) of held-out images [B, side, side, C]."""
    G = networks.generator
    ws = E(viewed(x, task.shape.view), G)
    y = adaptive_average(G.synthesis(ws), task.side)
    found = {"mse": mse(y, x), "psnr": psnr(y, x)}
    for name, judge in networks.judges.items():
        found[name] = judge.distance(judge.features(jnp.clip(y, -1, 1)), judge.features(x))
    distances = nscd(G.config, G.styles(ws), G.statistics.anchors)
    return found | {"nscd": mean_nscd(distances)["nscd"]}, y


def snapshot(
    task: Task, networks: Networks, E: PspEncoder, heldout: np.ndarray, seen: int, means: dict[str, float], out: Path,
    log: Log,
) -> None:  # fmt: skip
    """A line in the log and in the table of held-out images, and a grid of these above their reconstructions."""
    size = min(task.train.batch_size, len(heldout))
    filled = np.concatenate([heldout, heldout[: -len(heldout) % size]])
    parts = [validate(task, networks, E, jnp.asarray(filled[i : i + size])) for i in range(0, len(filled), size)]
    found, y = jax.tree.map(lambda *a: np.concatenate(a)[: len(heldout)], *parts)
    note(out, {"images": seen, **means, **{f"{HELDOUT}{k}": float(v.mean()) for k, v in found.items()}}, log)
    rows = [to_uint8(a[i : i + 8]) for i in (0, 8) for a in (heldout, y) if i < len(heldout)]
    columns = min(8, len(heldout))
    save_png(out / "samples" / f"{seen:08d}.png", grid(np.concatenate(rows), columns=columns))
    atomic.write_files({out / TABLE: table(lines(out)).encode()})


def table(log: list[dict[str, float]]) -> str:
    """The held-out metrics of a log as CSV, a row per snapshot."""
    names = [name for name in log[-1] if name == "images" or name.startswith(HELDOUT)]
    rows = [",".join(name.removeprefix(HELDOUT) for name in names)]
    rows += [",".join(f"{line.get(name, float('nan')):g}" for name in names) for line in log]
    return "\n".join(rows) + "\n"


def finish(G: Generator, E: PspEncoder, config: ConfigDict, seen: int, out: Path) -> Path:
    """Write the encoder and, if the configuration wants it, the generator with it; returns the encoder's path."""
    path, bare = out / "encoder.safetensors", G.without(*(kind for kind, p in G.parts.items() if hasattr(p, "codes")))
    made = made_of(config, seen, bare)
    if config.generator_file:
        _, made = save_joined(with_encoder(bare, E), E.kind, config, seen, out)
    save(path, E, made)
    return path
