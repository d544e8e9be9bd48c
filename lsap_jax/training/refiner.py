"""Training the networks of a method of refinement for a generator and its encoder (`lsap-jax train-refiner`).

A method is a row of `TRAININGS`. What its task, its step and its pictures are is its own; images, batches, devices,
checkpoints, snapshots and files are the same for all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lsap_jax.encoding.attach import with_encoder
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import attach, load, load_encoder, save
from lsap_jax.models.registry import encoders
from lsap_jax.networks.arithmetic import PRECISIONS
from lsap_jax.networks.parameters import halved
from lsap_jax.refinement.methods import check_family
from lsap_jax.training import hfgi, hyperstyle, sam, styleres, styleres_step
from lsap_jax.training.encoder import RESUMED_WITH, judged, made_of, save_joined
from lsap_jax.training.loop import Log, Logs, say
from lsap_jax.training.on_images import (
    ImageTask,
    check_batches,
    check_shape,
    snapshot,
    train_on_images,
    training_images,
)
from lsap_jax.training.source import check_source


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the networks of a method are trained.

    Attributes:
        terms: names of the terms that `loss` of its configurations weights.
        task: (configuration, generator with its parts) to what is learned (`ImageTask`), which is compiled in.
        first: (task, networks, seed), the maps of `prepare` where there is one, and as `params` those of networks in a
            file, to the state before the first step: a pytree, saved whole.
        step: (task, networks, state, images [B, side, side, C] in [-1, 1], number from 0, rng) to (state, logs).
        part: (task, state) to the trained networks as a companion of the generator, its arrays on the host.
        judge: (task, networks, part, held-out images) to (metrics [B] by name, pictures [B, side, side, C] that stand
            below them in grids).
        reads: kinds of the generator's parts that the last four use, besides the judges.
        changes: (task, generator) to the parameters of the generator that steps render with changes of.
        prepare: (task, networks, images or None, held-out images, configuration, out, log) to (uint8 images, their
            maps, those of the held-out images): `step` then gets (images, maps), and `judge` maps behind the images.
    """

    terms: tuple[str, ...]
    task: Callable[[ConfigDict, Generator], Any]
    first: Callable[..., Any]
    step: Callable[..., tuple[Any, Logs]]
    part: Callable[[Any, Any], Any]
    judge: Callable[..., tuple[Mapping[str, jax.Array], tuple[jax.Array, ...]]]
    reads: tuple[str, ...] = ("psp",)
    changes: Callable[[Any, Generator], tuple[str, ...]] = lambda task, G: ()
    prepare: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None


TRAININGS: dict[str, Training] = {
    "styleres": Training(
        terms=styleres_step.TERMS,
        task=styleres.task_for,
        first=styleres.first_state,
        step=styleres_step.styleres_step,
        part=styleres.networks_of,
        judge=styleres.judge,
    ),
    "hfgi": Training(
        terms=hfgi.TERMS,
        task=hfgi.task_for,
        first=hfgi.first_state,
        step=hfgi.hfgi_step,
        part=hfgi.part_of,
        judge=hfgi.judge,
        reads=encoders(),
    ),
    "hyperstyle": Training(
        terms=hyperstyle.TERMS,
        task=hyperstyle.task_for,
        first=hyperstyle.first_state,
        step=hyperstyle.hyperstyle_step,
        part=hyperstyle.part_of,
        judge=hyperstyle.judge,
        reads=encoders(),
        changes=hyperstyle.changed,
    ),
    "sam": Training(
        terms=sam.TERMS,
        task=sam.task_for,
        first=sam.first_state,
        step=sam.sam_step,
        part=sam.part_of,
        judge=sam.judge,
        reads=encoders(),
        prepare=sam.prepared,
    ),
}


def train_refiner(
    config: ConfigDict, generator: Generator, out: str | Path, log: Log = say, stop_after: float | None = None
) -> Path:
    """Train until `config.total_images` images were seen, or go on from the newest checkpoint in `out`.

    Args:
        config: with `method`, a key of `TRAININGS`.
        generator: its weights do not change; its encoder is that of `config.encoder`, or its own.
        out: folder for `checkpoints/`, `samples/`, `log.jsonl`, `validation.csv`, `refiner.safetensors` and, with
            `config.generator_file`, `generator.safetensors`, the generator with encoder and refiner.
        log: takes a line of progress.
        stop_after: seconds after which it ends with a checkpoint and weights, however far it is.

    Returns:
        The path of the refiner's networks.

    Raises:
        LsapError: configuration, generator and files do not fit together, or the images do not fill a batch.
    """
    out = Path(out).resolve()
    how = training_of(config)
    check_config(generator, config, how)
    G = with_encoder(generator, load_encoder(config.encoder)) if config.encoder else generator
    if G.encoder is None:
        raise LsapError(f"{config.generator}: the generator comes without an encoder; name one with --encoder")
    task: ImageTask = how.task(config, G)
    check_shape(task.shape)
    networks = judged(G.bare("discriminator", *how.reads), config, log)
    images, heldout = training_images(task, config, networks)
    check_source(out, config, G.sha256, free=(*RESUMED_WITH, "encoder", "generator_file"))
    maps = heldout_maps = None
    if how.prepare is not None:
        images, maps, heldout_maps = how.prepare(task, networks, images, heldout, config, out, log)
    first = partial(how.first, task, networks, config.seed, *(() if maps is None else (maps,)))
    state = first()
    if config.init:  # optimisers may hold a copy of the params
        state = first(params=first_networks(config.init, how.part(task, state)).params)
    networks = networks.replace(generator=networks.generator.bare(*how.reads))
    judge = jax.jit(how.judge, static_argnums=0)

    def show(state: Any, seen: int, means: dict[str, float]) -> None:
        now = partial(judge, task, networks, how.part(task, state))
        snapshot(now, heldout, task.train.batch_size, seen, means, out, log, heldout_maps)

    changed = how.changes(task, G)
    state, seen = train_on_images(
        how.step, task, networks, state, images, config, show, out, log, stop_after, changed, maps
    )
    return finish(G, how.part(task, state), config, seen, out)


def first_networks(path: str, drawn: Any) -> Any:
    """The networks in a file, in place of those that were drawn.

    Raises:
        LsapError, ConversionError: there is no such file, it is damaged, or its networks have another shape.
    """
    found = load(path, drawn.kind)
    if found.config != drawn.config:
        raise LsapError(
            f"init={path}: holds networks of another shape, {found.config}; this training's are {drawn.config}"
        )
    return found.replace(params=jax.tree.map(jnp.asarray, found.params))


def training_of(config: ConfigDict) -> Training:
    """The row of a configuration's method; LsapError if there is none."""
    if config.method not in TRAININGS:
        known = ", ".join(TRAININGS) or "none yet"
        raise LsapError(f"method={config.method!r}: no such training of a refiner; there are {known}")
    return TRAININGS[config.method]


def check_config(G: Generator, config: ConfigDict, how: Training) -> None:
    """Raises LsapError if a term or an option does not exist, a number is too small, or the method cannot refine G."""
    check_family(config.method, G)
    if G.c_dim:
        raise LsapError(f"conditional generators (c_dim {G.c_dim}) get no refiner here; choose one without labels")
    if unknown := [name for name in config.loss if name not in how.terms]:
        raise LsapError(f"loss.{unknown[0]}: no such term; there are {', '.join(how.terms)}")
    if config.train.precision not in PRECISIONS:
        raise LsapError(f"train.precision={config.train.precision!r}: choose {', '.join(PRECISIONS)}")
    check_batches(config)


def finish(G: Generator, part: Any, config: ConfigDict, seen: int, out: Path) -> Path:
    """Write the refiner's networks and, if the configuration wants it, the generator with them; returns their path."""
    path, made = out / "refiner.safetensors", made_of(config, seen, G)
    if config.get("float16", False):
        part = halved(part)
    if config.generator_file:
        save_joined(attach(G, part), part.kind, config, seen, out)
    save(path, part, made)
    return path
