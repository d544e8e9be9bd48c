"""toonhead64: the bundled generator, a small StyleGAN2 of drawn 64-px faces.

Paper: Karras et al., Analyzing and Improving the Image Quality of StyleGAN (CVPR 2020); R1 (Mescheder et al., ICML
    2018).
Data: "ToonHead" by Johan Melin (CC BY 4.0) rendered with DiceBear 9.4.3 (assets/LICENSE.md says how), packed as
    `images`, `ids` and `label_*` in near_main.npz; the last 200 images of `data` are held out.
Expected: clean faces, hair, eyes and mouths; see the model card beside the weights.
Cost: 20-40 images per second on 2 CPU cores; 2,300 on an H200 in batches of 32 (3,100 without windows), where
    --stop_after=400 ends after seven minutes.
Command: lsap-jax train-generator --config toonhead64 --config.data=near_main.npz --out runs/toonhead64
    The weights that are bundled come from an H200, by the command in the model card beside them.
"""

from ml_collections import ConfigDict

TAPS = (0.125, 0.375, 0.375, 0.125)
CHANNELS = (128, 128, 96, 48, 24)


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            name="toonhead64",
            licence="CC BY 4.0 (ToonHead by Johan Melin)",
            data="near_main.npz",
            extra_data=(),
            heldout=200,
            mirror=False,
            init="",
            seed=0,
            total_images=1_000_000,
            snapshot_images=20_000,
            generator=dict(
                img_resolution=64,
                channels=CHANNELS,
                z_dim=128,
                w_dim=128,
                layer_features=128,
                mapping_layers=4,
                w_avg_beta=0.998,
                resample_filter=TAPS,
            ),
            # Windows of the images with discriminators of their own, in px; they serve the training and are not saved.
            # Mouths are a few faint pixels: without these the generator draws one in 61 % of its faces.
            windows=dict(
                eyes=dict(top=14, left=16, size=32, channels=(128, 128, 96, 48), r1_gamma=0.1),
                mouth=dict(top=40, left=24, size=16, channels=(128, 128, 96), r1_gamma=0.02),
            ),
            discriminator=dict(img_resolution=64, channels=CHANNELS, resample_filter=TAPS),
            train=dict(
                # Small batches make more of each image: after 100,000 images at 8 faces had both eyes, which they did
                # not have after 44,000 at 32.
                batch_size=8,
                lr=0.0015,
                r1_gamma=1.0,
                r1_interval=16,
                path_length_weight=0.0,
                ema_halflife=10_000.0,
                style_mixing=0.5,
                augment_p=0.0,
                augment_target=None,
                decay_start=0,
                decay_images=0,
                precision="default",
            ),
        )
    )
