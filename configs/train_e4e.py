"""train_e4e: the encoder of e4e, for any StyleGAN2.

Paper: Tov et al., Designing an Encoder for StyleGAN Image Manipulation (arXiv 2102.02766); settings of the authors'
    code for faces, in images instead of steps of 8 images.
Expected: LPIPS (Alex) 0.20, MSE 0.047 for FFHQ at 1024 px on CelebA-HQ (GANInverter's table).
Cost: 1.6 million images; days on one GPU at 1024 px. Images of 64 px and less get a small trunk.
Command: lsap-jax train-encoder --config train_e4e --generator ffhq.safetensors --config.data=ffhq --out runs/e4e
    --config.perceptual.weights=lpips_alex.safetensors --config.identity.weights=arcface.safetensors
    --config.encoder.init=arcface.safetensors
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            name="train_e4e",
            generator="",
            seed=0,
            total_images=1_600_000,
            snapshot_images=40_000,
            data="",
            extra_data=(),
            heldout=200,
            # Besides encoder.safetensors write generator.safetensors, the generator with the encoder inside.
            generator_file=True,
            # Write the trained encoder in float16: half the bytes.
            float16=False,
            # heads: "pyramid", "last" (ReStyle) or "single" (one w). trunk: "irse50" and "resnet34" see 256 px, "small"
            # 64; "auto" goes by the generator's images. passes: above 1, of ReStyle. init: a file of ArcFace's
            # IR-SE50, whose trunk is taken, or of an encoder to go on with.
            encoder=dict(heads="pyramid", trunk="auto", progressive=True, passes=1, init=""),
            # Row 1 gets an offset of its own after `start` images, each next one after `every` more.
            stages=dict(start=160_000, every=16_000),
            # identity and moco need weights, see below; nscd is LSAP's alignment, adversarial the latent
            # discriminator's term.
            loss=dict(
                mse=1.0, perceptual=0.8, identity=0.1, moco=0.0, delta=2e-4, w_norm=0.0, nscd=0.0, adversarial=0.1
            ),
            # The latent discriminator: Adam's rate, R1, and the codes of earlier steps that it is shown.
            critic=dict(lr=2e-5, r1_gamma=10.0, r1_interval=16, pool=50),
            # What LSAP's paper leaves open: "sum" or "mean" over the layers, anchors brought to unit length, and 0 (the
            # code's negative similarity) or 1 (the distance) added to each layer.
            nscd=dict(reduce="sum", renormalise=False, offset=0.0),
            # Converted files: LPIPS (without it the discriminator's features), ArcFace for faces, MoCo for others.
            perceptual=dict(weights="", resolution=256),
            identity=dict(weights=""),
            moco=dict(weights=""),
            # precision: of convolutions where the device has several, as compute.precision of an inversion.
            train=dict(batch_size=8, lr=1e-4, noise_mode="random", mirror=True, precision="default"),
        )
    )
