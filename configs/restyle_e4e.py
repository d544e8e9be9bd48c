"""restyle_e4e: W+ codes by the passes of ReStyle's encoder, trained as e4e.

Paper: Alaluf et al., ReStyle: A Residual-Based StyleGAN Encoder via Iterative Refinement (arXiv 2104.02699).
Expected: LPIPS (Alex) 0.190, MSE 0.043 for FFHQ at 1024 px on CelebA-HQ (GANInverter's table).
Cost: the passes of the encoder and of the generator, five in the paper.
Command: lsap-jax encode IMAGES --config restyle_e4e --generator G --encoder FILE --out runs/restyle_e4e

The encoder is the one in FILE, else the one that comes with G; `train_restyle_e4e` trains one. To optimise from its
codes: lsap-jax invert IMAGES --config restyle_e4e --steps 100 --generator G --encoder FILE --out runs/restyle_e4e_100
"""

from ml_collections import ConfigDict

from lsap_jax.configs import encode


def get_config() -> ConfigDict:
    return encode.get_config()
