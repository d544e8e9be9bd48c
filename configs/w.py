"""W inversion: one w per image, starting at the mean w.

Paper: Karras et al., Analyzing and Improving the Image Quality of StyleGAN (CVPR 2020); compared in
    Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995).
Expected: LPIPS 0.23 to 0.48 on the five images of Fig. 2 of 2307.08995; its Table 1 has no entry. The authors' code
    truncates w inside the loop (--config.truncation.psi=0.7 --config.truncation.cutoff=8), which the paper does not
    mention.
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --space w --out runs/w
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "w"
    return config
