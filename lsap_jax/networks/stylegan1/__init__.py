"""StyleGAN (Karras et al., CVPR 2019; NVIDIA's and GenForce's code decide details): configuration, mapping, synthesis.

Kernels of layers that upsample to 128 px and more, which the original fuses with a transposed convolution, are stored
flipped in height and width: one nearest-neighbour upsampling then serves all layers. Params are a plain nested dict
with the names of StyleGAN2's (`synthesis/b8/conv0/affine/weight`).
"""

from lsap_jax.networks.stylegan1.config import GeneratorConfig
from lsap_jax.networks.stylegan1.mapping import Mapping
from lsap_jax.networks.stylegan1.synthesis import Synthesis

__all__ = ["GeneratorConfig", "Mapping", "Synthesis"]
