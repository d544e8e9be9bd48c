"""Semantic diffusion: IDInvert blends the inside of a target's mask into a context, as one picture.

Paper: Zhu et al., In-Domain GAN Inversion for Real Image Editing (ECCV 2020), section 4.3; code: genforce/
    idinvert_pytorch, diffuse: as `idinvert` without the domain term, and only what is under the mask counts.
Expected: the target's inside, with surroundings that the generator makes from the context's code.
Cost: 100 steps.
Command: lsap-jax invert TARGETS --generator styleganinv.safetensors --config idinvert_diffusion --masks MASKS \
    --context CONTEXT.png --out runs/diffusion

With --config.perceptual.network=vgg --config.loss.perceptual=5e-5 the loss is the authors'.
"""

from ml_collections import ConfigDict

from lsap_jax.configs import idinvert


def get_config() -> ConfigDict:
    config = idinvert.get_config()
    config.loss.domain = 0.0
    return config
