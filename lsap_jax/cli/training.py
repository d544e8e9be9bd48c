"""Flags and settings that the commands which train an encoder share."""

from pathlib import Path
from typing import TYPE_CHECKING

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, configuration, new_flags, number, text
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from lsap_jax.models.generator import Generator


def encoder_flags(kind: str) -> FlagValues:
    """Flags of the training of an encoder whose configurations begin with `kind`."""
    values = new_flags()
    text(
        values,
        "config",
        f"name or file of a training configuration (default: {kind}_G where there is one, else {kind})",
    )
    text(values, "generator", "a bundled name, a converted file or an official checkpoint")
    text(values, "out", "folder for checkpoints and weights")
    number(values, "seed", "short for --config.seed")
    return values


def training_of(args: Arguments, kind: str, key: str = "widths") -> "tuple[ConfigDict, Generator, Path]":
    """(configuration, generator, folder) of such a command; all of its configurations have this key."""
    from lsap_jax.configuration import config_names

    args.only()
    out, name = Path(args.required("out")), args.flags.generator
    default = f"{kind}_{name}" if f"{kind}_{name}" in config_names() else kind
    config = configuration(args, default, {"generator": name, "seed": args.flags.seed}, key=key)
    if not config.generator:
        raise LsapError("--generator is missing: the encoder is trained on samples of a generator")
    from lsap_jax.models.generator_file import load_generator

    return config, load_generator(config.generator), out
