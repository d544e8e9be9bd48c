"""e4e_styleres: codes of W+ by e4e's encoder, and what they lost by StyleRes' residuals.

Paper: Pehlivan, Dalva, Dundar, StyleRes: Transforming the Residuals for Real Image Editing with StyleGAN (arXiv
    2212.14359).
Expected: not measured here for FFHQ at 1024 px; `evaluate RUN` measures it.
Cost: a pass of the encoder and one of the generator's lower layers; an edit costs one pass of the generator.
Command: lsap-jax encode IMAGES --config e4e_styleres --generator styleres_ffhq.safetensors --refine styleres
    --out runs/styleres

The generator's file has encoder and residual networks: `lsap-jax convert styleres_ffhq.pth styleres_ffhq.safetensors`
makes it, and `lsap-jax train-refiner --config train_styleres` does for other generators.
"""

from ml_collections import ConfigDict

from lsap_jax.configs import encode


def get_config() -> ConfigDict:
    return encode.get_config()
