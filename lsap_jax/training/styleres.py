"""From a configuration to a training of StyleRes' networks: their shape, the discriminator, and what snapshots show."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Networks
from lsap_jax.metrics.distortion import mse, psnr
from lsap_jax.models.discriminator import Discriminator
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import load
from lsap_jax.models.psp import PspEncoder
from lsap_jax.models.styleres import StyleRes
from lsap_jax.networks.irse import adaptive_average
from lsap_jax.networks.stylegan2 import discriminator
from lsap_jax.networks.stylegan2.discriminator import DiscriminatorConfig
from lsap_jax.networks.styleres import StyleResConfig, param_shapes
from lsap_jax.training.initial import initial_params
from lsap_jax.training.loop import Logs
from lsap_jax.training.on_images import check_judge
from lsap_jax.training.styleres_step import (
    Edits,
    Seen,
    StyleResState,
    StyleResTraining,
    Task,
    encoded,
    optimizer,
    rendered,
)

LARGEST = 256  # px a side at which images are compared


def task_for(config: ConfigDict, G: Generator) -> Task:
    """The task of a configuration, for a generator with its encoder.

    Raises:
        LsapError: the encoder is of another family, or a number does not fit.
    """
    E, side = G.parts.get(PspEncoder.kind), min(LARGEST, G.img_resolution)
    if E is None or E.config.sees_result:
        raise LsapError(
            "StyleRes reads features of an encoder of pSp's family with one pass, as e4e; name one with --encoder"
        )
    if config.train.noise_mode not in ("const", "none"):
        raise LsapError(f"train.noise_mode={config.train.noise_mode!r}: choose const or none")
    check_judge(config, G, side)
    edits = Edits(**config.edits)
    if not (0 <= edits.probability <= 1 and edits.low <= edits.high):
        raise LsapError(f"edits={config.edits.to_dict()}: the probability is in [0, 1], and low is not above high")
    file, size, critic = config.discriminator.weights, config.train.batch_size, None
    if config.loss.adversarial:
        critic = critic_of(G, side, file).config
        group = min(critic.mbstd_group_size or size, size)
        if size % group:
            raise LsapError(f"train.batch_size={size}: the discriminator looks at groups of {group}; take a multiple")
    return Task(
        shape=shape_for(G, E, config.refiner.resolution, config.refiner.width), side=side,
        weights=tuple(config.loss.items()), train=StyleResTraining(**config.train), edits=edits, critic=critic,
        critic_file=file,
    )  # fmt: skip


def shape_for(G: Generator, E: PspEncoder, resolution: int, width: int) -> StyleResConfig:
    """Shape of the networks for a generator and its encoder.

    Args:
        resolution: of the block whose features are added to; 0 is 64, or a quarter of images below 256 px.
        width: 0 is that of the features.

    Raises:
        LsapError: generator or encoder have no features of this size.
    """
    resolution = resolution or min(64, G.img_resolution // 4)
    sides = jax.eval_shape(
        lambda E, x: [E.with_unit(x, k)[1] for k in range(len(E.config.units))], E,
        jax.ShapeDtypeStruct((1, E.view.height, E.view.width, E.config.in_channels), jnp.float32),
    )  # fmt: skip
    taps = [k for k, map in enumerate(sides) if map.shape[1] == resolution]
    layer = G.config.entries.get(resolution)
    if not taps or layer is None or resolution == min(G.config.entries):
        known = sorted({map.shape[1] for map in sides} & set(G.config.entries))
        raise LsapError(f"refiner.resolution={resolution}: generator and encoder both have features of {known} px")
    try:
        return StyleResConfig(
            resolution=resolution, channels=layer.channels, encoder_channels=sides[taps[-1]].shape[3], tap=taps[-1],
            width=0 if width == layer.channels else width,
        )  # fmt: skip
    except ValueError as error:
        raise LsapError(f"refiner.width={width}: {error}") from error


def critic_of(G: Generator, side: int, file: str, seed: int = 0) -> Discriminator:
    """The discriminator that a training begins with: of a file, else the generator's if it judges images of this size,
    else a random one.

    Raises:
        LsapError: the file holds one for other images.
    """
    if file or (G.discriminator is not None and G.discriminator.config.img_resolution == side):
        found: Discriminator = load(file, "discriminator") if file else G.discriminator
        own = (found.config.img_resolution, found.config.img_channels, found.config.c_dim)
        if own != (side, G.img_channels, 0):
            raise LsapError(
                f"discriminator.weights={file}: judges images of (px, channels, classes) {own}, this training needs "
                f"{(side, G.img_channels, 0)}; choose another one, or leave it empty for a random one"
            )
        return found
    channels = tuple(min(512, 16384 // (4 << k)) for k in range(side.bit_length() - 2))
    shape = DiscriminatorConfig(img_resolution=side, channels=channels, img_channels=G.img_channels)
    drawn = jax.jit(discriminator.initial_params, static_argnums=0)(shape, jax.random.key(seed))
    return Discriminator(config=shape, params=drawn)


def first_state(task: Task, networks: Networks, seed: int, params: Any = None) -> StyleResState:
    """State before the first step, of these params, or of drawn ones."""
    params = initial_params(param_shapes(task.shape), seed) if params is None else params
    tx = optimizer(task.train)
    if task.critic is None:
        return StyleResState(params=params, optimizer=tx.init(params))
    critic = dict(critic_of(networks.generator, task.side, task.critic_file, seed).params)
    critic = jax.tree.map(jnp.asarray, critic)
    return StyleResState(params=params, optimizer=tx.init(params), critic=critic, critic_optimizer=tx.init(critic))


def networks_of(task: Task, state: StyleResState) -> StyleRes:
    """The residual networks of a state."""
    return StyleRes(config=task.shape, params=jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), state.params))


def judge(
    task: Task, networks: Networks, refiner: StyleRes, x: jax.Array
) -> tuple[Logs, tuple[jax.Array, jax.Array, jax.Array, jax.Array]]:
    """(metrics [B] by name, (images of the codes alone, refined, edited, edited and back)) of images x.

    The edits are the same in all snapshots: the middle of the range towards a random code for each place in a batch.
    """
    G = networks.generator
    seen = encoded(task, G, x)
    plain = adaptive_average(G.synthesis(seen.ws, task.train.noise_mode), task.side)  # type: ignore[arg-type]
    z = jax.random.normal(jax.random.key(1), (len(x), G.z_dim))
    e = (task.edits.low + task.edits.high) / 2 * (G.mapping(z) - seen.ws)

    def shown(seen: Seen, ws: jax.Array) -> jax.Array:
        return rendered(task, G, refiner.params, seen, ws)[0]

    y, edited = shown(seen, seen.ws), shown(seen, seen.ws + e)
    again = encoded(task, G, edited)
    back = shown(again, again.ws - e)
    found: dict[str, Any] = {"mse": mse(y, x), "psnr": psnr(y, x)}
    for name, judge in networks.judges.items():
        found[name] = judge.distance(judge.features(jnp.clip(y, -1, 1)), judge.features(x))
    found |= {"codes_psnr": psnr(plain, x), "cycle_psnr": psnr(back, x)}
    return found, (plain, y, edited, back)
