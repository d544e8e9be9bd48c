"""train_hyperstyle: HyperStyle's hypernetwork for a generator and its encoder.

Paper: Alaluf et al., HyperStyle (arXiv 2111.15666), section 3; settings of the authors' code for faces, in images
    instead of steps of 8 images. Its codes come from a W encoder (`train-encoder --config train_e4e
    --config.encoder.heads=single`), but any encoder's will do.
Expected: MSE 0.0219, LPIPS 0.099, identity 0.74 for FFHQ at 1024 px and the W encoder on CelebA-HQ (GANInverter's
    table).
Cost: 4,000,000 images at most, each through five passes; `--stop_after SECONDS` ends it earlier, with all files
    written.
Command: lsap-jax train-refiner --config train_hyperstyle --generator ffhq.safetensors --encoder w_encoder.safetensors
    --config.data=ffhq --config.perceptual.weights=lpips_alex.safetensors
    --config.identity.weights=arcface.safetensors --out runs/hyperstyle
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            name="train_hyperstyle",
            method="hyperstyle",
            generator="",
            encoder="",
            seed=0,
            init="",
            total_images=4_000_000,
            snapshot_images=40_000,
            data="",
            extra_data=(),
            heldout=200,
            generator_file=True,
            float16=False,
            # size: "public" has the widths of the authors' network, "small" narrow ones, "auto" goes by the
            # generator's images. layers: names of the convolutions whose weights change, as "b8.conv0"; () is all.
            network=dict(size="auto", layers=(), passes=5),
            loss=dict(mse=1.0, perceptual=0.8, identity=0.1, moco=0.0),
            # Converted files: LPIPS (without it the discriminator's features), ArcFace for faces, MoCo for others.
            perceptual=dict(weights="", resolution=256),
            identity=dict(weights=""),
            moco=dict(weights=""),
            # precision: of convolutions where the device has several, as compute.precision of an inversion.
            train=dict(batch_size=8, lr=1e-4, noise_mode="const", mirror=True, precision="default"),
        )
    )
