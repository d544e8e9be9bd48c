"""psp: W+ codes by one pass of pSp's encoder.

Paper: Richardson et al., Encoding in Style: a StyleGAN Encoder for Image-to-Image Translation (arXiv 2008.00951).
Expected: LPIPS (Alex) 0.159, MSE 0.035 for FFHQ at 1024 px on CelebA-HQ (GANInverter's table).
Cost: one pass of the encoder.
Command: lsap-jax encode IMAGES --config psp --generator G --encoder FILE --out runs/psp

The encoder is the one in FILE, else the one that comes with G; `train_psp` trains one. To optimise from its codes:
lsap-jax invert IMAGES --config psp --steps 100 --generator G --encoder FILE --out runs/psp_100
"""

from ml_collections import ConfigDict

from lsap_jax.configs import encode


def get_config() -> ConfigDict:
    return encode.get_config()
