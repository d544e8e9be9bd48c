"""F/W+ inversion: one w per layer and a base code, without a prior on w.

Paper: Kang et al., GAN Inversion for Out-of-Range Images (BDInvert, ICCV 2021); compared in
    Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995).
Expected: reconstruction close to `bdinvert`, which adds the P_N prior.
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --space f/w+ --out runs/f_wplus
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "f/w+"
    return config
