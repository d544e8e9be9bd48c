"""BDInvert with the best iterate kept, as `f_zplus` keeps it: neither of the two has an advantage by its choice.

Paper: as `bdinvert`, whose authors keep the last iterate.
Expected: a little ahead of `bdinvert`; docs/comparison.md has both rows.
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --config bdinvert_best --out runs/bdinvert_best
"""

from ml_collections import ConfigDict

from lsap_jax.configs import bdinvert


def get_config() -> ConfigDict:
    config = bdinvert.get_config()
    config.keep = "best"
    return config
