"""P inversion: one p = LeakyReLU_5(w) per image, starting at the mean w.

Paper: Zhu et al., Improved StyleGAN Embedding: Where are the Good Latents? (arXiv 2012.09036).
Expected: no published numbers with these losses; close to `w`.
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --space p --out runs/p
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "p"
    return config
