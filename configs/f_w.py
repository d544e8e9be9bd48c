"""F/W inversion: one w per image and a base code.

Paper: Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995), compared there.
Expected: between F/Z and F/W+ (Table 1 of 2307.08995 has no row for it).
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --space f/w --out runs/f_w
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "f/w"
    return config
