"""StyleGAN2 (Karras et al., CVPR 2020; NVIDIA's checkpoints decide details): configuration, mapping, synthesis.

Modules are stateless: `params` is a plain nested dict whose names are those of NVIDIA's state dicts
(`synthesis/b8/conv0/affine/weight`). The buffers `w_avg` and `noise_const` live in the same tree; training leaves them
out (`lsap_jax.training`).
"""

from lsap_jax.networks.stylegan2.config import GeneratorConfig
from lsap_jax.networks.stylegan2.mapping import Mapping
from lsap_jax.networks.stylegan2.synthesis import Synthesis

__all__ = ["GeneratorConfig", "Mapping", "Synthesis"]
