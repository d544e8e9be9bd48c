"""train_sam_toonhead64: a small invertibility network of SAM for the bundled generator, 64 px.

Paper: Parmar et al., Spatially-Adaptive Multilayer Selection for GAN Inversion and Editing (arXiv 2206.08357), section
    3.1, with offsets at 16 and 32 px and a network of 0.2 M parameters.
Expected: on 20 held-out images, a squared error of the codes' maps of 0.0033, against 0.0048 by the mean of all maps;
    the maps of the offsets are predicted as 0 (0.002 and 0.0006 measured).
Cost: 150 images with 150 steps for each latent, half an hour on two cores, then four minutes.
Command: lsap-jax train-refiner --config train_sam_toonhead64 --config.data=pack.npz --out runs/sam_toonhead64
"""

from ml_collections import ConfigDict

from lsap_jax.configs import train_sam


def get_config() -> ConfigDict:
    config = train_sam.get_config()
    config.name, config.generator = "train_sam_toonhead64", "toonhead64"
    config.images, config.heldout, config.map_steps, config.float16 = 150, 20, 150, True
    config.total_images, config.snapshot_images = 12_000, 2_000
    # The network begins at nothing, not at a ResNet that was trained on photographs.
    # SGD finds no more than the mean of the maps in this time.
    config.train.update(optimizer="adam", lr=3e-3)
    return config
