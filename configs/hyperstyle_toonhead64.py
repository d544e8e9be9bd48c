"""hyperstyle_toonhead64: a small hypernetwork of HyperStyle for the bundled generator, 1.7 MB in float16.

Paper: Alaluf et al., HyperStyle (arXiv 2111.15666), with codes of the generator's own encoder.
Expected: 30.5 dB on 64 held-out images (validation.csv), 25.2 by their codes alone.
Cost: four minutes on one H100, 170 images a second; `--stop_after SECONDS` ends it earlier, with all files written.
Command: lsap-jax train-refiner --config hyperstyle_toonhead64 --config.data=PACK.npz --out runs/hyperstyle
"""

from ml_collections import ConfigDict

from lsap_jax.configs import train_hyperstyle


def get_config() -> ConfigDict:
    config = train_hyperstyle.get_config()
    config.name, config.generator = "hyperstyle_toonhead64", "toonhead64"
    config.total_images, config.snapshot_images = 32_704, 8_000
    config.float16 = True
    config.loss.identity = 0.0
    # A few thousand steps have to do what the original does in 500,000.
    config.train.batch_size, config.train.lr, config.train.mirror = 32, 1e-3, False
    return config
