"""P_N inversion: one whitened p per image, starting at the mean w.

Paper: Zhu et al., Improved StyleGAN Embedding: Where are the Good Latents? (arXiv 2012.09036).
Expected: no published numbers with these losses. Its axes differ greatly in effect: see --config.eigenvalue_floor.
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --space pn --out runs/pn
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "pn"
    return config
