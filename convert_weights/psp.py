"""The encoders of pSp, e4e, LSAP and ReStyle, and the W encoder of pSp and HyperStyle, from their tensors.

All have the same names: a trunk (IR-SE, or ReStyle's ResNet34), and a head per row of ws ("styles"), or a linear layer
for all rows. Tensors do not tell whether the rows after the first are offsets from it (e4e), so the file has to.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from convert_weights.checkpoint import Unfit, shown
from convert_weights.match import Matched, Rule, match
from convert_weights.stylegan2 import count, dim
from convert_weights.tensors import Tensor
from convert_weights.trunks import FILTER, LEAF, Shapes, ir_se, resnet

RULES: list[Rule] = [
    (r".*\.num_batches_tracked", None, "a counter of training steps"),
    (rf"(input_layer|conv1|bn1|relu|body|styles|latlayer[12]|linear)(\.\w+)*{LEAF}", lambda m: m[0], ""),
]
# First row whose head reads a map, and convolutions of such a head: the coarsest map first.
PYRAMID = ((0, 4), (3, 5), (7, 6))
ROWS, UNITS = range(2, 65), range(1, 65)  # as many as lsap_jax's encoders can have
SIDE = 256  # px a side of the images that all of them were trained with, by torchvision's Resize
CARS = 192  # px of height of those of cars, which are as wide
PASSES = 5  # of ReStyle, in training and inference, where the file does not tell


class Type(NamedTuple):
    """What `encoder_type`, the name of the class in the original code, says of an encoder."""

    trunk: str
    heads: str
    progressive: bool


TYPES: Mapping[str, Type] = {
    "GradualStyleEncoder": Type("irse", "pyramid", False),
    "Encoder4Editing": Type("irse", "pyramid", True),
    "ResNetGradualStyleEncoder": Type("resnet34", "pyramid", False),
    "BackboneEncoder": Type("irse", "last", False),
    "ResNetBackboneEncoder": Type("resnet34", "last", False),
    "ProgressiveBackboneEncoder": Type("irse", "last", True),
    "ResNetProgressiveBackboneEncoder": Type("resnet34", "last", True),
    "BackboneEncoderUsingLastLayerIntoW": Type("irse", "single", False),
    "SingleStyleCodeEncoder": Type("irse", "single", False),
    "WEncoder": Type("irse", "single", False),
}


def encoder(tensors: Mapping[str, Tensor], what: str) -> tuple[dict[str, Matched], dict[str, str], dict[str, Any]]:
    """The tensors of an encoder, those that are not used, and its config without rows, `progressive` and passes.

    Args:
        what: the encoder, for messages.

    Raises:
        Unfit: naming tensors of another network, or that the layers cannot be told without.
    """
    found, ignored = match(tensors, RULES, what)
    shapes = {name: one.shape for name, one in found.items()}
    trunk = "resnet34" if shapes.keys() & {"conv1.weight", "body.0.conv1.weight"} else "irse"
    heads = "pyramid" if any(n.startswith("latlayer") for n in shapes) else "last"
    heads = heads if any(n.startswith("styles.") for n in shapes) else "single"
    units = count(shapes, r"body\.(\d{1,5})\..*", f"{what}: its trunk")
    if units not in UNITS:
        raise Unfit(f"{what}: its trunk (body.0, ...) has {units} units, it can have {UNITS[0]} to {UNITS[-1]}")
    layer, first = ("conv1", "conv1") if trunk == "resnet34" else ("res_layer.1", "input_layer.0")
    widths = [dim(shapes, f"body.{k}.{layer}.weight", 0) for k in range(units)]
    config: dict[str, Any] = {
        "w_dim": dim(shapes, "linear.weight" if heads == "single" else "styles.0.linear.weight", 0),
        "heads": heads,
        "trunk": trunk,
        "units": _strides(widths, trunk),
        "taps": _taps(widths, what) if heads == "pyramid" else [6, 20, 23],
        "in_channels": dim(shapes, f"{first}.weight", 1),
        "input_resolution": SIDE,
        "head_convs": [4, 5, 6],
        "head_width": 0,
        "input_height": 0,
        "filter": FILTER,
    }
    if heads != "single":
        config["num_ws"] = count(shapes, r"styles\.(\d{1,5})\..*", f"{what}: its heads")
    return found, ignored, config


def _strides(widths: list[int], trunk: str) -> list[list[int]]:
    """(width, stride) of each unit: a new width halves the sides, and so does IR-SE's first unit."""
    before = [widths[0] if trunk == "resnet34" else 0, *widths]
    return [[width, 1 + (width != last)] for last, width in zip(before, widths, strict=False)]


def _taps(widths: list[int], what: str) -> list[int]:
    """The last units of the last three widths, whose outputs the pyramid reads, the finest first."""
    ends = [k for k, width in enumerate(widths) if widths[k + 1 : k + 2] != [width]]
    if len(ends) < 3:
        raise Unfit(
            f"{what}: its trunk has {len(ends)} sizes of features, its pyramid needs three; the file is damaged"
        )
    return ends[-3:]


def is_progressive(config: Mapping[str, Any], stated: object, place: str, what: str) -> bool:
    """Whether the rows after the first are offsets from it.

    Args:
        stated: `encoder_type` in the file; None if there is none.
        place: where the encoder lies in the file.

    Raises:
        Unfit: another type is stated, or none and the place does not have the name of the tool.
    """
    if stated is None:
        words = set(place.lower().replace("/", ".").split("."))
        if config["heads"] == "single" or len(words & {"e4e", "psp"}) == 1:
            return "e4e" in words
        raise Unfit(
            f"{what}: the file has no opts.encoder_type, and pSp's and e4e's encoders have the same tensors; save the "
            "encoder as {'e4e': state_dict, 'latent_avg': …}, or as 'psp'"
        )
    if not isinstance(stated, str) or stated not in TYPES:
        raise Unfit(f"{what}: opts.encoder_type is {shown(stated)}, which is none of {', '.join(TYPES)}")
    found = TYPES[stated]
    if (found.trunk, found.heads) != (config["trunk"], config["heads"]):
        raise Unfit(
            f"{what}: opts.encoder_type is {stated}, of heads {found.heads!r} on {found.trunk}, but its tensors have "
            f"heads {config['heads']!r} on {config['trunk']}; the file is damaged"
        )
    return found.progressive


def encoder_shapes(config: Mapping[str, Any]) -> Shapes:
    """Every tensor of the encoder with this config: name -> shape."""
    widths, w = [width for width, _ in config["units"]], config["w_dim"]
    shapes = {"irse": ir_se, "resnet34": resnet}[config["trunk"]](widths, config["in_channels"])
    if config["heads"] == "single":
        return shapes | _linear("linear", widths[-1], w)
    maps = (widths[-1], w, w)
    if config["heads"] == "pyramid":
        for k, tap in ((1, 1), (2, 0)):
            before = widths[config["taps"][tap]]
            shapes |= {f"latlayer{k}.weight": (w, before, 1, 1), f"latlayer{k}.bias": (w,)}
    for row in range(config["num_ws"]):
        level = sum(row >= first for first, _ in PYRAMID) - 1 if config["heads"] == "pyramid" else 0
        before = maps[level]
        for k in range(PYRAMID[level][1]):
            shapes |= {
                f"styles.{row}.convs.{2 * k}.weight": (w, before, 3, 3),
                f"styles.{row}.convs.{2 * k}.bias": (w,),
            }
            before = w
        shapes |= _linear(f"styles.{row}.linear", w, w)
    return shapes


def _linear(name: str, before: int, width: int) -> Shapes:
    return {f"{name}.weight": (width, before), f"{name}.bias": (width,)}


def project(config: Mapping[str, Any]) -> str:
    """The projects whose encoder this is, in words."""
    if config["in_channels"] in (2, 6):
        return f"ReStyle ({'e4e' if config['progressive'] else 'pSp'})"
    if config["heads"] == "single":
        return "the W encoder of pSp or HyperStyle"
    return "e4e or LSAP" if config["progressive"] else "pSp"
