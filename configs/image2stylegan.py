"""Image2StyleGAN: W+ from the mean w.

Paper: Abdal et al., Image2StyleGAN: How to Embed Images Into the StyleGAN Latent Space? (ICCV 2019): 5000 steps of Adam
    0.01, MSE and a perceptual distance with weight 1. Theirs uses plain VGG16 features, this one LPIPS, or the
    discriminator's features if no LPIPS weights are given.
Expected: close reconstructions, poor edits.
Cost: 5000 steps, each as in `wplus`.
Command: lsap-jax invert IMAGES --generator G --config image2stylegan --out runs/image2stylegan
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "w+"
    config.steps = 5000
    config.loss.perceptual = 1.0
    config.keep = "last"
    return config
