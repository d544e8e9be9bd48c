"""attributes_toonhead64: attribute classifier of the bundled generator.

Paper: none; it measures whether an edit changed what it should and left the rest as it was.
Code: this package's own.
Data: ToonHead avatars with their exact labels (an archive with `images` and `label_*`); the last 300 are held out.
Expected: see the model card beside the weights.
Cost: 15-25 minutes on 2 CPU cores.
Command: lsap-jax train-attributes near_attributes.npz --config attributes_toonhead64 --out attributes.safetensors
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            name="attributes_toonhead64",
            licence="CC BY 4.0 (ToonHead by Johan Melin)",
            # Whose images it is for: its digest is recorded in the file; "" for no generator.
            generator="toonhead64",
            seed=0,
            heldout=300,
            epochs=10,
            # () is all labels of the archive.
            labels=(
                "hair",
                "rearHair",
                "hairColor",
                "skinColor",
                "beard",
                "mouth",
                "eyes",
                "eyebrows",
                "primaryBackgroundColor",
            ),
            widths=(24, 48, 64, 96, 128),
            # See lsap_jax.training.attributes.Augmentation.
            augment=dict(shift=3, blur=2.0, noise=0.1, contrast=0.05, brightness=0.03),
            train=dict(batch_size=64, lr=2e-3, warmup=0.05, weight_decay=1e-2),
            # Attributes with two sides: the log-odds of the values of one against those of the other.
            binary=dict(
                smile=dict(label="mouth", positive=("smile", "laugh"), negative=("sad", "angry")),
                open_mouth=dict(label="mouth", positive=("agape", "laugh"), negative=("smile", "sad", "angry")),
                closed_eyes=dict(label="eyes", positive=("bow", "humble"), negative=("happy", "wide")),
                wide_eyes=dict(label="eyes", positive=("wide",), negative=("happy",)),
                wink=dict(label="eyes", positive=("wink",), negative=("bow", "happy", "humble", "wide")),
                angry_brows=dict(label="eyebrows", positive=("angry",), negative=("raised",)),
                sad_brows=dict(label="eyebrows", positive=("sad",), negative=("neutral", "angry")),
                beard=dict(
                    label="beard",
                    positive=("chin", "chinMoustache", "fullBeard", "longBeard", "moustacheTwirl"),
                    negative=("null",),
                ),
                full_beard=dict(
                    label="beard",
                    positive=("fullBeard", "longBeard"),
                    negative=("null", "chin", "chinMoustache", "moustacheTwirl"),
                ),
                blond_hair=dict(label="hairColor", positive=("#d6b370", "#b58143"), negative=("#2c1b18", "#724133")),
                red_hair=dict(label="hairColor", positive=("#a55728",), negative=("#2c1b18", "#724133")),
                long_hair=dict(label="rearHair", positive=("longStraight", "longWavy"), negative=("null",)),
                dark_skin=dict(label="skinColor", positive=("#5c3829", "#a36b4f"), negative=("#c68e7a", "#f1c3a5")),
                warm_background=dict(
                    label="primaryBackgroundColor",
                    positive=("#ffd5dc", "#ffdfbf"),
                    negative=("#b6e3f4", "#c0aede", "#d1d4f9"),
                ),
            ),
        )
    )
