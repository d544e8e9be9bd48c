"""PTI after F/Z+: the layers above the base code are tuned to each image.

Paper: Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995) for F/Z+, Pivotal
    Tuning for Latent-based Editing of Real Images (arXiv 2106.05744) for the tuning; no paper combines them.
Expected: closer than `f_zplus` (MSE 0.0174 for FFHQ at 1024 px on 50 CelebA-HQ images); by how much is not published.
Cost: 1200 steps in F/Z+, and at most 350 of the generator's weights, those below the base code left out.
Command: lsap-jax invert IMAGES --generator G --config f_zplus_pti --perceptual LPIPS --out runs/f_zplus_pti
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.refine = ConfigDict(dict(method="pti"))
    return config
