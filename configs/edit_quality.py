"""How well the attributes of the bundled generator can be edited in each space: success, preservation, realism.

Paper: Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995), Fig. 6, but with
    attributes whose truth is known instead of an identity network. Strengths are standard deviations of synthetic
    codes along InterFaceGAN's directions, towards the other side of the attribute: a smiling face stops smiling.
Expected: in every space, success rises and realism falls with the strength; the measurement compares the spaces at
    equal success.
Cost: 50 images, 8 directions and 9 strengths are 3,600 edits per space: about a minute at 64 px on 2 CPU cores.
Command: lsap-jax edit-quality RUN RUN --out runs/edit_quality
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            # As `lsap-jax edit --direction` takes them; they are looked up for the family of every run's space.
            directions=(
                "smile", "open_mouth", "closed_eyes", "beard",
                "blond_hair", "dark_skin", "long_hair", "warm_background",
            ),
            strengths=(0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0),
            # Strengths point away from the side of the attribute that the inversion is on; images on neither are left
            # out.
            toggle=True,
            # "fair", and "published" with the asymmetries of the authors' scripts, in w+ and f/w+ alone: codes are
            # truncated at edit time, and GANSpace's coordinate is absolute. All other spaces are measured once.
            variants=("fair",),
            # Levels of success at which spaces are compared, direction by direction.
            levels=(0.25, 0.5, 0.75),
            # Latent editing consistency and cycle consistency: pictures of runs of at most so many steps are inverted
            # again, and refined again where that takes no more. 0 is encoders, and refiners of one pass, alone, -1
            # none; with 300 every picture of an edit takes an optimisation of 300 steps.
            lec_steps=0,
            # Names of two runs whose difference at equal success is reported: candidate minus baseline.
            candidate="",
            baseline="",
            # Classifier of attributes: a file of `lsap-jax train-attributes`; "" is the bundled one where it fits,
            # "none" leaves it out.
            attributes="",
            # Weights of a face network that `lsap-jax convert` wrote; "" leaves identities out. `detect` finds the face
            # first (MTCNN), as the paper does; without it, and for ArcFace, images count as aligned.
            identity="",
            detect=True,
            # Real images, as `lsap-jax invert` takes them, and of how many at most (0 is all): KID of edited images
            # against those that have the attribute asked for, and with Inception weights FID.
            real=(),
            most_real=1000,
            inception="",
            batch_size=32,
            # Images whose edits the page shows.
            shown=2,
            # Mean identity similarities of a paper to show beside ours: source, note and rows by space.
            published=dict(),
        )
    )  # fmt: skip
