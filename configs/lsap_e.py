"""lsap_e: W+ codes by one pass of LSAP's encoder.

Paper: Cao et al., LSAP: Rethinking Inversion Fidelity, Perception and Editability in GAN Latent Space (arXiv
    2209.12746).
Expected: LPIPS (Alex) 0.177, MSE 0.039 for FFHQ at 1024 px on CelebA-HQ (GANInverter's table).
Cost: one pass of the encoder.
Command: lsap-jax encode IMAGES --config lsap_e --generator G --encoder FILE --out runs/lsap_e

The encoder is the one in FILE, else the one that comes with G; `train_lsap_e` trains one. To optimise from its codes:
lsap-jax invert IMAGES --config lsap_e --steps 100 --generator G --encoder FILE --out runs/lsap_e_100
"""

from ml_collections import ConfigDict

from lsap_jax.configs import encode


def get_config() -> ConfigDict:
    return encode.get_config()
