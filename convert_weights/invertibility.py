"""SAM's invertibility network: `sd_base` (DeepLabv3+ on ResNet-101), and a head under the name of each latent.

The tensors do not tell strides and dilations: they are those of the code, for an output stride of 16.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from convert_weights.checkpoint import Checkpoint, Part, together
from convert_weights.match import Rule, fill, match
from convert_weights.structure import Structure
from convert_weights.stylegan2 import count, dim
from convert_weights.trunks import LEAF, Shapes, norm

KIND = "invertibility"
FIRST = re.compile(r"(.*/)?sd_base/(module\.)?backbone\.conv1\.weight")
STRIDES, DILATIONS = (1, 2, 2, 1), ((1,), (1,), (1,), (2, 4, 8))
RATES, SIDE = (1, 6, 12, 18), 256


def _plain(kernel: np.ndarray) -> np.ndarray:
    """A transposed convolution of stride 1 as a plain one: [in, out, k, k] to [out, in, k, k], turned."""
    return kernel.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]


HEAD = r"(?:.*/)?(W\+|F\d{1,2})/(?:module\.)?m\."
RULES: list[Rule] = [
    (r".*\.num_batches_tracked", None, "a counter of training steps"),
    (r"(.*/)?optimizer/.*", None, "of the training"),
    (rf"(?:.*/)?sd_base/(?:module\.)?((?:backbone|aspp|decoder)\.[\w.]+{LEAF})", lambda m: m[1], ""),
    (rf"{HEAD}([03])\.weight", lambda m: f"heads.{m[1]}.m.{m[2]}.weight", _plain),
    (rf"{HEAD}(\d{LEAF})", lambda m: f"heads.{m[1]}.m.{m[2]}", ""),
]


def is_network(structure: Structure) -> bool:
    """Whether the file has the network and a head for the codes."""
    names = structure.everything
    return any(FIRST.fullmatch(name) for name in names) and any(re.match(HEAD, name) for name in names)


def network(structure: Structure) -> Checkpoint:
    """The file as a checkpoint.

    Raises:
        ConversionError: it has other layers, or tensors of other shapes.
    """
    what = "SAM's invertibility network"
    found, ignored = match(structure.everything, RULES, what)
    config = config_of({name: one.shape for name, one in found.items()}, what)
    part = Part(kind=KIND, config=config, arrays=fill(found, network_shapes(config), what))
    return Checkpoint(format="SAM checkpoint", parts=together(part), ignored=ignored, licence="Adobe Research License")


def config_of(shapes: Shapes, what: str) -> dict[str, Any]:
    """The config of a network whose tensors have these shapes.

    Raises:
        Unfit: a tensor that tells a size is missing.
    """
    stages = []
    for k, (stride, dilation) in enumerate(zip(STRIDES, DILATIONS, strict=True)):
        units = count(shapes, rf"backbone\.layer{k + 1}\.(\d{{1,3}})\..*", f"{what}: layer{k + 1}")
        stages.append([dim(shapes, f"backbone.layer{k + 1}.0.conv1.weight", 0), units, stride, list(dilation)])
    latents = {m[1] for name in shapes if (m := re.match(r"heads\.F(\d+)\.", name))}
    return {
        "in_channels": dim(shapes, "backbone.conv1.weight", 1),
        "resolutions": sorted(4 << (int(number) // 2) for number in latents),
        "input_resolution": SIDE,
        "kernel": dim(shapes, "backbone.conv1.weight", 2),
        "pooled": True,
        "stem": dim(shapes, "backbone.conv1.weight", 0),
        "stages": stages,
        "rates": list(RATES),
        "pyramid": dim(shapes, "aspp.conv1.weight", 0),
        "low": dim(shapes, "decoder.conv1.weight", 0),
        "decoder": dim(shapes, "decoder.last_conv.0.weight", 0),
        "features": dim(shapes, "decoder.last_conv.8.weight", 0),
        "head": dim(shapes, "heads.W+.m.0.weight", 0),
    }


def network_shapes(config: Mapping[str, Any]) -> Shapes:
    """Every tensor of the network with this config: name -> shape."""
    c = config
    shapes = _layer("backbone.conv1", "backbone.bn1", c["stem"], c["in_channels"], c["kernel"])
    before, low = c["stem"], 4 * c["stages"][0][0]
    for stage, (width, units, _, _) in enumerate(c["stages"]):
        for k in range(units):
            name = f"backbone.layer{stage + 1}.{k}"
            shapes |= _layer(f"{name}.conv1", f"{name}.bn1", width, before, 1)
            shapes |= _layer(f"{name}.conv2", f"{name}.bn2", width, width, 3)
            shapes |= _layer(f"{name}.conv3", f"{name}.bn3", 4 * width, width, 1)
            if k == 0:
                shapes |= _layer(f"{name}.downsample.0", f"{name}.downsample.1", 4 * width, before, 1)
            before = 4 * width
    pyramid, decoder = c["pyramid"], c["decoder"]
    for k, rate in enumerate(c["rates"]):
        name = f"aspp.aspp{k + 1}"
        shapes |= _layer(f"{name}.atrous_conv", f"{name}.bn", pyramid, before, 1 if rate == 1 else 3)
    shapes |= _layer("aspp.global_avg_pool.1", "aspp.global_avg_pool.2", pyramid, before, 1)
    shapes |= _layer("aspp.conv1", "aspp.bn1", pyramid, pyramid * (len(c["rates"]) + 1), 1)
    shapes |= _layer("decoder.conv1", "decoder.bn1", c["low"], low, 1)
    shapes |= _layer("decoder.last_conv.0", "decoder.last_conv.1", decoder, pyramid + c["low"], 3)
    shapes |= _layer("decoder.last_conv.4", "decoder.last_conv.5", decoder, decoder, 3)
    shapes |= _biased("decoder.last_conv.8", c["features"], decoder, 1)
    for name in ("W+", *(f"F{2 * (side.bit_length() - 3)}" for side in c["resolutions"])):
        shapes |= _biased(f"heads.{name}.m.0", c["head"], c["features"], 3) | norm(f"heads.{name}.m.1", c["head"])
        shapes |= _biased(f"heads.{name}.m.3", 1, c["head"], 1)
    return shapes


def _layer(conv: str, after: str, width: int, before: int, kernel: int) -> Shapes:
    """A convolution without bias, and a norm."""
    return {f"{conv}.weight": (width, before, kernel, kernel)} | norm(after, width)


def _biased(conv: str, width: int, before: int, kernel: int) -> Shapes:
    return {f"{conv}.weight": (width, before, kernel, kernel), f"{conv}.bias": (width,)}
