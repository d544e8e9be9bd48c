"""StyleRes' networks of residuals, which lie in a block of its generator beside an encoder of e4e.

Each name loses `modify_feature_`. The third pair of units in the decoder of the alignment is never called by the
authors' code: it is listed as such.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from convert_weights.checkpoint import Part, Unfit
from convert_weights.match import Rule, fill, match
from convert_weights.stylegan2 import dim
from convert_weights.tensors import Tensor
from convert_weights.trunks import Shapes

KIND = "styleres"
PREFIX = "modify_feature_"
FIRST = re.compile(rf"(|.*[/.])(synthesis\.b(\d{{1,4}})\.){PREFIX}gates\.down1\.weight")
DEAD = "the alignment of StyleRes never calls these units"
LEAF = r"\.(weight|bias)"
RULES: list[Rule] = [
    (rf"{PREFIX}alignment\.dconv3\..*", None, DEAD),
    (rf"{PREFIX}((alignment|extraction|gates)\.[\w.]+{LEAF})", lambda m: m[1], ""),
]
# Units of each row: (width, stride) with the width 0 of the networks, -1 of the features that are added to.
SAME, DOWN = (0, 1), (0, 2)
UNITS: dict[str, tuple[tuple[int, int], ...]] = {
    "alignment.conv1": (SAME,),
    "alignment.conv2": (DOWN, SAME),
    "alignment.conv3": (DOWN, SAME),
    "alignment.dconv1": (SAME, SAME),
    "alignment.dconv2": (SAME, SAME),
    "extraction.convs": (SAME, SAME, SAME),
    "gates.convs": (SAME, SAME, (-1, 1)),
    "gates.convs2": (SAME, SAME, (1, 1)),
}


def places(names: Collection[str]) -> list[str]:
    """The blocks of generators with these networks: `generator_smooth/synthesis.b64.`."""
    return list(dict.fromkeys(m[1] + m[2] for name in names if (m := FIRST.fullmatch(name))))


def networks(
    tensors: Mapping[str, Tensor], place: str, units: Collection[int], what: str
) -> tuple[Part, dict[str, str]]:
    """The networks from the tensors of their block, and those of them that are not used.

    Args:
        place: of the block, which tells the size of its features.
        units: widths of the encoder's units. The last one of the width that the alignment takes is read.

    Raises:
        Unfit: naming tensors of another network, missing ones, or that the encoder has no such features.
    """
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    found, ignored = match(own, RULES, what)
    shapes = {name: one.shape for name, one in found.items()}
    channels, width = (dim(shapes, f"gates.{name}.weight", 1) for name in ("down1", "down2"))
    seen = dim(shapes, "alignment.first_layer.weight", 1) - channels
    taps = [k for k, own in enumerate(units) if own == seen]
    if not taps:
        raise Unfit(f"{what} take {seen} features of an encoder; no encoder beside them has a unit of that width")
    config: dict[str, Any] = {
        "resolution": int(re.findall(r"\d+", place)[-1]),
        "channels": channels,
        "encoder_channels": seen,
        "tap": taps[-1],
        "width": 0 if width == channels else width,
    }
    return Part(kind=KIND, config=config, arrays=fill(found, network_shapes(config), what)), ignored


def network_shapes(config: Mapping[str, Any]) -> Shapes:
    """Every tensor of the networks with this config: name -> shape."""
    n, channels = config["width"] or config["channels"], config["channels"]
    shapes: Shapes = {}
    for name, inputs, outputs, side in (
        ("alignment.first_layer", channels + config["encoder_channels"], n, 1),
        ("alignment.out_layer", n, n, 1),
        ("extraction.first_layer", n, n, 1),
        ("gates.down1", channels, n // 2, 3),
        ("gates.down2", n, n // 2, 3),
    ):
        shapes |= _conv(name, inputs, outputs, side)
    for name, row in UNITS.items():
        for k, (width, stride) in enumerate(row):
            outputs = {0: n, -1: channels}.get(width, width)
            shapes |= _conv(f"{name}.{k}.res_layer.0", n, outputs, 3)
            shapes |= _conv(f"{name}.{k}.res_layer.2", outputs, outputs, 3)
            if outputs != n or stride > 1:
                shapes[f"{name}.{k}.shortcut_layer.0.weight"] = (outputs, n, 1, 1)
    return shapes


def _conv(name: str, inputs: int, outputs: int, side: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, side, side), f"{name}.bias": (outputs,)}


def check_fits(part: Part, generator: Part, what: str) -> None:
    """Raises Unfit if the generator has no such features."""
    side, channels = part.config["resolution"], generator.config["channels"]
    made = dict(zip((4 << k for k in range(len(channels))), channels, strict=True)).get(side, 0)
    if made != part.config["channels"]:
        raise Unfit(f"{what} add to {part.config['channels']} features at {side} px, the generator has {made} there")
