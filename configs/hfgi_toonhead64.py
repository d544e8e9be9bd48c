"""hfgi_toonhead64: small networks of HFGI for the bundled generator, 1.0 MB in float16.

Paper: Wang et al., High-Fidelity GAN Inversion for Image Attribute Editing (arXiv 2109.06590).
Expected: 31.3 dB on 64 held-out images (validation.csv), 25.2 by their codes alone.
Cost: two minutes on one H100, at 1,000 images a second, plus compilation; `--stop_after SECONDS` ends it earlier, with
    all files written.
Command: lsap-jax train-refiner --config hfgi_toonhead64 --generator toonhead64 --config.data=PACK.npz --out runs/hfgi
"""

from ml_collections import ConfigDict

from lsap_jax.configs import train_hfgi


def get_config() -> ConfigDict:
    config = train_hfgi.get_config()
    config.name, config.generator = "hfgi_toonhead64", "toonhead64"
    config.total_images, config.snapshot_images = 75_200, 16_000
    config.float16 = True
    config.loss.identity = 0.0
    # A few thousand steps have to do what the original does in 100,000.
    config.train.batch_size, config.train.lr, config.train.mirror = 32, 2e-3, False
    return config
