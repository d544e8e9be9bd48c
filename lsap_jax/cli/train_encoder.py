"""Train an encoder of images to ws for a generator, on images or on its own samples.

usage: lsap-jax train-encoder --generator G --out DIR [--config NAME|FILE] [--config.key=value ...]

--config is train_e4e, train_psp, train_lsap_e, train_restyle_e4e or train_restyle_psp, or encoder (IDInvert's latent
encoder, the default). DIR gets checkpoints/, samples/, log.jsonl and generator.safetensors, G with the encoder inside;
the first five add encoder.safetensors, the encoder alone, and validation.csv, the errors on held-out images at each
snapshot. `lsap-jax encode --encoder FILE` takes either file, and `invert --encoder FILE` starts from it. To resume an
interrupted training, run the same command again.
"""

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments
from lsap_jax.cli.training import encoder_flags, training_of
from lsap_jax.errors import LsapError


def flags() -> FlagValues:
    return encoder_flags("encoder")


def run(args: Arguments) -> int:
    config, G, out = training_of(args, "encoder", key="perceptual")
    if "stages" in config:
        from lsap_jax.training.psp import train_psp

        print(train_psp(config, G, out))
        return 0
    if "heldout" not in config or "widths" not in config:
        raise LsapError(f"--config={args.flags.config}: this configuration belongs to another command")
    from lsap_jax.training.latent_encoder import train_latent_encoder

    print(train_latent_encoder(config, G, out))
    return 0
