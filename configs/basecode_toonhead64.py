"""basecode_toonhead64: base-code encoder E of the bundled generator.

Paper: Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995) §3.2; BDInvert's loss.
Data: only samples of the generator itself.
Expected: see the model card beside the weights.
Cost: 6-8 minutes on 2 CPU cores.
Command: lsap-jax train-basecode --config basecode_toonhead64 --out runs/basecode_toonhead64
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            name="basecode_toonhead64",
            generator="toonhead64",
            seed=0,
            total_images=9_600,
            snapshot_images=1_600,
            # Resolution s of f (0: an eighth of the image, at most 16) and channels of the three stages.
            base_resolution=8,
            widths=(16, 32, 64),
            truncation=dict(psi=1.0, cutoff=-1),
            # feature: weight of the squared distance to the generator's own feature, which the paper does not use.
            loss=dict(mse=1.0, perceptual=10.0, feature=0.0),
            # weights: a converted LPIPS file; without it the discriminator's features.
            perceptual=dict(weights="", resolution=256),
            train=dict(batch_size=16, lr=1e-3, decay_images=4_800, decay_factor=0.1),
        )
    )
