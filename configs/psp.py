"""psp: codes of W+ by one pass of pSp's encoder.

Paper: Richardson et al., Encoding in Style: a StyleGAN Encoder for Image-to-Image Translation (arXiv 2008.00951).
Expected: LPIPS (Alex) 0.159, MSE 0.035 for FFHQ at 1024 px on CelebA-HQ (GANInverter's table).
Cost: a pass of the encoder.
Command: lsap-jax encode IMAGES --config psp --generator G --encoder FILE --out runs/psp

The encoder is that of the file, or the one that comes with G; `train_psp` makes one. It starts an optimisation:
lsap-jax invert IMAGES --config psp --steps 100 --generator G --encoder FILE --out runs/psp_100
"""

from ml_collections import ConfigDict

from lsap_jax.configs import encode


def get_config() -> ConfigDict:
    return encode.get_config()
