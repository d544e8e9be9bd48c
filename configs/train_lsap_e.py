"""train_lsap_e: LSAP_E, the encoder of e4e with LSAP's alignment in place of the latent discriminator.

Paper: Cao et al., LSAP: Rethinking Inversion Fidelity, Perception and Editability in GAN Latent Space (arXiv
    2209.12746); settings of the authors' code: alignment with weight 0.5, summed over the active rows and negative as
    there; rows are activated 20 times as fast as e4e's.
Expected: LPIPS (Alex) 0.18, MSE 0.039 for FFHQ at 1024 px on CelebA-HQ (GANInverter's table).
Cost: 4 million images; days on one GPU at 1024 px.
Command: lsap-jax train-encoder --config train_lsap_e --generator ffhq.safetensors --config.data=ffhq --out runs/lsap_e
    and the files of weights, see train_e4e
"""

from ml_collections import ConfigDict

from lsap_jax.configs import train_e4e


def get_config() -> ConfigDict:
    config = train_e4e.get_config()
    config.name = "train_lsap_e"
    config.total_images = 4_000_000
    config.stages.every = 800
    config.loss.update(adversarial=0.0, nscd=0.5)
    return config
