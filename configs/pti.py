"""PTI: W by the projector, then the generator is tuned to each image.

Paper: Pivotal Tuning for Latent-based Editing of Real Images (arXiv 2106.05744); settings of its authors' code.
Expected: MSE 0.0082, LPIPS 0.082, identity 0.85 for FFHQ at 1024 px on 2824 CelebA-HQ images (GANInverter's table;
    MSE of images in [-1, 1]).
Cost: 450 steps in W and at most 350 of the generator's weights, each about as long as a step of `w`; 59 s per image on
    an RTX 3090 in GANInverter. docs/refinement.md has the bytes per image.
Command: lsap-jax invert IMAGES --generator G --config pti --perceptual LPIPS --out runs/pti

The authors optimise noise maps beside w and discard them; here there are none.
"""

from ml_collections import ConfigDict

from lsap_jax.configs import projector


def get_config() -> ConfigDict:
    config = projector.get_config()
    config.steps = 450
    config.noise_maps = False
    config.loss.noise = 0.0
    config.optimizer.lr = 0.01
    config.refine = ConfigDict(dict(method="pti"))
    return config
