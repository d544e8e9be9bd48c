"""train_psp: the encoder of pSp, for any StyleGAN2: all rows at once, no regulariser.

Paper: Richardson et al., Encoding in Style: a StyleGAN Encoder for Image-to-Image Translation (arXiv 2008.00951);
    settings of the authors' code for inversion.
Expected: LPIPS (Alex) 0.16, MSE 0.035 for FFHQ at 1024 px on CelebA-HQ (GANInverter's table).
Cost: 4 million images; days on one GPU at 1024 px.
Command: lsap-jax train-encoder --config train_psp --generator ffhq.safetensors --config.data=ffhq --out runs/psp
    and the files of weights, see train_e4e
"""

from ml_collections import ConfigDict

from lsap_jax.configs import train_e4e


def get_config() -> ConfigDict:
    config = train_e4e.get_config()
    config.name = "train_psp"
    config.total_images = 4_000_000
    config.encoder.progressive = False
    config.stages.update(start=0, every=0)
    config.loss.update(delta=0.0, adversarial=0.0)
    return config
