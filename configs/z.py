"""Z inversion with retraction: one z per image, no base code.

Paper: Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995), Table 1 and eq. 5.
Expected: MSE 0.181, SSIM 0.612 for FFHQ at 1024 px on 50 CelebA-HQ images (Table 1).
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --space z --out runs/z
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "z"
    return config
