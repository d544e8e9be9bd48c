"""train_restyle_e4e: ReStyle's encoder with e4e's training: five passes, each from the result of the one before.

Paper: Alaluf et al., ReStyle: A Residual-Based StyleGAN Encoder via Iterative Refinement (arXiv 2104.02699); settings
    of the authors' code. In that code the identity term, if its weight is not 0, replaces the sum of the terms before
    it, so latent discriminator and offsets have no effect on faces. Here they have the effect that the paper gives.
Expected: LPIPS (Alex) 0.19, MSE 0.043 for FFHQ at 1024 px on CelebA-HQ (GANInverter's table).
Cost: as train_e4e per pass.
Command: lsap-jax train-encoder --config train_restyle_e4e --generator ffhq.safetensors --config.data=ffhq
    --out runs/restyle_e4e and the files of weights, see train_e4e
"""

from ml_collections import ConfigDict

from lsap_jax.configs import train_e4e


def get_config() -> ConfigDict:
    config = train_e4e.get_config()
    config.name = "train_restyle_e4e"
    config.encoder.update(heads="last", passes=5)
    return config
