"""Train the base-code encoder of a generator on its own samples.

usage: lsap-jax train-basecode --generator G --out DIR [--config NAME|FILE] [--config.key=value ...]

The encoder gives the start of f for spaces with a base code (f/z+, f/w+, …). DIR gets checkpoints/, samples/,
log.jsonl, basecode.safetensors (for `lsap-jax invert --basecode`) and generator.safetensors, G with the encoder inside.
To resume an interrupted training, run the same command again.
"""

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments
from lsap_jax.cli.training import encoder_flags, training_of


def flags() -> FlagValues:
    return encoder_flags("basecode")


def run(args: Arguments) -> int:
    config, G, out = training_of(args, "basecode")
    from lsap_jax.training.basecode import train_basecode

    print(train_basecode(config, G, out))
    return 0
