"""Identity similarity under GANSpace edits: Figure 6 and the table of 50 images of the F/Z+ paper, for FFHQ users.

Paper: Revisiting Latent Space of GAN Inversion for Robust Real Image Editing (arXiv 2307.08995), §4.3: 50 CelebA-HQ
    images, 5 directions, 11 strengths from -2 to 2, InceptionResnetV1 (VGGFace2) on MTCNN crops.
Code: raven38/hypershpere-gan-inversion. Its scripts do not edit W+ as they edit Z+: they truncate codes at edit time,
    which the inversion did not do, and move to an absolute coordinate; the variant "published" does so, too.
Expected: the paper reports 0.373 for F/Z+, and 0.327 for what its text calls F/W+ and its Fig. 6 F/W+ (P_N).
    Never run on CelebA-HQ here.
Cost: 2,750 edits per run and variant; minutes on an accelerator at 1024 px.
Command: lsap-jax edit-quality RUN RUN --config edit_figure6 --identity facenet.safetensors --out runs/figure6
"""

from ml_collections import ConfigDict

from lsap_jax.configs import edit_quality


def get_config() -> ConfigDict:
    config = edit_quality.get_config()
    config.directions = ("ganspace:10-14",)
    config.strengths = (-2.0, -1.6, -1.2, -0.8, -0.4, 0.0, 0.4, 0.8, 1.2, 1.6, 2.0)
    config.toggle = False
    config.variants = ("fair", "published")
    config.attributes = "none"
    config.published = ConfigDict(
        dict(
            source="arXiv 2307.08995, 50 CelebA-HQ images, 5 directions, 11 strengths",
            note="identity similarity, mean over all edits; images without a face are not mentioned; the text has "
            "0.327 for F/W+, its Fig. 6 is of F/W+ (P_N)",
            rows=ConfigDict({"f/z+": 0.373, "f/w+": 0.327}),
        )
    )
    return config
