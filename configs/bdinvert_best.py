"""BDInvert that keeps the best iterate, as `f_zplus` does, so that this choice favours neither of the two.

Paper: as `bdinvert`, whose authors keep the last iterate.
Expected: a little better than `bdinvert`; docs/comparison.md has both rows.
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --config bdinvert_best --out runs/bdinvert_best
"""

from ml_collections import ConfigDict

from lsap_jax.configs import bdinvert


def get_config() -> ConfigDict:
    config = bdinvert.get_config()
    config.keep = "best"
    return config
