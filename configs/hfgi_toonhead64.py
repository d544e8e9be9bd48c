"""hfgi_toonhead64: small networks of HFGI for the bundled generator.

Paper: Wang et al., High-Fidelity GAN Inversion for Image Attribute Editing (arXiv 2109.06590).
Expected: validation.csv of the training shows it: held-out images by their codes alone and refined.
Cost: minutes on one GPU; `--stop_after SECONDS` ends it earlier, with all files written.
Command: lsap-jax train-refiner --config hfgi_toonhead64 --generator toonhead64 --config.data=PACK.npz --out runs/hfgi
"""

from ml_collections import ConfigDict

from lsap_jax.configs import train_hfgi


def get_config() -> ConfigDict:
    config = train_hfgi.get_config()
    config.name, config.generator = "hfgi_toonhead64", "toonhead64"
    config.total_images, config.snapshot_images = 256_000, 32_000
    config.loss.identity = 0.0
    # A few thousand steps have to do what the original does in 100,000.
    config.train.batch_size, config.train.lr = 32, 2e-3
    return config
