"""e4e_styleres: W+ codes by e4e's encoder; StyleRes' residuals restore what they lost.

Paper: Pehlivan, Dalva, Dundar, StyleRes: Transforming the Residuals for Real Image Editing with StyleGAN (arXiv
    2212.14359).
Expected: not measured here for FFHQ at 1024 px; `evaluate RUN` measures it.
Cost: one pass of the encoder and one of the generator's lower layers; an edit costs one pass of the generator.
Command: lsap-jax encode IMAGES --config e4e_styleres --generator styleres_ffhq.safetensors --refine styleres
    --out runs/styleres

The generator's file contains encoder and residual networks: `lsap-jax convert styleres_ffhq.pth
styleres_ffhq.safetensors` makes it; for other generators, use `lsap-jax train-refiner --config train_styleres`.
"""

from ml_collections import ConfigDict

from lsap_jax.configs import encode


def get_config() -> ConfigDict:
    return encode.get_config()
