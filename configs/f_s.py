"""F/S inversion: styles of all layers and a base code.

Paper: Yao et al., Feature-Style Encoder (ECCV 2022), for the space; losses of
    Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995).
Expected: no published numbers for an optimisation; 2307.08995 compares with the encoder, LPIPS 0.07 to 0.43 (Fig. 2).
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --space f/s --out runs/f_s
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "f/s"
    return config
