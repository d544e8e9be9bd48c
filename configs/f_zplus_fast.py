"""F/Z+ inversion in an eighth of the steps: from the latent encoder's code, otherwise as `f_zplus`.

Code: this package's own.
Expected: on 50 held-out images of the old `toonhead64`, with its latent encoder, a loss of 0.102; a random start has
    0.141 after 1200 steps (MSE 0.0091 and 0.0094); see benchmarks/README.md.
Cost: 150 steps, each as in `f_zplus`, and the start: 300 steps of the mapping network per row of z. The start is not
    the paper's random z, so the seed has no effect. If the generator has no latent encoder, the start is the mean w,
    and about 300 steps are needed.
Command: lsap-jax invert IMAGES --generator G --space f/z+:fast --out runs/f_zplus_fast
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.steps = 150
    config.init.detail = "near"
    return config
