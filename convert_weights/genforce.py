"""GenForce (and BDInvert) dialect of StyleGAN2: TensorFlow's up-sampling kernels, and style biases that lack the 1."""

import re
from collections.abc import Mapping

import numpy as np

from convert_weights import stylegan2
from convert_weights.checkpoint import ConversionError, Part, Unfit
from convert_weights.match import Rule, match
from convert_weights.nvlabs import Network, finish_discriminator, finish_generator
from convert_weights.rosinality import N, first, first_two
from convert_weights.tensors import Tensor, as_float32

KERNEL = "resampling filter, kept in the config"


def flip(x: np.ndarray) -> np.ndarray:
    """OIHW weights turned by 180 degrees."""
    return x[:, :, ::-1, ::-1]


def plus_one(x: np.ndarray) -> np.ndarray:
    """The 1 that is added to styles at run time, moved into the stored bias."""
    return x + np.float32(1)


def _layer(m: re.Match) -> str:
    """layer{2b} is the second and layer{2b-1} the up-sampling convolution of block 4·2^b."""
    j = min(int(m[1]), 40)
    return f"synthesis.b{4 * 2 ** ((j + 1) // 2)}.conv{(j + 1) % 2}"


def _output(m: re.Match) -> str:
    return f"synthesis.b{4 * 2 ** min(int(m[1]), 20)}.torgb"


EVEN, ODD = r"(\d{0,4}[02468])", r"(\d{0,4}[13579])"
GENERATOR_RULES: list[Rule] = [
    (r".*\.kernel", None, KERNEL),
    (rf"mapping\.dense{N}\.(weight|bias)", lambda m: f"mapping.fc{int(m[1])}.{m[2]}", ""),
    (r"truncation\.w_avg", lambda m: "mapping.w_avg", ""),
    (r"synthesis\.early_layer\.const", lambda m: "synthesis.b4.const", first),
    (rf"synthesis\.layer{EVEN}\.weight", lambda m: f"{_layer(m)}.weight", ""),
    (rf"synthesis\.layer{ODD}\.weight", lambda m: f"{_layer(m)}.weight", flip),
    (rf"synthesis\.layer{N}\.(bias|noise_strength)", lambda m: f"{_layer(m)}.{m[2]}", ""),
    (rf"synthesis\.layer{N}\.noise", lambda m: f"{_layer(m)}.noise_const", first_two),
    (rf"synthesis\.layer{N}\.style\.weight", lambda m: f"{_layer(m)}.affine.weight", ""),
    (rf"synthesis\.layer{N}\.style\.bias", lambda m: f"{_layer(m)}.affine.bias", plus_one),
    (rf"synthesis\.output{N}\.(weight|bias)", lambda m: f"{_output(m)}.{m[2]}", ""),
    (rf"synthesis\.output{N}\.style\.weight", lambda m: f"{_output(m)}.affine.weight", ""),
    (rf"synthesis\.output{N}\.style\.bias", lambda m: f"{_output(m)}.affine.bias", plus_one),
]


def generator(tensors: Mapping[str, Tensor], what: str) -> Network:
    """A generator from GenForce's `generator_smooth`.

    Returns:
        the generator, and notes.
    Raises:
        ConversionError: naming conditional networks, which are not supported.
    """
    if "mapping.label_weight" in tensors:
        raise ConversionError(
            "is a conditional generator of the first StyleGAN2 (labels concatenated before one joint "
            "normalisation), which is not "
            "supported; use a model trained with stylegan2-ada-pytorch"
        )
    found, _ = match(tensors, GENERATOR_RULES, what)
    config = stylegan2.generator_config({n: m.shape for n, m in found.items()})
    config["resample_filter"] = _taps(tensors, 0.25, config)
    return finish_generator(found, stylegan2.generator_shapes(config), config, what)


def discriminator(tensors: Mapping[str, Tensor], what: str) -> Part:
    """A discriminator from GenForce's `discriminator`: layers counted from the image's resolution down."""
    last = max((int(m[1]) for n in tensors if (m := re.fullmatch(rf"layer{N}\.weight", n))), default=0)
    blocks = min((last - 2) // 2, 20)  # the last three layers belong to 4 px

    def resolution(index: str) -> int:
        return (4 << blocks) >> min(int(index), 40)

    def layer(m: re.Match) -> str:
        block, second = divmod(int(m[1]), 2)
        if block >= blocks:
            return f"b4.{('conv', 'fc', 'out')[min(int(m[1]) - 2 * blocks, 2)]}.{m[2]}"
        return f"b{resolution(str(block))}.conv{second}.{m[2]}"

    rules: list[Rule] = [
        (r".*\.kernel", None, KERNEL),
        (rf"input{N}\.(weight|bias)", lambda m: f"b{resolution(m[1])}.fromrgb.{m[2]}", ""),
        (rf"layer{N}\.(weight|bias)", layer, ""),
        (rf"skip_layer{N}\.weight", lambda m: f"b{resolution(m[1])}.skip.weight", ""),
    ]
    if blocks < 1:
        raise Unfit("its discriminator is not a StyleGAN2 discriminator; use a StyleGAN2 checkpoint")
    found, _ = match(tensors, rules, what)
    config = stylegan2.discriminator_config({n: m.shape for n, m in found.items()})
    config["resample_filter"] = _taps(tensors, 1.0, config)
    return finish_discriminator(found, config, what)


def _taps(tensors: Mapping[str, Tensor], scale: float, config: dict) -> list:
    """Filters are stored [1, 1, h, w], times 4 in the generator."""
    kernels = {n: as_float32(t)[0, 0] for n, t in tensors.items() if n.endswith(".kernel") and len(t.shape) == 4}
    return stylegan2.symmetric_taps(kernels, scale, config["resample_filter"])
