"""The base-code encoder of BDInvert (arXiv 2306.00241 and 2307.08995 use it as E): one sequential `model`.

Each width has three groups of convolution, batch norm and leaky ReLU, followed by average pooling; the network ends
with a convolution with batch norm and a plain convolution. The indices count every module, so width k starts at 10·k.
"""

import re
from collections.abc import Mapping

from convert_weights.checkpoint import Checkpoint, ConversionError, Part, together
from convert_weights.match import Rule, fill, match
from convert_weights.places import labelled
from convert_weights.structure import Structure
from convert_weights.tensors import Tensor

STATISTICS = ("weight", "bias", "running_mean", "running_var")
RULES: list[Rule] = [
    (r"model\.\d{1,3}\.num_batches_tracked", None, "a counter of training steps"),
    (rf"model\.\d{{1,3}}\.({'|'.join(STATISTICS)})", lambda m: m[0], ""),
]


def is_encoder(structure: Structure) -> bool:
    """Whether the state dict under "encoder", or else the file's own, begins like BDInvert's encoder."""
    return "model.0.weight" in structure.parts.get("encoder", structure.own)


def encoder_file(structure: Structure) -> Checkpoint:
    """BDInvert's snapshot of its base-code encoder, or the state dict alone."""
    place = "encoder/" if "encoder" in structure.parts else ""
    beside = dict.fromkeys(labelled(structure.entries, [place]), "not part of the encoder")
    return encoder(structure.parts.get("encoder", structure.own), beside)


def encoder_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Every tensor of the encoder with this config: name -> shape."""
    table: dict[str, tuple[int, ...]] = {}
    before = config["in_channels"]
    for k, width in enumerate(config["widths"]):
        for i in (0, 3, 6):
            table |= _conv(10 * k + i, before, width) | {f"model.{10 * k + i + 1}.{s}": (width,) for s in STATISTICS}
            before = width
    end = 10 * len(config["widths"])
    table |= _conv(end, before, before) | {f"model.{end + 1}.{s}": (before,) for s in STATISTICS}
    return table | _conv(end + 3, before, config["out_channels"])


def _conv(i: int, fan_in: int, fan_out: int) -> dict[str, tuple[int, ...]]:
    return {f"model.{i}.weight": (fan_out, fan_in, 3, 3), f"model.{i}.bias": (fan_out,)}


def encoder(tensors: Mapping[str, Tensor], ignored: dict[str, str]) -> Checkpoint:
    """The encoder's state dict as a checkpoint.

    Raises:
        ConversionError: if its layers differ from those of BDInvert's encoder.
    """
    found, more = match(tensors, RULES, "the base-code encoder")
    last = max((int(m[1]) for n in found if (m := re.fullmatch(r"model\.(\d{1,3})\.weight", n))), default=0)
    if last < 13 or last % 10 != 3:
        raise ConversionError(
            f"its encoder ends with layer {last}, not with 10·n + 3 as BDInvert's base-code encoder does; it is "
            "not supported"
        )
    try:
        config = {
            "widths": [found[f"model.{10 * k}.weight"].shape[0] for k in range(last // 10)],
            "out_channels": found[f"model.{last}.weight"].shape[0],
            "in_channels": found["model.0.weight"].shape[1],
        }
    except (KeyError, IndexError):
        raise ConversionError(
            "its encoder lacks convolutions of BDInvert's base-code encoder; it is not supported"
        ) from None
    part = Part(kind="basecode", config=config, arrays=fill(found, encoder_shapes(config), "the base-code encoder"))
    return Checkpoint(
        format="BDInvert base-code encoder",
        parts=together(part),
        ignored=ignored | more,
        licence="AGPL-3.0 where the weights are BDInvert's own",
    )
