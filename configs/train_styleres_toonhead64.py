"""train_styleres_toonhead64: StyleRes' networks for the bundled generator, 64 px, in a few minutes of a GPU.

Paper: Pehlivan, Dalva, Dundar, StyleRes (arXiv 2212.14359), section 3, at 16 px of features, with networks of 72
    channels: 3.5 MB in float16.
Expected: not measured yet; validation.csv has the PSNR of held-out images, refined and by their codes alone.
Cost: some minutes of one H100, see --stop_after.
Command: lsap-jax train-refiner --config train_styleres_toonhead64 --encoder e4e.safetensors --config.data=pack.npz
    --stop_after 240 --out runs/styleres_toonhead64
"""

from ml_collections import ConfigDict

from lsap_jax.configs import train_styleres


def get_config() -> ConfigDict:
    config = train_styleres.get_config()
    config.name = "train_styleres_toonhead64"
    config.generator = "toonhead64"
    config.total_images, config.snapshot_images = 480_000, 32_000
    config.refiner.width, config.float16 = 72, True
    # The loss of faces at 1024 px holds the addition back so much that small images stay as their codes make them.
    config.loss.update(mse=5.0, perceptual=0.5, identity=0.0, adversarial=0.02, addition=0.05)
    config.loss.update(cycle_perceptual=0.05, cycle_identity=0.0)
    config.train.update(batch_size=16, lr=1e-3, halve_images=120_000, r1_gamma=1.0)
    return config
