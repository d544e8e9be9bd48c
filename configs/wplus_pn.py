"""W+ inversion with the P_N prior.

Paper: Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995), Table 1;
    prior of Zhu et al. (arXiv 2012.09036), weight of the authors' code.
Expected: MSE 0.120, SSIM 0.682 for FFHQ at 1024 px on 50 CelebA-HQ images (Table 1).
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --config wplus_pn --out runs/wplus_pn
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "w+"
    config.loss.pn = 0.01
    return config
