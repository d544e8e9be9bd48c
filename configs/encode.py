"""Embedding by an encoder alone: one pass per image, no steps; the default of `lsap-jax encode`.

Code: this package's own; each kind of encoder has its paper (e4e, 2102.02766, for the bundled one).
Expected: the encoder's own quality; `invert --config idinvert` and `--space f/z+:fast` go on from there.
Cost: one pass of the encoder, and one evaluation of the losses, which the report shows.
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
