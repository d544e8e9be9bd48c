"""restyle_psp: W+ codes by the passes of ReStyle's encoder, trained as pSp.

Paper: Alaluf et al., ReStyle: A Residual-Based StyleGAN Encoder via Iterative Refinement (arXiv 2104.02699).
Expected: nearer to the image than `restyle_e4e`, less editable.
Cost: the passes of the encoder and of the generator, five in the paper.
Command: lsap-jax encode IMAGES --config restyle_psp --generator G --encoder FILE --out runs/restyle_psp

The encoder is the one in FILE, else the one that comes with G; `train_restyle_psp` trains one. To optimise from its
codes: lsap-jax invert IMAGES --config restyle_psp --steps 100 --generator G --encoder FILE --out runs/restyle_psp_100
"""

from ml_collections import ConfigDict

from lsap_jax.configs import encode


def get_config() -> ConfigDict:
    return encode.get_config()
