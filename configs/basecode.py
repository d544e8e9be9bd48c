"""basecode: base-code encoder E for a large generator, the paper's setting.

Paper: Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995) §3.2; schedule, widths
and truncation are those of BDInvert's code (10,000 steps of 16 samples, Adam 1e-3 divided by 10 every 2,000 steps).
Expected: gives the start of f for F/Z+ at 1024 px; 12.4 M parameters.
Cost: hours on one GPU.
Command: lsap-jax train-basecode --config basecode --config.generator=ffhq.safetensors --out runs/basecode
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            name="basecode",
            generator="",
            seed=1,
            total_images=160_000,
            snapshot_images=16_000,
            base_resolution=16,
            widths=(128, 256, 512),
            truncation=dict(psi=0.7, cutoff=8),
            loss=dict(mse=1.0, perceptual=10.0, feature=0.0),
            # weights: a converted LPIPS-VGG file, as in the paper; without it the discriminator's features.
            perceptual=dict(weights="", resolution=256),
            train=dict(batch_size=16, lr=1e-3, decay_images=32_000, decay_factor=0.1),
        )
    )
