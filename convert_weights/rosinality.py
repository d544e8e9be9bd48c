"""rosinality/stylegan2-pytorch dialect, also inside pSp, e4e and HyperStyle files (under `decoder.`)."""

import re
from collections.abc import Mapping

import numpy as np

from convert_weights import stylegan2
from convert_weights.checkpoint import Part, Unfit
from convert_weights.match import Matched, Rule, match
from convert_weights.nvlabs import Network, finish_discriminator, finish_generator
from convert_weights.tensors import Tensor, as_float32, from_numpy

N = r"(\d{1,5})"
KERNEL = "resampling filter, kept in the config"


def first(x: np.ndarray) -> np.ndarray:
    """[1, ...] without its leading axis."""
    return x[0] if x.shape[0] == 1 else _refuse()


def first_two(x: np.ndarray) -> np.ndarray:
    """[1, 1, h, w] as [h, w]."""
    return x[0, 0] if x.shape[:2] == (1, 1) else _refuse()


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1)


def _refuse() -> np.ndarray:
    raise ValueError("a leading axis is not 1")


def _conv(index: str) -> str:
    """convs.{k} counts two convolutions per block from 8 px on."""
    k = int(index)
    return f"synthesis.b{8 * 2 ** min(k // 2, 20)}.conv{k % 2}"


def noise_name(index: str) -> str:
    """Noise buffers are counted in the order of the convolutions, as in TensorFlow."""
    k = int(index)
    return "synthesis.b4.conv1.noise_const" if k == 0 else f"{_conv(str(k - 1))}.noise_const"


def _torgb(index: str) -> str:
    return f"synthesis.b{8 * 2 ** min(int(index), 20)}.torgb"


def _style(m: re.Match) -> str:
    return f"mapping.fc{int(m[1]) - 1}.{m[2]}"


# Unlike in TensorFlow and GenForce, up-sampling kernels are in NVlabs orientation and style biases include their 1.
GENERATOR_RULES: list[Rule] = [
    (r".*\.kernel", None, KERNEL),
    (rf"style\.{N}\.(weight|bias)", _style, ""),
    (r"latent_avg", lambda m: "mapping.w_avg", ""),
    (r"input\.input", lambda m: "synthesis.b4.const", first),
    (r"conv1\.conv\.weight", lambda m: "synthesis.b4.conv1.weight", first),
    (r"conv1\.conv\.modulation\.(weight|bias)", lambda m: f"synthesis.b4.conv1.affine.{m[1]}", ""),
    (r"conv1\.activate\.bias", lambda m: "synthesis.b4.conv1.bias", ""),
    (r"conv1\.noise\.weight", lambda m: "synthesis.b4.conv1.noise_strength", first),
    (rf"convs\.{N}\.conv\.weight", lambda m: f"{_conv(m[1])}.weight", first),
    (rf"convs\.{N}\.conv\.modulation\.(weight|bias)", lambda m: f"{_conv(m[1])}.affine.{m[2]}", ""),
    (rf"convs\.{N}\.activate\.bias", lambda m: f"{_conv(m[1])}.bias", ""),
    (rf"convs\.{N}\.noise\.weight", lambda m: f"{_conv(m[1])}.noise_strength", first),
    (rf"noises\.noise_{N}", lambda m: noise_name(m[1]), first_two),
    (r"to_rgb1\.conv\.weight", lambda m: "synthesis.b4.torgb.weight", first),
    (r"to_rgb1\.conv\.modulation\.(weight|bias)", lambda m: f"synthesis.b4.torgb.affine.{m[1]}", ""),
    (r"to_rgb1\.bias", lambda m: "synthesis.b4.torgb.bias", _flat),
    (rf"to_rgbs\.{N}\.conv\.weight", lambda m: f"{_torgb(m[1])}.weight", first),
    (rf"to_rgbs\.{N}\.conv\.modulation\.(weight|bias)", lambda m: f"{_torgb(m[1])}.affine.{m[2]}", ""),
    (rf"to_rgbs\.{N}\.bias", lambda m: f"{_torgb(m[1])}.bias", _flat),
]


def generator(tensors: Mapping[str, Tensor], what: str) -> Network:
    """A generator from rosinality's `g_ema`, with `latent_avg` among its tensors if the file has it.

    Returns:
        the generator, and notes.
    Raises:
        ConversionError: naming conditional networks, whose labels have no place in these names.
    """
    notes: list[str] = []
    found, _ = match(tensors, GENERATOR_RULES, what)
    if not any(name.startswith("noises.") for name in tensors):
        found |= _drawn_noise(found)
        notes.append("noise buffers are not in the file: drawn from a fixed seed")
    config = stylegan2.generator_config({n: m.shape for n, m in found.items()})
    _check_width(config, what)
    config["resample_filter"] = _taps(tensors, 0.25, config)  # up-sampling kernels are stored times 4
    part, more = finish_generator(found, stylegan2.generator_shapes(config), config, what)
    return part, notes + more


def _check_width(config: dict, what: str) -> None:
    """z and w have one width here, and nothing but z enters the mapping network."""
    z, w = config["z_dim"], config["w_dim"]
    if z == 2 * w:
        raise Unfit(
            f"{what}: its first mapping layer takes {z} numbers, twice the {w} of w: it was exported from a "
            "conditional network, whose embedding of the labels is not in these names; convert the original .pkl"
        )
    if z != w:
        raise Unfit(
            f"{what}: its first mapping layer takes {z} numbers, but z and w have one width in this layout, here {w}; "
            "this variant of the network is not supported"
        )


def _drawn_noise(found: Mapping[str, Matched]) -> dict[str, Matched]:
    """Noise buffers for old files, whose generator drew new ones at every start."""
    rng = np.random.RandomState(0)
    drawn = {}
    for name in sorted(n for n in found if n.endswith(".noise_strength")):
        size = min(int(re.findall(r"\.b(\d+)\.", name)[0]), 4096)
        values = rng.standard_normal((size, size)).astype(np.float32)
        target = name.replace("noise_strength", "noise_const")
        drawn[target] = Matched(target, from_numpy(values), values.shape, None)
    return drawn


def _taps(tensors: Mapping[str, Tensor], scale: float, config: dict) -> list:
    kernels = {n: as_float32(t) for n, t in tensors.items() if n.endswith(".kernel")}
    return stylegan2.symmetric_taps(kernels, scale, config["resample_filter"])


def discriminator(tensors: Mapping[str, Tensor], what: str) -> Part:
    """A discriminator from rosinality's `d`: convs.0 is fromrgb, convs.k are the blocks, highest resolution first."""
    blocks = {int(m[1]) for n in tensors if (m := re.match(rf"convs\.{N}\.conv1\.", n))}
    top = 4 * 2 ** min(max(blocks, default=0), 20)

    def block(m: re.Match) -> str:
        return f"b{top >> (int(m[1]) - 1) if 0 < int(m[1]) <= 20 else 0}"

    rules: list[Rule] = [
        (r".*\.kernel", None, KERNEL),
        (r"convs\.0\.0\.weight", lambda m: f"b{top}.fromrgb.weight", ""),
        (r"convs\.0\.1\.bias", lambda m: f"b{top}.fromrgb.bias", ""),
        (rf"convs\.{N}\.conv1\.0\.weight", lambda m: f"{block(m)}.conv0.weight", ""),
        (rf"convs\.{N}\.conv1\.1\.bias", lambda m: f"{block(m)}.conv0.bias", ""),
        (rf"convs\.{N}\.conv2\.1\.weight", lambda m: f"{block(m)}.conv1.weight", ""),
        (rf"convs\.{N}\.conv2\.2\.bias", lambda m: f"{block(m)}.conv1.bias", ""),
        (rf"convs\.{N}\.skip\.1\.weight", lambda m: f"{block(m)}.skip.weight", ""),
        (r"final_conv\.0\.weight", lambda m: "b4.conv.weight", ""),
        (r"final_conv\.1\.bias", lambda m: "b4.conv.bias", ""),
        (r"final_linear\.([01])\.(weight|bias)", lambda m: f"b4.{('fc', 'out')[int(m[1])]}.{m[2]}", ""),
    ]
    found, _ = match(tensors, rules, what)
    config = stylegan2.discriminator_config({n: m.shape for n, m in found.items()})
    config["resample_filter"] = _taps(tensors, 1.0, config)
    return finish_discriminator(found, config, what)
