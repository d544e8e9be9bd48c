"""LSAP_O: the projector's optimisation in W+ with the alignment term NSCD.

Paper: Cao et al., LSAP: Rethinking Inversion Fidelity, Perception and Editability in GAN Latent Space (arXiv
    2209.12746). No settings of LSAP_O are published: the objective (image + alignment) is from its figure, the weight
    0.5 of the sum over layers from the encoder's code, the optimiser from the authors' repository.
Expected: codes nearer to the generator's own (NSCD) than `wplus` at some cost in MSE; see docs/alignment.md.
Cost: 1000 steps, each as in `projector`.
Command: lsap-jax invert IMAGES --generator G --config lsap_o --out runs/lsap_o
"""

from ml_collections import ConfigDict

from lsap_jax.configs import projector


def get_config() -> ConfigDict:
    config = projector.get_config()
    config.space = "w+"
    config.loss.mse = 1.0
    config.loss.nscd = 0.5
    return config
