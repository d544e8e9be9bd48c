"""S inversion: the styles of all layers (StyleSpace), starting at those of the mean w.

Paper: Wu et al., StyleSpace Analysis (CVPR 2021), for the space; losses of
    Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995).
Expected: no published numbers for an optimisation in S with these losses.
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --space s --out runs/s
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "s"
    return config
