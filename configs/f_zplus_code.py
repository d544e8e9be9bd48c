"""F/Z+ inversion as in the authors' released code, where it differs from the paper.

Code: invert_zp.py of the F/Z+ repository. Normalisation inside the graph instead of a retraction after the step,
    truncation psi 0.7 of the first 8 rows inside the loop, last iterate kept.
Expected: close to `f_zplus`; truncation limits how far the first rows move.
Cost: as `f_zplus`.
Command: lsap-jax invert IMAGES --generator G --space f/z+:code --out runs/f_zplus_code
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.retraction = "normalise"
    config.truncation.psi = 0.7
    config.truncation.cutoff = 8
    config.keep = "last"
    return config
