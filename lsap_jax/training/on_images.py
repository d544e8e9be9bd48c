"""Training on images beside a frozen generator: batches on the devices, snapshots, held-out images.

Images are real ones or, where no data are given, samples of the generator. Real images lie on the devices, as uint8,
from the start; a batch is gathered, computed on all devices, and averaged inside one program.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Networks
from lsap_jax.metrics.distortion import mse, psnr
from lsap_jax.models.generator import Generator
from lsap_jax.networks.arithmetic import convolutions_in
from lsap_jax.networks.bounds import checked
from lsap_jax.networks.irse import adaptive_average
from lsap_jax.pixels import to_float, to_uint8
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.render import synthesise
from lsap_jax.spaces.decoded import Decoded
from lsap_jax.storage import atomic
from lsap_jax.storage.pictures import grid, save_png
from lsap_jax.training.dataset import load_training_images
from lsap_jax.training.encoder import VALIDATION, weight_of
from lsap_jax.training.loop import Log, Logs, lines, note, resumable

TABLE, HELDOUT = "validation.csv", "heldout_"
LARGE = 256  # px a side, from which on generators get networks of the public widths
COLUMNS, ROWS = 8, 2  # of held-out images in a grid
State = TypeVar("State")


class Batches(Protocol):
    """What `train` of a task says about its batches."""

    @property
    def batch_size(self) -> int: ...

    @property
    def mirror(self) -> bool:
        """Whether real images are turned left to right with probability ½."""

    @property
    def precision(self) -> str:
        """Of convolutions on accelerators, a key of `arithmetic.PRECISIONS`."""


class ImageTask(Hashable, Protocol):
    """What is learned; hashable, compiled in."""

    @property
    def shape(self) -> Any:
        """Configuration of the networks."""

    @property
    def side(self) -> int:
        """Pixels a side of the images that a step is given."""

    @property
    def train(self) -> Batches: ...


# (task, networks, state, images [B, side, side, C] in [-1, 1], number of the step from 0, rng) to (state, logs)
Step = Callable[..., tuple[Any, Logs]]


def side_for(config: ConfigDict, G: Generator) -> int:
    """Pixels a side at which images are compared: 256 at most, but those of the generator where its discriminator
    compares, which takes no others.
    """
    discriminates = weight_of(config, "perceptual") and not config.perceptual.weights and G.discriminator is not None
    return G.img_resolution if discriminates else min(LARGE, G.img_resolution)  # type: ignore[no-any-return]


def check_judge(config: ConfigDict, G: Generator, side: int) -> None:
    """Raises LsapError where a training at `side` px is judged by a discriminator of larger images."""
    if (wanted := side_for(config, G)) > side:
        raise LsapError(
            f"the generator's discriminator compares images of {wanted} px, this training has {side} px: name LPIPS by "
            "--config.perceptual.weights, which compares them at any size"
        )


def compared(
    task: ImageTask, networks: Networks, decoded: Decoded, refinement: Refinement, x: jax.Array
) -> tuple[Logs, tuple[jax.Array, jax.Array]]:
    """(metrics [B] of refined images, and "codes_mse" without refinement; (images of codes, refined ones)) beside
    images x [B, side, side, C].
    """
    G = networks.generator
    plain, refined = (adaptive_average(synthesise(G, decoded, one), task.side) for one in (None, refinement))
    found = {"mse": mse(refined, x), "psnr": psnr(refined, x), "codes_mse": mse(plain, x)}
    for name, judge in networks.judges.items():
        found[name] = judge.distance(judge.features(jnp.clip(refined, -1, 1)), judge.features(x))
    return found, (plain, refined)


def check_shape(shape: Any) -> None:
    """Raises LsapError where a file of networks of this shape, a configuration, could not be read."""
    try:
        checked(type(shape), asdict(shape))
    except (TypeError, ValueError) as error:
        raise LsapError(f"networks of this shape cannot be read from a file: {error}") from None


def check_batches(config: ConfigDict) -> None:
    """Raises LsapError if there is no image in a batch or among the held-out ones."""
    size, apart = config.train.batch_size, config.heldout
    if size < 1 or apart < 1:
        raise LsapError(f"train.batch_size={size}, heldout={apart}: both are numbers of images, from 1 on")


def devices_for(size: int) -> tuple[jax.Device, ...]:
    """As many local devices as share a batch evenly."""
    devices = jax.local_devices()
    return tuple(devices[: max(n for n in range(1, len(devices) + 1) if size % n == 0)])


def training_images(task: ImageTask, config: ConfigDict, networks: Networks) -> tuple[np.ndarray | None, np.ndarray]:
    """(uint8 training images, or None for samples of the generator; held-out images as floats).

    Raises:
        LsapError: the images do not fit the generator, or do not fill a batch.
    """
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


def samples(task: ImageTask, networks: Networks, rng: jax.Array, count: int, sharding: Any = None) -> jax.Array:
    """Images [count, side, side, C] of random z, in [-1, 1] as a PNG would hold them."""
    G = networks.generator
    z = jax.random.normal(rng, (count, G.z_dim))
    if sharding is not None:
        z = jax.lax.with_sharding_constraint(z, sharding)
    return adaptive_average(jnp.clip(G.synthesis(G.mapping(z)), -1, 1), task.side)


@lru_cache(maxsize=4)
def compiled_step(step: Step, task: ImageTask, devices: tuple[jax.Device, ...]) -> Callable[..., Any]:
    """A step on the images of its number, over devices that share each batch; compiled on its first call."""
    mesh = Mesh(np.array(devices), ("images",))
    apart, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("images",), ()))
    size = task.train.batch_size

    def numbered(
        networks: Networks, state: State, data: Any, order: jax.Array | None, place: jax.Array,
        number: jax.Array, rng: jax.Array,
    ) -> tuple[State, Logs]:  # fmt: skip
        image_rng, flip_rng, own_rng = jax.random.split(jax.random.fold_in(rng, number), 3)
        if data is None or order is None:
            x = samples(task, networks, image_rng, size, apart)
        else:
            chosen = jax.lax.dynamic_slice_in_dim(order, place * size, size)
            x = jax.tree.map(lambda a: a[jax.lax.with_sharding_constraint(chosen, apart)], data)
            x = jax.tree.map(lambda a: a.astype(jnp.float32) / 127.5 - 1 if a.dtype == jnp.uint8 else a, x)
            if task.train.mirror:
                flip = jax.random.bernoulli(flip_rng, 0.5, (size, 1, 1, 1))
                x = jax.tree.map(lambda a: jnp.where(flip, a[:, :, ::-1], a), x)
        return step(task, networks, state, jax.lax.with_sharding_constraint(x, apart), number, own_rng)

    compiled = jax.jit(numbered, donate_argnums=1, out_shardings=everywhere)

    def on_mesh(*inputs: Any) -> Any:
        with jax.set_mesh(mesh):  # which `on_own_device` looks for
            return compiled(*inputs)

    return on_mesh


def on_own_device(function: Callable[..., Any], networks: Any, *batch: Any) -> Any:
    """`function(networks, *batch)` inside a step, in which every device computes its own images without the others.

    A step is else divided among the devices by XLA, whose gradients of convolutions with a kernel for each image are
    wrong then (jax 0.10): whatever renders with changed weights has to go through this.

    Args:
        function: no image looks at another one.
        networks: arrays that all devices have.
        batch: trees with leaves [B, ...]; so are those of the result.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return function(networks, *batch)
    apart = PartitionSpec(*mesh.axis_names)
    specs = (PartitionSpec(), *(apart for _ in batch))
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=apart, check_vma=False)(networks, *batch)


def train_on_images(
    step: Step, task: ImageTask, networks: Networks, state: State, images: np.ndarray | None, config: ConfigDict,
    show: Callable[[State, int, dict[str, float]], None], out: Path, log: Log, stop_after: float | None = None,
    changed: tuple[str, ...] = (),
    maps: np.ndarray | None = None,
) -> tuple[State, int]:  # fmt: skip
    """Steps until `config.total_images` images were seen, or from the newest checkpoint in `out` on.

    Args:
        networks: generator and judges; their weights stay as they are.
        state: before the first step.
        images: uint8 [N, side, side, C]; None is samples of the generator.
        show: called with (state, images seen, mean logs since the one before) before each checkpoint.
        stop_after: seconds after which it ends with a checkpoint, however far it is.
        changed: parameters of the generator that steps render with changes of, as of `Generator.freeze`.
        maps: [N, side, side, K] of the images; steps then get (images, maps), mirrored together.

    Returns:
        (the state at the end, images seen).
    """
    size, devices = task.train.batch_size, devices_for(task.train.batch_size)
    everywhere = NamedSharding(Mesh(np.array(devices), ("images",)), PartitionSpec())
    what = "samples of the generator" if images is None else f"{len(images)} training images"
    log(f"{what}, batches of {size} on {len(devices)} devices")
    # Steps use the state up, so it shares no array with the networks that it may begin from.
    own = jax.tree.map(partial(jnp.array, copy=True), state)
    given = images if maps is None else (images, maps)
    frozen, data, state = jax.device_put((networks.freeze(changed=changed), given, own), everywhere)
    step_fn, rng = compiled_step(step, task, devices), jax.random.fold_in(jax.random.key(config.seed), 0)
    per_epoch = 1 if images is None else len(images) // size

    @lru_cache(maxsize=1)
    def order(epoch: int) -> jax.Array | None:
        """Order of the images in an epoch."""
        if images is None:
            return None
        chosen = np.random.default_rng((config.seed, epoch)).permutation(len(images))
        return jax.device_put(chosen.astype(np.int32), everywhere)  # type: ignore[no-any-return]

    def advance(state: State, number: int) -> tuple[State, Logs]:
        epoch, place = divmod(number, per_epoch)
        with convolutions_in(task.train.precision):
            return step_fn(frozen, state, data, order(epoch), place, number, rng)  # type: ignore[no-any-return]

    return resumable(out, state, advance, show, (config.total_images, config.snapshot_images, size), log, stop_after)


def snapshot(
    judge: Callable[..., tuple[Mapping[str, jax.Array], Sequence[jax.Array]]],
    heldout: np.ndarray,
    size: int,
    seen: int,
    means: dict[str, float],
    out: Path,
    log: Log,
    maps: np.ndarray | None = None,
) -> None:
    """A line in the log and in the table of held-out images, and a grid of these above what became of them.

    Args:
        judge: images [B, side, side, C], and their maps if there are any, to (metrics [B] by name, pictures [B, side,
            side, C]).
        size: B; the last batch is padded.
        means: of the logs since the snapshot before.
        maps: [N, side, side, K] of the held-out images.
    """
    size = min(size, len(heldout))
    given = [heldout] if maps is None else [heldout, maps]
    filled = [np.concatenate([a, a[: -len(a) % size]]) for a in given]
    parts = [judge(*(jnp.asarray(a[i : i + size]) for a in filled)) for i in range(0, len(filled[0]), size)]
    found, shown = jax.tree.map(lambda *a: np.concatenate(a)[: len(heldout)], *parts)
    note(out, {"images": seen, **means, **{f"{HELDOUT}{k}": float(v.mean()) for k, v in found.items()}}, log)
    starts = range(0, min(len(heldout), COLUMNS * ROWS), COLUMNS)
    columns = min(COLUMNS, len(heldout))
    blocks = [to_uint8(a[i : i + columns]) for i in starts for a in (heldout, *shown)]
    save_png(out / "samples" / f"{seen:08d}.png", grid(np.concatenate(blocks), columns=columns))
    atomic.write_files({out / TABLE: table(lines(out)).encode()})


def table(log: list[dict[str, float]]) -> str:
    """The held-out metrics of a log as CSV, a row per snapshot."""
    names = [name for name in log[-1] if name == "images" or name.startswith(HELDOUT)]
    rows = [",".join(name.removeprefix(HELDOUT) for name in names)]
    rows += [",".join(f"{line.get(name, float('nan')):g}" for name in names) for line in log]
    return "\n".join(rows) + "\n"
