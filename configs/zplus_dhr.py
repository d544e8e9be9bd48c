"""DHR of Z+ codes: codes on the hypersphere, then weights and features for each image.

Paper: Domain-Specific Hybrid Refinement (arXiv 2301.12141), with the settings of GANInverter's code; codes as in
    Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995), which does not have DHR.
Expected: not published; for W+ codes of an encoder see `lsap_e_dhr`.
Cost: 1200 steps in Z+, 40 of the coarse inversion, 100 of the features, 50 of these with the generator's weights.
Command: lsap-jax invert IMAGES --generator G --config zplus_dhr --perceptual LPIPS --out runs/zplus_dhr
"""

from ml_collections import ConfigDict

from lsap_jax.configs import zplus


def get_config() -> ConfigDict:
    config = zplus.get_config()
    config.refine = ConfigDict(dict(method="dhr"))
    return config
