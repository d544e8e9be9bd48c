"""train_restyle_psp: ReStyle's encoder with pSp's training: five passes, no regulariser.

Paper: Alaluf et al., ReStyle: A Residual-Based StyleGAN Encoder via Iterative Refinement (arXiv 2104.02699); settings
    of the authors' code.
Expected: nearer to the image than train_restyle_e4e, less editable.
Cost: as train_psp per pass.
Command: lsap-jax train-encoder --config train_restyle_psp --generator ffhq.safetensors --config.data=ffhq
    --out runs/restyle_psp and the files of weights, see train_e4e
"""

from ml_collections import ConfigDict

from lsap_jax.configs import train_psp


def get_config() -> ConfigDict:
    config = train_psp.get_config()
    config.name = "train_restyle_psp"
    config.encoder.update(heads="last", passes=5)
    return config
