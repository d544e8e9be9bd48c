"""StyleGAN1 in PyTorch: GenForce (and BDInvert), and the older names of InterFaceGAN and IDInvert.

The older names tell which layers are fused: these have an HWIO kernel of their own instead of a `conv`. GenForce stores
all kernels alike, and fuses from 128 px on. IDInvert's generator ends in tanh; its mapping makes a w for each layer.
"""

import re
from collections.abc import Mapping

import numpy as np

from convert_weights import stylegan1
from convert_weights.checkpoint import Part, Unfit, listed, shown
from convert_weights.genforce import flip
from convert_weights.match import Rule, Transform, match
from convert_weights.nvlabs import Network
from convert_weights.rosinality import N, first, first_two
from convert_weights.stylegan1 import is_fused, layer
from convert_weights.tensors import Tensor, as_float32

BLUR = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16
GROWING = "used while the network grew"
OLD = r"synthesis\.layer\d{1,5}\.epilogue\..*"  # a tensor that the older names have
IDINVERT = r"mapping\.dense\d{1,5}\.fc\.weight"


def unfused(x: np.ndarray) -> np.ndarray:
    """The HWIO kernel of a transposed convolution as the OIHW kernel of a convolution."""
    return x[::-1, ::-1].transpose(3, 2, 0, 1)


def _of_layer(pattern: str, part: str, transform: Transform | str = "") -> Rule:
    return rf"synthesis\.layer{N}\.{pattern}", lambda m: f"{layer(int(m[1]))}.{part}", transform


def rules(tensors: Mapping[str, Tensor]) -> list[Rule]:
    """How these projects name the tensors of a generator."""
    numbers = {int(m[1]) for name in tensors if (m := re.match(rf"synthesis\.layer{N}\.", name))}
    colours, fused = max(numbers, default=0) // 2, "|".join(str(k) for k in sorted(numbers) if is_fused(k))
    if _has(tensors, OLD):
        kernels = [_of_layer(r"conv\.weight", "weight"), _of_layer("weight", "weight", unfused)]
    else:
        kernels = [_of_layer("weight", "weight")]
        if fused:
            turned = rf"synthesis\.layer({fused})\.weight"
            kernels = [(turned, lambda m: f"{layer(int(m[1]))}.weight", flip), *kernels]
    return [
        (r"truncation\.truncation", None, "the usual truncation, which is chosen by the call"),
        (r"synthesis\.lod", None, GROWING),
        (rf"synthesis\.layer{N}\.blur\.kernel", None, "the blur, which is the same in all layers"),
        (r"truncation\.w_avg", lambda m: "mapping.w_avg", ""),
        (r"mapping\.label_weight", lambda m: "mapping.embed", ""),
        (rf"mapping\.dense{N}\.((linear|fc)\.)?weight", lambda m: f"mapping.fc{int(m[1])}.weight", ""),
        (rf"mapping\.dense{N}\.(wscale\.)?bias", lambda m: f"mapping.fc{int(m[1])}.bias", ""),
        (r"synthesis\.layer0\.(const|first_layer)", lambda m: "synthesis.b4.const", first),
        *kernels,
        _of_layer(r"(epilogue\.)?bias", "bias"),
        _of_layer(r"(epilogue\.)?apply_noise\.weight", "noise_strength"),
        _of_layer(r"(epilogue\.)?apply_noise\.noise", "noise_const", first_two),
        _of_layer(r"(style|epilogue\.style_mod\.dense)\.((linear|fc)\.)?weight", "affine.weight"),
        _of_layer(r"(style|epilogue\.style_mod\.dense)\.(wscale\.)?bias", "affine.bias"),
        (rf"synthesis\.output{colours}\.(conv\.)?weight", lambda m: "synthesis.weight", ""),
        (rf"synthesis\.output{colours}\.bias", lambda m: "synthesis.bias", ""),
        (rf"synthesis\.output{N}\.((conv\.)?weight|bias)", None, f"colours of a lower resolution, {GROWING}"),
    ]


def generator(tensors: Mapping[str, Tensor], what: str) -> Network:
    """A generator from the state dict of any of these projects.

    Returns:
        the generator, and notes.
    Raises:
        ConversionError: the tensors are not StyleGAN1's; the network was still growing; another blur; a mean w for each
            layer.
    """
    _check_grown(tensors, what)
    _check_blur(tensors, what)
    found, _ = match(tensors, rules(tensors), what)
    config = stylegan1.generator_config({name: one.shape for name, one in found.items()})
    if "mapping.w_avg" in found and not config["repeat_w"] and found["mapping.w_avg"].shape != (config["w_dim"],):
        raise Unfit(
            f"{what}: its mean w is {list(found['mapping.w_avg'].shape)}, one for each layer, which is not supported; "
            "convert the file of idinvert_pytorch"
        )
    config["tanh"] = not config["repeat_w"] or _has(tensors, IDINVERT)
    ends = ["the image goes through tanh, as in IDInvert's generators"] * config["tanh"]
    return stylegan1.generator(found, config, what), ends


def discriminator(tensors: Mapping[str, Tensor], what: str) -> Part:
    """Raises Unfit: StyleGAN1's discriminator is not supported."""
    raise Unfit("discriminators of StyleGAN1 are not supported")


def _has(tensors: Mapping[str, Tensor], pattern: str) -> bool:
    return any(re.fullmatch(pattern, name) for name in tensors)


def lod_of(tensor: Tensor) -> float:
    """How far a network had still to grow.

    Raises:
        Unfit: it is not one number.
    """
    values = as_float32(tensor)
    if values.size != 1:
        raise Unfit(f"its lod has shape {list(values.shape)}, not []; the file is damaged")
    return float(values.reshape(-1)[0])


def _check_grown(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuses networks that were saved while they grew: their image is that of a lower resolution."""
    lod = lod_of(tensors["synthesis.lod"]) if "synthesis.lod" in tensors else 0.0
    if lod != 0:
        raise Unfit(f"{what}: synthesis.lod is {shown(lod)}: the network was still growing; use a later snapshot")


def _check_blur(tensors: Mapping[str, Tensor], what: str) -> None:
    kernels = {n: as_float32(t) for n, t in tensors.items() if re.fullmatch(rf"synthesis\.layer{N}\.blur\.kernel", n)}
    other = [n for n, k in kernels.items() if k.shape[1:] != (1, 3, 3) or not np.allclose(k, BLUR, atol=1e-6)]
    if other:
        raise Unfit(f"{what}: {listed(other)} is not the blur of StyleGAN1; this variant is not supported")
