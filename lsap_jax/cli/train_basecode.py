"""Train the base-code encoder of a generator on its own samples.

usage: lsap-jax train-basecode --generator G --out DIR [--config NAME|FILE] [--config.key=value ...]

The encoder gives the start of f for spaces f/z and f/z+. Use it with `lsap-jax invert --basecode FILE`, or join it to its generator with
`lsap-jax convert FILE DST --generator G`.
"""

from pathlib import Path

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, configuration, new_flags, number, text


def flags() -> FlagValues:
    values = new_flags()
    text(values, "config", "name or file of a training configuration", "basecode")
    text(values, "generator", "a bundled name, a converted file or an official checkpoint")
    text(values, "out", "folder for checkpoints and weights")
    number(values, "seed", "short for --config.seed")
    return values


def run(args: Arguments) -> int:
    args.only()
    out, name = Path(args.required("out")), args.required("generator")
    config = configuration(args, "basecode", {"seed": args.flags.seed})
    from lsap_jax.generator import load_generator
    from lsap_jax.training.basecode import train_basecode

    print(train_basecode(config, load_generator(name), out, print))
    return 0
