"""encoder: latent encoder for a large generator, in IDInvert's size.

Paper: Zhu et al., In-Domain GAN Inversion for Real Image Editing (ECCV 2020); architecture of the authors' code at
256 px. Samples with known ws replace the adversarial term.
Expected: start of W+ codes for the preset `idinvert`, or of any other space (`init.detail=encoder`).
Cost: a day on one GPU for a 1024-px generator.
Command: lsap-jax train-encoder --generator ffhq.safetensors --config.data=ffhq --out runs/encoder
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            name="encoder",
            generator="",
            seed=1,
            total_images=1_600_000,
            snapshot_images=80_000,
            # Real images beside the samples, as many per batch: a folder or a pack; the last `heldout` are left out.
            data="",
            extra_data=(),
            heldout=200,
            # Channels of the first convolution and after each halving: n widths take images of 4 · 2^(n - 1) px.
            widths=(64, 128, 256, 512, 1024, 1024, 1024),
            truncation=dict(psi=1.0, cutoff=-1),
            # latent: weight of the mean square of ws - E(x) of samples.
            loss=dict(mse=1.0, perceptual=1.0, latent=1.0),
            # weights: a converted LPIPS-VGG file; without it the discriminator's features.
            perceptual=dict(weights="", resolution=256),
            train=dict(batch_size=16, lr=1e-4, decay_images=0, decay_factor=0.1),
        )
    )
