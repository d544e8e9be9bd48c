"""BDInvert with a floor under the variances of P_N, so that its smallest axes do not decide the prior.

Paper: as `bdinvert`; the floor is not in the paper. No variance counts as less than a thousandth of the largest.
    Without the floor, at the mean w of the bundled generator, where the inversion starts, 10 of 128 axes make up 98 %
    of the prior.
Expected: close to `bdinvert` in reconstruction; docs/comparison.md has both rows.
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --config bdinvert_floor --out runs/bdinvert_floor
"""

from ml_collections import ConfigDict

from lsap_jax.configs import bdinvert


def get_config() -> ConfigDict:
    config = bdinvert.get_config()
    config.eigenvalue_floor = 1e-3
    return config
