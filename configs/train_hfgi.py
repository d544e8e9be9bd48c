"""train_hfgi: HFGI's networks for a generator and its encoder.

Paper: Wang et al., High-Fidelity GAN Inversion for Image Attribute Editing (arXiv 2109.06590), section 3; settings of
    the authors' code for faces, in images instead of steps of 8 images. Its loss has no adversarial term.
Expected: MSE 0.0210, LPIPS 0.117, identity 0.68 for FFHQ at 1024 px and e4e on CelebA-HQ (GANInverter's table).
Cost: 800,000 images; two days on one GPU at 1024 px.
Command: lsap-jax train-refiner --config train_hfgi --generator ffhq.safetensors --encoder e4e.safetensors
    --config.data=ffhq --config.perceptual.weights=lpips_alex.safetensors
    --config.identity.weights=arcface.safetensors --out runs/hfgi
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            name="train_hfgi",
            method="hfgi",
            generator="",
            encoder="",
            seed=0,
            init="",
            total_images=800_000,
            snapshot_images=40_000,
            data="",
            extra_data=(),
            heldout=200,
            # Besides refiner.safetensors write generator.safetensors, the generator with the networks inside.
            generator_file=True,
            # size: "public" has the widths of the authors' networks, "small" narrow ones, "auto" goes by the
            # generator's images. resolution: of the block whose features are changed; 0 is 64 px, or 16 px where images
            # are smaller than 256 px.
            network=dict(size="auto", resolution=0),
            # Details are shown to the aligner in another perspective: how far a corner moves at most, as a share of
            # half a side, and the chance of it.
            perspective=dict(scale=0.15, chance=0.9),
            # residual: |aligned details - details|. identity and moco need weights, see below.
            loss=dict(mse=1.0, perceptual=0.8, identity=0.1, moco=0.0, residual=0.1),
            # Converted files: LPIPS (without it the discriminator's features), ArcFace for faces, MoCo for others.
            perceptual=dict(weights="", resolution=256),
            identity=dict(weights=""),
            moco=dict(weights=""),
            # precision: of convolutions where the device has several, as compute.precision of an inversion.
            train=dict(batch_size=8, lr=1e-4, noise_mode="const", mirror=True, precision="default"),
        )
    )
