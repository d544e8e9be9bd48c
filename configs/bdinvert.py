"""BDInvert: F/W+ inversion with the P_N prior.

Paper: Kang et al., GAN Inversion for Out-of-Range Images with Geometric Transformations (ICCV 2021); settings of the
    authors' code: mean squares, weights 10 for LPIPS and the base code, 0.01 for P_N, last iterate.
Expected: MSE 0.0174, SSIM 0.815 for FFHQ at 1024 px on 50 CelebA-HQ images (Table 1 of 2307.08995).
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --config bdinvert --out runs/bdinvert
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "f/w+"
    config.loss.pn = 0.01
    config.keep = "last"
    return config
