"""train_styleres: the residual networks of StyleRes, for any StyleGAN2 and its encoder.

Paper: Pehlivan, Dalva, Dundar, StyleRes: Transforming the Residuals for Real Image Editing with StyleGAN (arXiv
    2212.14359), section 3; settings of the authors' code, with LPIPS in place of the MSE of VGG's relu4_3.
Expected: not measured for faces at 1024 px; that needs FFHQ and days on a GPU.
Cost: up to 12 million images, each twice through the generator, forwards and backwards, and twice through the encoder.
Command: lsap-jax train-refiner --config train_styleres --generator ffhq.safetensors --encoder e4e.safetensors
    --config.data=ffhq --config.perceptual.weights=lpips_vgg.safetensors --config.identity.weights=arcface.safetensors
    --config.discriminator.weights=ffhq256.safetensors --out runs/styleres
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            name="train_styleres",
            method="styleres",
            generator="",
            # A file of an encoder of pSp's family; the generator's own where there is none.
            encoder="",
            seed=0,
            init="",
            total_images=12_000_000,
            snapshot_images=40_000,
            data="",
            extra_data=(),
            heldout=200,
            # Besides refiner.safetensors write generator.safetensors, the generator with encoder and networks.
            generator_file=True,
            # Write the trained networks in float16: half the bytes.
            float16=False,
            # Of the block whose features are added to; 0 is 64 px, or a quarter of images below 256 px. width: channels
            # within the networks; 0 is those of the features.
            refiner=dict(resolution=0, width=0),
            # Random edits: probability, and the range of the share of the way to a random code.
            edits=dict(probability=0.5, low=0.4, high=0.5),
            # Of unedited images mse, perceptual and identity; of all the rest. addition: mean |dF|. cycle: of images
            # that were edited, encoded again and edited back.
            loss=dict(
                mse=1.0,
                perceptual=0.8,
                identity=0.1,
                adversarial=0.1,
                addition=5.0,
                cycle_perceptual=0.08,
                cycle_identity=0.1,
            ),
            # First weights of the discriminator: a file, else the generator's if it fits, else random ones.
            discriminator=dict(weights=""),
            # Converted files: LPIPS (without it the discriminator's features), ArcFace for faces.
            perceptual=dict(weights="", resolution=256),
            identity=dict(weights=""),
            # The rate is halved after every `halve_images` images, `halvings` times; 0 is never.
            train=dict(
                batch_size=8,
                lr=1e-4,
                halve_images=40_000,
                halvings=3,
                r1_gamma=10.0,
                noise_mode="const",
                mirror=True,
                precision="default",
            ),
        )
    )
