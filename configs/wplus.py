"""W+ inversion: one w per layer, starting at the mean w.

Paper: Abdal et al., Image2StyleGAN (ICCV 2019), with the losses of
    Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995).
Expected: MSE 0.0487, SSIM 0.761 for FFHQ at 1024 px on 50 CelebA-HQ images (Table 1 of 2307.08995).
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --space w+ --out runs/wplus
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "w+"
    return config
