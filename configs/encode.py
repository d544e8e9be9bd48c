"""Embedding by an encoder alone: one pass per image, no step. What `lsap-jax encode` takes.

Code: of this package; the encoders' papers are those of their kinds (IDInvert, 2004.00049, for the bundled one).
Expected: the encoder's own quality; `invert --config idinvert` and `--space f/z+:fast` go on from there.
Cost: a pass of the encoder, and one evaluation of the losses, which the report shows.
Command: lsap-jax encode IMAGES --generator G --out runs/encoded
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.space = "w+"
    config.steps = 0
    config.init.detail = "encoder"
    config.keep = "last"
    return config
