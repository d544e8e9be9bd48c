"""train_styleres_toonhead64: StyleRes' networks for the bundled generator, 64 px, in a few minutes on a GPU.

Paper: Pehlivan, Dalva, Dundar, StyleRes (arXiv 2212.14359), section 3, with features of 16 px and networks of 72
    channels: 3.5 MB in float16.
Expected: 30.4 dB on 64 held-out images (validation.csv), 25.2 by their codes alone; 19.7 edited, encoded and edited
    back. With a learning rate of 1e-3 it diverged.
Cost: half an hour on two cores, at 7 images a second.
Command: lsap-jax train-refiner --config train_styleres_toonhead64 --config.data=pack.npz --out runs/styleres_toonhead64
"""

from ml_collections import ConfigDict

from lsap_jax.configs import train_styleres


def get_config() -> ConfigDict:
    config = train_styleres.get_config()
    config.name = "train_styleres_toonhead64"
    config.generator = "toonhead64"
    config.total_images, config.snapshot_images = 12_000, 2_000
    config.refiner.width, config.float16 = 72, True
    # The loss of faces at 1024 px holds the addition back so much that small images stay as their codes make them.
    config.loss.update(mse=5.0, perceptual=0.5, identity=0.0, adversarial=0.02, addition=0.05)
    config.loss.update(cycle_perceptual=0.05, cycle_identity=0.0)
    config.train.update(batch_size=16, lr=4e-4, halve_images=8_000, r1_gamma=1.0, mirror=False)
    return config
