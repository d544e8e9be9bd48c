"""StyleGAN2's projector: W with optimised noise maps, noise on w, and a learning rate that rises and falls.

Paper: Karras et al., Analyzing and Improving the Image Quality of StyleGAN (CVPR 2020), appendix D; settings of the
    stylegan2-ada-pytorch projector.
Expected: samples of the generator are reproduced closely, photographs only roughly. LPIPS if it is given, else the
    discriminator's features, replaces the original's VGG16 distance.
Cost: 1000 steps, each about 10 % more than `w` for the noise maps.
Command: lsap-jax invert IMAGES --generator G --config projector --out runs/projector
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "w"
    config.steps = 1000
    config.noise_maps = True
    config.loss.update(mse=0.0, perceptual=1.0, base=0.0, noise=1e5)
    config.optimizer.lr = 0.1
    config.optimizer.schedule = "ramp"
    config.latent_noise.scale = 0.05
    config.keep = "last"
    return config
