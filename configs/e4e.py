"""e4e: W+ codes by one pass of e4e's encoder.

Paper: Tov et al., Designing an Encoder for StyleGAN Image Manipulation (arXiv 2102.02766).
Expected: LPIPS (Alex) 0.197, MSE 0.047 for FFHQ at 1024 px on CelebA-HQ (GANInverter's table).
Cost: one pass of the encoder.
Command: lsap-jax encode IMAGES --config e4e --generator G --encoder FILE --out runs/e4e

The encoder is the one in FILE, else the one that comes with G; `train_e4e` trains one. To optimise from its codes:
lsap-jax invert IMAGES --config e4e --steps 100 --generator G --encoder FILE --out runs/e4e_100
"""

from ml_collections import ConfigDict

from lsap_jax.configs import encode


def get_config() -> ConfigDict:
    return encode.get_config()
