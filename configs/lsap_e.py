"""lsap_e: codes of W+ by one pass of LSAP's encoder.

Paper: Cao et al., LSAP: Rethinking Inversion Fidelity, Perception and Editability in GAN Latent Space (arXiv
    2209.12746).
Expected: LPIPS (Alex) 0.177, MSE 0.039 for FFHQ at 1024 px on CelebA-HQ (GANInverter's table).
Cost: a pass of the encoder.
Command: lsap-jax encode IMAGES --config lsap_e --generator G --encoder FILE --out runs/lsap_e

The encoder is that of the file, or the one that comes with G; `train_lsap_e` makes one. It starts an optimisation:
lsap-jax invert IMAGES --config lsap_e --steps 100 --generator G --encoder FILE --out runs/lsap_e_100
"""

from ml_collections import ConfigDict

from lsap_jax.configs import encode


def get_config() -> ConfigDict:
    return encode.get_config()
