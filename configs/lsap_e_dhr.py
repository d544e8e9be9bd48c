"""lsap_e_dhr: W+ codes by LSAP's encoder, refined by DHR.

Paper: Cao et al., LSAP (arXiv 2209.12746), both stages; Domain-Specific Hybrid Refinement (arXiv 2301.12141).
Expected: MSE 0.0034, LPIPS (Alex) 0.042, identity 0.88, FID 6.06 for FFHQ at 1024 px on CelebA-HQ; with e4e's codes
    0.0035, 0.044, 0.87, 6.00 (GANInverter's table; MSE of images in [-1, 1]).
Cost: one pass of the encoder, 40 steps in W, 100 of the features, 50 of these with the generator's weights; 12 s per
    image on an RTX 3090 in GANInverter.
Command: lsap-jax encode IMAGES --config lsap_e_dhr --generator G --encoder FILE --perceptual LPIPS --out runs/lsap_dhr
"""

from ml_collections import ConfigDict

from lsap_jax.configs import lsap_e


def get_config() -> ConfigDict:
    config = lsap_e.get_config()
    config.refine = ConfigDict(dict(method="dhr"))
    return config
