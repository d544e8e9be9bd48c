"""e4e_hyperstyle: codes of an encoder, refined by HyperStyle's hypernetwork.

Paper: Alaluf et al., HyperStyle (arXiv 2111.15666); its codes come from a W encoder, but any encoder's will do.
Expected: MSE 0.0219, LPIPS 0.099, identity 0.74 for FFHQ at 1024 px on CelebA-HQ (GANInverter's table).
Cost: one pass of the encoder, six of the generator, five of the hypernetwork.
Command: lsap-jax encode IMAGES --config e4e_hyperstyle --generator G --encoder FILE --out runs/e4e_hyperstyle

G contains the hypernetwork; `lsap-jax refine RUN --method hyperstyle --weights FILE` takes it from a file of its own.
"""

from ml_collections import ConfigDict

from lsap_jax.configs import e4e


def get_config() -> ConfigDict:
    config = e4e.get_config()
    config.refine = ConfigDict(dict(method="hyperstyle"))
    return config
