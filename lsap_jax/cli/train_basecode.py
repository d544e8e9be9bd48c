"""Train the base-code encoder of a generator on its own samples.

usage: lsap-jax train-basecode --generator G --out DIR [--config NAME|FILE] [--config.key=value ...]

The encoder gives the start of f for spaces f/z and f/z+. DIR gets checkpoints/, samples/, log.jsonl,
basecode.safetensors (for `lsap-jax invert --basecode`) and generator.safetensors, G with the encoder inside.
Interrupted or killed, it goes on when the same command is run again.
"""

from pathlib import Path

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, configuration, new_flags, number, text
from lsap_jax.errors import LsapError


def flags() -> FlagValues:
    values = new_flags()
    text(
        values,
        "config",
        "name or file of a training configuration (default: basecode_G where there is one, else basecode)",
    )
    text(values, "generator", "a bundled name, a converted file or an official checkpoint")
    text(values, "out", "folder for checkpoints and weights")
    number(values, "seed", "short for --config.seed")
    return values


def run(args: Arguments) -> int:
    from lsap_jax.configuration import config_names

    args.only()
    out, name = Path(args.required("out")), args.flags.generator
    default = f"basecode_{name}" if f"basecode_{name}" in config_names() else "basecode"
    config = configuration(args, default, {"generator": name, "seed": args.flags.seed}, key="widths")
    if not config.generator:
        raise LsapError("--generator is missing: the encoder is trained on samples of a generator")
    from lsap_jax.generator import load_generator
    from lsap_jax.training.basecode import train_basecode

    print(train_basecode(config, load_generator(config.generator), out, print))
    return 0
