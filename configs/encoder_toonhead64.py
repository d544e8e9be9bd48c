"""encoder_toonhead64: latent encoder of the bundled generator.

Paper: Zhu et al., In-Domain GAN Inversion for Real Image Editing (ECCV 2020), smaller.
Data: samples of the generator, and the images that it was trained on (see `toonhead64`).
Expected: `toonhead64` comes with an e4e encoder, which `make models` trains; this one is for comparison.
Cost: half an hour on 2 CPU cores, minutes on one GPU.
Command: lsap-jax train-encoder --generator toonhead64 --config.loss.mse=0 --config.loss.perceptual=0
    --config.train.decay_images=0 --config.total_images=48000 --out runs/encoder_latent
    for the codes alone, five times as fast per sample, and then for their images
    lsap-jax train-encoder --config encoder_toonhead64 --generator runs/encoder_latent/generator.safetensors
    --config.data=near_main.npz --out runs/encoder_toonhead64
"""

from ml_collections import ConfigDict

from lsap_jax.configs import encoder


def get_config() -> ConfigDict:
    config = encoder.get_config()
    config.name = "encoder_toonhead64"
    config.generator = "toonhead64"
    config.seed = 0
    config.total_images = 19_200
    config.snapshot_images = 1_600
    config.widths = (16, 32, 64, 96, 32)
    config.train.lr = 1e-3
    config.train.decay_images = 12_800
    return config
