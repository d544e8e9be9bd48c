"""e4e_hfgi: W+ codes by e4e's encoder, refined by HFGI.

Paper: Wang et al., High-Fidelity GAN Inversion for Image Attribute Editing (arXiv 2109.06590).
Expected: MSE 0.0210, LPIPS 0.117, identity 0.68 for FFHQ at 1024 px on CelebA-HQ (GANInverter's table).
Cost: one pass of the encoder, three of the generator, one of HFGI's networks.
Command: lsap-jax encode IMAGES --config e4e_hfgi --generator hfgi.safetensors --out runs/e4e_hfgi

hfgi.safetensors is HFGI's checkpoint, converted: generator, encoder and networks in one file. `train_hfgi` trains the
networks for any other generator and encoder.
"""

from ml_collections import ConfigDict

from lsap_jax.configs import e4e


def get_config() -> ConfigDict:
    config = e4e.get_config()
    config.refine = ConfigDict(dict(method="hfgi"))
    return config
