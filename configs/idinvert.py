"""IDInvert: W+ from a latent encoder's output, kept near the encoder's code of the reconstruction.

Paper: Zhu et al., In-Domain GAN Inversion for Real Image Editing (ECCV 2020), eq. 6; settings of the authors' code: 100
    steps of Adam 0.01, MSE 1, domain 2, last iterate. Its perceptual term is 5e-5 times the mean square of VGG16
    relu4_3 on images of 0 to 255; here it is LPIPS with weight 1, or the discriminator's features if no LPIPS weights
    are given. Needs a generator with a latent encoder (`lsap-jax train-encoder`).
Expected: fast, editable, coarser than longer optimisations: MSE 0.0216, SSIM 0.650 on FFHQ (Table 1 of 2307.08995).
Cost: 100 steps, each as in `wplus`.
Command: lsap-jax invert IMAGES --generator G --config idinvert --out runs/idinvert
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "w+"
    config.steps = 100
    config.loss.perceptual = 1.0
    config.loss.domain = 2.0
    config.init.detail = "encoder"
    config.keep = "last"
    return config
