"""From a configuration to a training of an encoder of the family of pSp: its shape, judges, task and first weights."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Networks
from lsap_jax.models.embedder import ARCFACE, Embedder
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import load
from lsap_jax.models.psp import PspEncoder
from lsap_jax.networks import psp
from lsap_jax.networks.arithmetic import PRECISIONS
from lsap_jax.networks.psp import RESNET34, SMALL, PspConfig
from lsap_jax.spaces.statistics import with_statistics
from lsap_jax.training.encoder import judged
from lsap_jax.training.initial import initial_params
from lsap_jax.training.latent_discriminator import CriticTraining
from lsap_jax.training.loop import Log
from lsap_jax.training.on_images import check_batches
from lsap_jax.training.psp_step import PspTraining, Stages, Task
from lsap_jax.training.psp_terms import TERMS, Options

# Name -> (largest images in px a side, what differs from IR-SE50). Smaller images go into the same networks.
TRUNKS: dict[str, tuple[int, dict[str, Any]]] = {
    "irse50": (256, {}),
    "resnet34": (256, {"trunk": "resnet34", "units": RESNET34}),
    "small": (64, {"units": SMALL, "taps": (3, 6, 8), "head_convs": (2, 3, 4)}),
}

CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    ("train", "precision"): tuple(PRECISIONS),
    ("train", "noise_mode"): ("const", "random", "none"),
    ("nscd", "reduce"): ("sum", "mean"),
}


def shape_for(G: Generator, options: ConfigDict) -> PspConfig:
    """Shape of the encoder for G.

    Args:
        options: `encoder` of a configuration; its trunk "auto" is "small" for images up to 64 px, else "irse50".

    Raises:
        LsapError: there is no such trunk, or it does not go with these heads.
    """
    name = options.trunk
    if name == "auto":
        name = "small" if G.img_resolution <= TRUNKS["small"][0] else "irse50"
    if name not in TRUNKS:
        raise LsapError(f"encoder.trunk={name!r}: choose auto, {', '.join(TRUNKS)}")
    side, own = TRUNKS[name]
    width = own.get("units", PspConfig(num_ws=2).units)[-1][0]
    try:
        return PspConfig(
            num_ws=G.num_ws, w_dim=G.w_dim, heads=options.heads, progressive=options.progressive,
            passes=options.passes, in_channels=G.img_channels * (2 if options.passes > 1 else 1),
            input_resolution=min(side, G.img_resolution), head_width=0 if width == G.w_dim else width,
            filter="lanczos", **own,  # as images of a training are resized
        )  # fmt: skip
    except ValueError as error:
        raise LsapError(f"encoder.trunk={name}, encoder.heads={options.heads}: {error}") from error


def networks_for(G: Generator, config: ConfigDict, log: Log) -> Networks:
    """G with its statistics, and the judges of the terms whose weight is not 0; a judge without weights is left out."""
    return judged(with_statistics(G), config, log)


def check_config(G: Generator, config: ConfigDict) -> None:
    """Raises LsapError if a term or an option does not exist, a number is too small, or G takes labels."""
    if G.c_dim:
        raise LsapError(f"conditional generators (c_dim {G.c_dim}) get no such encoder here; choose one without labels")
    if unknown := [name for name in config.loss if name not in TERMS]:
        raise LsapError(f"loss.{unknown[0]}: no such term; there are {', '.join(TERMS)}")
    for (group, name), options in CHOICES.items():
        if config[group][name] not in options:
            raise LsapError(f"{group}.{name}={config[group][name]!r}: choose {', '.join(options)}")
    check_batches(config)


def task_for(G: Generator, config: ConfigDict, networks: Networks) -> Task:
    """The task of a configuration; LsapError if there is no encoder of its shape."""
    shape = shape_for(G, config.encoder)
    judge = networks.judges.get("perceptual")
    # A discriminator compares images of the generator's own size alone.
    side = G.img_resolution if judge is not None and judge.name == "discriminator" else shape.input_resolution
    return Task(
        shape=shape, side=side, weights=tuple(config.loss.items()), train=PspTraining(**config.train),
        stages=Stages(**config.stages), options=Options(**config.nscd),
        critic=CriticTraining(**config.critic) if config.loss.adversarial else None,
    )  # fmt: skip


def first_params(shape: PspConfig, file: str, seed: int) -> Any:
    """Params before the first step: random, with the trunk of a file of ArcFace's, or those of an encoder's file.

    Raises:
        LsapError: the file holds neither, or a network of another shape.
    """
    params = initial_params(psp.param_shapes(shape), seed)
    if not file:
        return params
    found: PspEncoder | Embedder = load(file, PspEncoder.kind, ARCFACE)
    if isinstance(found, PspEncoder):
        if replace(found.config, filter=shape.filter) != shape:
            raise LsapError(f"{file}: its encoder is {found.config}, this training makes {shape}; choose one of both")
        return jax.tree.map(jnp.asarray, dict(found.params["encoder"]))
    flat = flatten_dict(params)
    taken = flatten_dict({name: found.params[name] for name in ("input_layer", "body")})
    first = ("input_layer", "0", "weight")
    if (own := flat.get(first)) is not None and own.shape[2] > taken[first].shape[2]:
        # As ReStyle's code: the channels of the present image begin at random.
        taken[first] = own.at[:, :, : taken[first].shape[2]].set(taken[first])
    if wrong := [path for path, leaf in taken.items() if path not in flat or flat[path].shape != leaf.shape]:
        raise LsapError(
            f"{file}: holds ArcFace's IR-SE50, whose {'.'.join(wrong[0])} this encoder does not have in that shape; "
            "set encoder.trunk=irse50, or leave encoder.init empty"
        )
    return unflatten_dict(flat | taken)
