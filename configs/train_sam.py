"""train_sam: SAM's invertibility network for a generator and its encoder.

Paper: Parmar et al., Spatially-Adaptive Multilayer Selection for GAN Inversion and Editing (arXiv 2206.08357), section
    3.1; settings of the authors' code, in images instead of 100 epochs.
Expected: validation.csv has the error of the predicted maps of held-out images, and how much the measured maps vary.
Cost: fits of `map_steps` steps for the codes and for each layer of every image, 2500 a picture at 1024 px, and 160,000
    images of 256 px through a ResNet-101.
Command: lsap-jax train-refiner --config train_sam --generator ffhq.safetensors --encoder e4e.safetensors
    --config.data=ffhq --config.perceptual.weights=lpips_vgg.safetensors --out runs/sam
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            name="train_sam",
            method="sam",
            generator="",
            # A file of an encoder, whose codes the fits begin at; empty is the one that comes with the generator.
            encoder="",
            seed=0,
            init="",
            total_images=160_000,
            snapshot_images=16_000,
            # Images, as a folder or a pack (.npz), of which the last `heldout` are never trained on; where there are
            # none, samples of the generator. `images`: how many of them are fitted.
            data="",
            extra_data=(),
            images=1600,
            heldout=50,
            generator_file=True,
            # Weights in float16 in these files.
            float16=False,
            # size: "public" has the widths of the authors' network, "small" narrow ones, "auto" goes by the generator's
            # images. layers: resolutions of blocks whose features are offset, as "16,32"; empty is the original's.
            network=dict(size="auto", layers=""),
            # Steps of the fit by each latent alone, and the weights of their loss.
            map_steps=501,
            loss=dict(mse=1.0, perceptual=1.0, mvg=1e-8, delta=1e-3, offset=5.0),
            # Converted file of LPIPS-VGG; without it the discriminator's features.
            perceptual=dict(weights="", resolution=256),
            # lr is that of the ResNet, all else has ten times as much. precision: of convolutions where the device has
            # several, as compute.precision of an inversion.
            # optimizer: "sgd" as the authors', or "adam", which has one rate for all.
            train=dict(
                batch_size=16,
                optimizer="sgd",
                lr=1e-4,
                momentum=0.9,
                decay=5e-4,
                blur=0.5,
                mirror=True,
                precision="default",
            ),
        )
    )
