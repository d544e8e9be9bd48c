"""attributes_toonhead64: attribute classifier of the bundled generator.

Paper: none; it measures whether an edit changed what it was to change and left the rest.
Code: this package's own.
Data: ToonHead avatars with their exact labels (an archive with `images` and `label_*`); the last 300 are held out.
Expected: on the 300 held-out images 100.0 % of hair, hair colour, skin, clothes' colour and background, 98-100 % of
eyes, eyebrows, clothes and beards, 73 % of mouths (beards hide some, and at 64 px smile and sad differ by a pixel).
Cost: 15-25 minutes on 2 CPU cores.
Command: lsap-jax train-attributes avatars_64.npz --config attributes_toonhead64 --out toonhead64.attributes.safetensors
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
            epochs=20,
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
                "clothes",
                "clothesColor",
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
                dark_skin=dict(label="skinColor", positive=("#5c3829", "#a36b4f"), negative=("#c68e7a", "#f1c3a5")),
                long_hair=dict(label="rearHair", positive=("longStraight", "longWavy"), negative=("null",)),
                open_eyes=dict(label="eyes", positive=("happy", "wide"), negative=("bow", "humble")),
                wink=dict(label="eyes", positive=("wink",), negative=("bow", "happy", "humble", "wide")),
                angry_brows=dict(label="eyebrows", positive=("angry",), negative=("raised",)),
                turtle_neck=dict(
                    label="clothes", positive=("turtleNeck",), negative=("dress", "openJacket", "shirt", "tShirt")
                ),
                warm_background=dict(
                    label="primaryBackgroundColor",
                    positive=("#ffd5dc", "#ffdfbf"),
                    negative=("#b6e3f4", "#c0aede", "#d1d4f9"),
                ),
            ),
        )
    )
