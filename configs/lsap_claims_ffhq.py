"""What LSAP claims, tested with the public encoders of FFHQ, beside the table of the authors' repository.

Paper: LSAP (arXiv 2209.12746); numbers of caopulan/GANInverter, README, on the 2,824 test images of CelebA-HQ. That
    README itself says that they may differ from the paper's.
Expected: for the encoders, about the repository's numbers on its images. Never run on CelebA-HQ here.
Cost: 1024 px needs an accelerator. The encoders take seconds, the optimisations 1,200 steps per image.
Command: lsap-jax compare CELEBA_HQ --config lsap_claims_ffhq --generator ffhq.safetensors --perceptual
    lpips_alex.safetensors --config.encoders=encoders --count 2824 --out runs/lsap_ffhq

The folder encoders has psp.safetensors, e4e.safetensors, lsap_e.safetensors and restyle_e4e.safetensors, made by
`lsap-jax convert` from the repository's release v0.1 (psp_ffhq_r50_wp_official.pt and so on). Images are aligned as in
FFHQ. The released encoders were not trained for equally many steps, so the verdict is on these files, not on the term.
Without a classifier of attributes, the success of edits is unknown: they are compared at the same strength.
"""

import math

from ml_collections import ConfigDict

from lsap_jax.configs import lsap_claims

# PSNR, MSE, LPIPS, identity, FID of each method, as printed.
PUBLISHED = {
    "w": (15.8460, 0.0670, 0.1967, 0.32, 25.7447),
    "w+": (20.5940, 0.0242, 0.1092, 0.77, 17.0812),
    "psp": (18.0348, 0.0345, 0.1591, 0.56, 25.2540),
    "e4e": (16.6616, 0.0472, 0.1974, 0.50, 28.4952),
    "lsap_e": (17.4958, 0.0391, 0.1765, 0.53, 29.3118),
    "restyle_e4e": (17.0903, 0.0428, 0.1904, 0.51, 25.5141),
    "hyperstyle": (20.0864, 0.0219, 0.0985, 0.74, 21.6660),
    "pti": (24.6131, 0.0082, 0.0817, 0.85, 14.2792),
    "hfgi of e4e": (20.1402, 0.0210, 0.1166, 0.68, 16.0659),
    "sam of e4e": (20.5933, 0.0193, 0.1442, 0.57, 17.3631),
    "sam of lsap_e": (21.6179, 0.0152, 0.1205, 0.60, 15.2710),
    "dhr of e4e": (28.1661, 0.0035, 0.0438, 0.87, 5.9960),
    "dhr of lsap_e": (28.2786, 0.0034, 0.0422, 0.88, 6.0594),
}
CONSTANT = 10 * math.log10(2)  # what a PSNR of 10 log10(2 / MSE) lacks on [-1, 1]


def _row(psnr: float, mse: float, lpips: float, identity: float, fid: float) -> dict[str, float]:
    row = dict(mse=mse, psnr=round(psnr + CONSTANT, 4), psnr_as_printed=psnr, lpips_alex=lpips)
    return row | dict(identity_curricularface=identity, fid=fid)


def get_config() -> ConfigDict:
    config = lsap_claims.get_config()
    encoders = ("psp", "e4e", "lsap_e", "restyle_e4e")
    optimisations = ("w", "w+", "lsap_o", "z+", "f/z+", "f/z+:fast")
    config.presets = (*(f"{name}@{name}.safetensors" for name in encoders), *optimisations)
    config.most_steps = 1200
    config.edits = "edit_figure6"
    # Five strengths of GANSpace's directions, steps of the same size in every method.
    config.edit_overrides = (("strengths", (-2.0, -1.0, 0.0, 1.0, 2.0)), ("variants", ("fair",)))
    config.test.candidate = "lsap_e"
    config.test.baseline = "e4e"
    config.claim.candidate = ("lsap_e",)
    config.claim.baseline = ("e4e",)
    config.claim.strength = 2.0
    config.claim.weights = ()
    config.published = ConfigDict(
        dict(
            ganinverter=dict(
                source="caopulan/GANInverter, README, benchmark v1: means over 2,824 CelebA-HQ images at 256 px",
                note="Its MSE is on [-1, 1], as ours. Its PSNR is 10 log10(2 / MSE), 3.01 dB below ours: the column "
                "psnr has that added. Its README says LPIPS of VGG, but its script takes AlexNet, and the values fit. "
                "Identity is CurricularFace's on MTCNN's crops, and FID that of saved pictures against the "
                "folder of targets. FID is better of e4e (28.50) than of LSAP_E (29.31).",
                rows={name: _row(*numbers) for name, numbers in PUBLISHED.items()},
            )
        )
    )
    return config
