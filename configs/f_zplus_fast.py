"""F/Z+ inversion in an eighth of the steps: from the latent encoder's code, else as `f_zplus`.

Code: of this package.
Expected: on 50 held-out images of the old `toonhead64`, with its latent encoder, a loss of 0.102, where a random start
    has 0.141 after 1200 steps (MSE 0.0091 and 0.0094); see benchmarks/README.md.
Cost: 150 steps, each as in `f_zplus`, and the start: 300 steps of the mapping network per row of z. It is not the
    paper's random z, so the seed has no effect. Without a latent encoder in the generator it is the mean w, from which
    it takes about 300 steps.
Command: lsap-jax invert IMAGES --generator G --space f/z+:fast --out runs/f_zplus_fast
"""

from ml_collections import ConfigDict

from lsap_jax.configs import f_zplus


def get_config() -> ConfigDict:
    config = f_zplus.get_config()
    config.steps = 150
    config.init.detail = "near"
    return config
