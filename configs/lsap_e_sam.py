"""lsap_e_sam: W+ codes by LSAP's encoder, refined by SAM.

Paper: Cao et al., LSAP (arXiv 2209.12746), whose second stage is SAM (arXiv 2206.08357) in GANInverter's variant.
Expected: MSE 0.0152, LPIPS (Alex) 0.1205, identity 0.60, FID 15.27 for FFHQ at 1024 px on CelebA-HQ, against MSE 0.0193
    from e4e's codes (GANInverter's table).
Cost: one pass of the encoder and 1001 steps; 67 s per image on an RTX 3090 in GANInverter.
Command: lsap-jax encode IMAGES --config lsap_e_sam --generator G --encoder FILE --perceptual LPIPS
    --out runs/lsap_e_sam
"""

from ml_collections import ConfigDict

from lsap_jax.configs import lsap_e


def get_config() -> ConfigDict:
    config = lsap_e.get_config()
    config.refine = ConfigDict(dict(method="sam", variant="ganinverter"))
    return config
