"""SAM with Z+ codes: every segment of an image gets its code on the hypersphere or an offset of features.

Paper: Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995), Figures 9 to 11, which
    do not state how; SAM is arXiv 2206.08357. The recipe is ours: codes start at the Z+ inversion, are retracted after
    each step, and keep their truncation; their learning rate is the inversion's, that of the offsets is SAM's.
Expected: on the five images of Figure 9 LPIPS 0.058 to 0.384 and MSE 0.0025 to 0.0095, against 0.061 to 0.380 and
    0.0023 to 0.0098 for SAM in W+.
Cost: 1200 steps in Z+ and 1001 of SAM.
Command: lsap-jax invert IMAGES --generator G --config zplus_sam --perceptual LPIPS --out runs/zplus_sam
"""

from ml_collections import ConfigDict

from lsap_jax.configs import zplus


def get_config() -> ConfigDict:
    config = zplus.get_config()
    config.refine = ConfigDict(dict(method="sam"))
    return config
