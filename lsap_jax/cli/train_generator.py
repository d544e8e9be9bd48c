"""Train a StyleGAN2 on a folder or archive of images, or go on from the newest checkpoint in DIR.

usage: lsap-jax train-generator --config NAME|FILE [--config.key=value ...] --out DIR [--stop_after SECONDS]

DIR gets checkpoints/, samples/ (grids during the training), log.jsonl and at the end generator.safetensors. To resume
an interrupted training, run the same command again. With --stop_after it ends by itself, with a checkpoint and the
weights so far, for machines that are lent for a limited time.
"""

from pathlib import Path

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, configuration, new_flags, number, real, text


def flags() -> FlagValues:
    values = new_flags()
    text(values, "config", "name or file of a training configuration", "toonhead64")
    text(values, "out", "folder for checkpoints, samples and weights")
    number(values, "seed", "short for --config.seed")
    real(values, "stop_after", "end after this many seconds, with a checkpoint and the weights so far")
    return values


def run(args: Arguments) -> int:
    args.only()
    out = Path(args.required("out"))
    config = configuration(args, "toonhead64", {"seed": args.flags.seed}, key="discriminator")
    from lsap_jax.training.generator import train_generator

    print(train_generator(config, out, stop_after=args.flags.stop_after))
    return 0
