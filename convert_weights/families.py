"""Networks that are not supported, by the names of their tensors: a refusal says what a file is.

A pattern is searched at the start of a name or after a separator, wherever the network lies in the file. Families whose
files contain a complete StyleGAN2 generator besides (`AROUND`) are looked for before it, all others after; networks
whose names encoders have, too, (`PARTS`) last.
"""

import re
from collections.abc import Iterable, Mapping

STYLEGAN2 = "use a StyleGAN2 checkpoint"
AROUND: Mapping[str, str] = {
    r"superresolution\.block\d": f"an EG3D generator (a StyleGAN2 that draws planes for a renderer); {STYLEGAN2}",
    r"to_rgbs\.\d+\.iwt\.": f"a SWAGAN generator (wavelet coefficients instead of colours); {STYLEGAN2}",
}
OTHERS: Mapping[str, str] = {
    r"synthesis\.(input\.|L\d+_\d+)": f"a StyleGAN3 generator, whose networks are different; {STYLEGAN2}",
    r"net\.slice\d|lins\.\d": "a whole LPIPS module; convert torchvision's vgg16-397923af.pth and "
    "lpips/weights/v0.1/vgg.pth instead, one by one",
    r"g_synthesis\.blocks\.": "a StyleGAN1 generator in names that are not read; convert NVIDIA's .pkl, its original",
    r"generator\.progression\.\d": "the StyleGAN1 of rosinality/style-based-gan-pytorch, another network (bias before "
    "the blur, one noise map for two layers, eps 1e-5); use a file of NVIDIA, GenForce, InterFaceGAN or IDInvert",
    r"scaleLayers\.\d+\.|toRGBLayers\.|layer0\.conv\.weight$|rgb_converters\.\d": (
        f"a Progressive GAN (PGGAN), which has no w; {STYLEGAN2}"
    ),
    r"generator\.gen_z\.|blocks\.\d+\.\d+\.bn1\.(gain|bias)\.": (
        f"a BigGAN, whose networks are different; {STYLEGAN2}"
    ),
    r"time_embed(ding)?\.(0|linear_1)\.|diffusion_model\.|input_blocks\.\d|down_blocks\.\d+\.resnets": (
        f"the network of a diffusion model, which has no latent codes of a GAN; {STYLEGAN2}"
    ),
    r"S\.net\.\d+\.|G\.initial_block|blocks\.\d+\.to_style1\.": (
        f"a generator of lucidrains/stylegan2-pytorch, which differs from StyleGAN2 in its layers; {STYLEGAN2}"
    ),
}
PARTS: Mapping[str, str] = {
    r"hypernet\.": "HyperStyle's hypernetwork without its generator; use the whole checkpoint of that tool",
    r"input_layer\.0\.weight": "a face-recognition network (ArcFace) among other things; convert the state dict "
    "of that network, model_ir_se50.pth",
}


def family(names: Iterable[str], table: Mapping[str, str]) -> str | None:
    """What a file holds in words, with the remedy, by the first row of a table that fits a name; None if none does."""
    names = list(names)
    for pattern, what in table.items():
        place = re.compile(rf"(?:^|[./])(?:{pattern})")
        if any(place.search(name) for name in names):
            return what
    return None
