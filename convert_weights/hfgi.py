"""HFGI's consultation encoder ("residue") and aligner ("grid_align"), which lie beside an encoder of e4e.

Their tensors do not tell at which size the features of the generator are changed, nor that of the images that they see:
both are those of the code, 64 and 256 px.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from convert_weights.checkpoint import Part, Unfit
from convert_weights.match import Rule, fill, match
from convert_weights.stylegan2 import count, dim
from convert_weights.tensors import Tensor
from convert_weights.trunks import FILTER, LEAF, Shapes, input_layer, ir_unit

KIND = "hfgi"
NETWORKS = ("residue", "grid_align")
RESOLUTION, SIDE = 64, 256
FIRST = re.compile(rf"(|.*[/.])({'|'.join(NETWORKS)})\.conv_layer1\.0\.weight")
RULES: list[Rule] = [
    (r".*\.num_batches_tracked", None, "a counter of training steps"),
    (rf"({'|'.join(NETWORKS)})\.(conv_layer|dconv_layer|condition_)(\w+)(\.\w+)*{LEAF}", lambda m: m[0], ""),
]


def places(names: Collection[str]) -> list[str]:
    """Where both networks lie: before `residue` and `grid_align`."""
    return list(dict.fromkeys(m[1] for name in names if (m := FIRST.fullmatch(name))))


def networks(tensors: Mapping[str, Tensor], what: str) -> tuple[Part, dict[str, str]]:
    """Both networks from their tensors, and those that are not used.

    Raises:
        Unfit: naming tensors of another network, or missing ones.
    """
    found, ignored = match(tensors, RULES, what)
    config = config_of({name: one.shape for name, one in found.items()}, what)
    return Part(kind=KIND, config=config, arrays=fill(found, network_shapes(config, what), what)), ignored


def config_of(shapes: Shapes, what: str) -> dict[str, Any]:
    """The config of networks whose tensors have these shapes.

    Raises:
        Unfit: a tensor that tells a size is missing.
    """

    def widths(name: str) -> list[int]:
        units = count(shapes, rf"{re.escape(name)}\.(\d{{1,3}})\..*", f"{what}: {name}")
        return [dim(shapes, f"{name}.{k}.res_layer.1.weight", 0) for k in range(units)]

    def stages(network: str) -> list[list[int]]:
        rows = [widths(f"{network}.conv_layer{k + 2}") for k in range(layers(network, "conv_layer") - 1)]
        return [_stage(row, f"{what}: {network}") for row in rows]

    def layers(network: str, name: str) -> int:
        known = {int(m[1]) for one in shapes if (m := re.match(rf"{network}\.{name}(\d{{1,3}})\.", one))}
        if known != set(range(1, len(known) + 1)) or not known:
            raise Unfit(f"{what}: {network} has {name} of numbers {sorted(known)}, not 1, 2, …; the file is damaged")
        return len(known)

    first, heads = "conv_layer1.0.weight", "residue.condition_scale3"
    return {
        "resolution": RESOLUTION,
        "channels": dim(shapes, f"{heads}.2.weight", 0),
        "in_channels": dim(shapes, f"residue.{first}", 1),
        "input_resolution": SIDE,
        "stem": dim(shapes, f"residue.{first}", 0),
        "stages": stages("residue"),
        "head_width": dim(shapes, f"{heads}.0.weight", 0),
        "aligner_stem": dim(shapes, f"grid_align.{first}", 0),
        "aligner_stages": stages("grid_align"),
        "filter": FILTER,
        "rises": [widths(f"grid_align.dconv_layer{k + 1}") for k in range(layers("grid_align", "dconv_layer"))],
    }


def _stage(widths: list[int], what: str) -> list[int]:
    """(width, stride, number) of a row of units: all have one width, and the first one halves the sides."""
    if not widths or len(set(widths)) > 1:
        raise Unfit(f"{what} has units of widths {widths} in a row, they can have one width; the file is damaged")
    return [widths[0], 2, len(widths)]


def network_shapes(config: Mapping[str, Any], what: str) -> Shapes:
    """Every tensor of both networks with this config: name -> shape."""
    c, channels = config, config["in_channels"]
    shapes, before = _down("residue", channels, c["stem"], c["stages"])
    for head in ("residue.condition_scale3", "residue.condition_shift3"):
        for index, inputs, outputs in ((0, before[-1], c["head_width"]), (2, c["head_width"], c["channels"])):
            shapes |= {f"{head}.{index}.weight": (outputs, inputs, 3, 3), f"{head}.{index}.bias": (outputs,)}
    more, beside = _down("grid_align", 2 * channels, c["aligner_stem"], c["aligner_stages"])
    if len(c["rises"]) != len(c["aligner_stages"]):
        raise Unfit(f"{what}: its aligner goes down {len(c['aligner_stages'])} times and up {len(c['rises'])} times")
    width = beside.pop()
    for k, widths in enumerate(c["rises"]):
        width += beside.pop()
        for index, own in enumerate(widths):
            more |= ir_unit(f"grid_align.dconv_layer{k + 1}.{index}", width, own)
            width = own
    return shapes | more


def _down(network: str, channels: int, stem: int, stages: Collection[Collection[int]]) -> tuple[Shapes, list[int]]:
    """Shapes of a network on its way down, and the widths after each of its layers."""
    shapes, widths = input_layer(f"{network}.conv_layer1", channels, stem), [stem]
    for k, (width, _, units) in enumerate(stages):
        for index in range(units):
            shapes |= ir_unit(f"{network}.conv_layer{k + 2}.{index}", width if index else widths[-1], width)
        widths.append(width)
    return shapes, widths


def check_fits(part: Part, generator: Part, what: str) -> None:
    """Raises Unfit if the generator has no such features, or makes images with other channels."""
    g, c = generator.config, part.config
    made = dict(zip((4 << k for k in range(len(g["channels"]))), g["channels"], strict=True))
    own, taken = (c["channels"], c["in_channels"]), (made.get(RESOLUTION, 0), g["img_channels"])
    if own != taken:
        raise Unfit(
            f"{what} change {own[0]} features at {RESOLUTION} px, of pictures with {own[1]} channels; the generator "
            f"beside it ({g['img_resolution']} px) has {taken[0]} and {taken[1]}"
        )
