"""Train the networks of a method of refinement for a generator and its encoder, on images or on its own samples.

usage: lsap-jax train-refiner --config NAME|FILE --generator G [--encoder E] --out DIR [--stop_after SECONDS]
                              [--config.key=value ...]

DIR gets checkpoints/, samples/ (held-out images above their results), log.jsonl, validation.csv (errors on held-out
images at each snapshot), refiner.safetensors, the networks alone, and generator.safetensors, G with encoder and
networks. `lsap-jax refine --weights FILE` takes either file. To resume an interrupted training, run the same command
again.
"""

from pathlib import Path

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, configuration, new_flags, number, real, text
from lsap_jax.errors import LsapError


def flags() -> FlagValues:
    values = new_flags()
    text(values, "config", "name or file of a method's training configuration, such as train_METHOD")
    text(values, "generator", "a bundled name, a converted file or an official checkpoint")
    text(values, "encoder", "file of the encoder (default: the one that comes with the generator)")
    text(values, "out", "folder for checkpoints and weights")
    number(values, "seed", "short for --config.seed")
    real(values, "stop_after", "end after this many seconds, with a checkpoint and the weights so far")
    return values


def run(args: Arguments) -> int:
    args.only()
    name, out, given = args.required("config"), Path(args.required("out")), args.flags
    short = {"generator": given.generator, "encoder": given.encoder, "seed": given.seed}
    config = configuration(args, name, short, key="method")
    if not config.generator:
        raise LsapError("--generator is missing: a refiner is trained for a generator")
    from lsap_jax.models.generator_file import load_generator
    from lsap_jax.training.refiner import train_refiner, training_of

    training_of(config)
    print(train_refiner(config, load_generator(config.generator), out, stop_after=given.stop_after))
    return 0
