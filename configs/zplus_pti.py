"""PTI with pivots in Z+: codes on the hypersphere, then the generator is tuned to each image.

Paper: Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995), Figure 9, which does
    not state steps and sizes; settings of `zplus` and of PTI (arXiv 2106.05744).
Expected: on the five images of Figure 9 LPIPS 0.063 to 0.302 and MSE 0.0047 to 0.0092, against 0.064 to 0.303 and
    0.0053 to 0.0104 for PTI in W.
Cost: 1200 steps in Z+ and at most 350 of the generator's weights.
Command: lsap-jax invert IMAGES --generator G --config zplus_pti --perceptual LPIPS --out runs/zplus_pti

The mapping network does not change, so directions found with it still fit. The authors' code for 3D generators tunes
it, too: --config.refine.mapping=true.
"""

from ml_collections import ConfigDict

from lsap_jax.configs import zplus


def get_config() -> ConfigDict:
    config = zplus.get_config()
    config.refine = ConfigDict(dict(method="pti"))
    return config
