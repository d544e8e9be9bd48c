"""Train the latent encoder of a generator on its own samples and, if images are given, on these too.

usage: lsap-jax train-encoder --generator G --out DIR [--config NAME|FILE] [--config.key=value ...]

The encoder gives the start of the code with --config.init.detail=encoder, and the preset idinvert needs it. DIR gets
checkpoints/, samples/, log.jsonl and generator.safetensors, G with the encoder inside. Interrupted or killed, it goes
on when the same command is run again.
"""

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments
from lsap_jax.cli.training import encoder_flags, training_of


def flags() -> FlagValues:
    return encoder_flags("encoder")


def run(args: Arguments) -> int:
    config, G, out = training_of(args, "encoder")
    from lsap_jax.training.latent_encoder import train_latent_encoder

    print(train_latent_encoder(config, G, out))
    return 0
