"""HyperStyle's hypernetwork ("hypernet"), which lies beside the generator whose weights it changes.

Its blocks are numbered as the layers of the generator, and the generator tells how many features each layer reads and
makes. Only hypernetworks of convolutions are read, with the head that the largest of them share.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from convert_weights.checkpoint import Part, Unfit
from convert_weights.match import Rule, fill, match
from convert_weights.stylegan2 import count, dim
from convert_weights.tensors import Tensor
from convert_weights.trunks import FILTER, LEAF, Shapes, resnet

KIND = "hyperstyle"
SIDE = 256
HEAD = "shared_weight_hypernet"
FIRST = re.compile(r"(|.*[/.])hypernet\.conv1\.weight")
RULES: list[Rule] = [
    (r".*\.num_batches_tracked", None, "a counter of training steps"),
    (r"refinement_blocks\.\d+\.hypernet\.[wb][12]", None, "the shared head again"),
    (rf"(conv1|bn1|relu|body)(\.\w+)*{LEAF}", lambda m: m[0], ""),
    (rf"{HEAD}\.[wb][12]", lambda m: m[0], ""),
    (r"refinement_blocks\.\d{1,2}\.(convs\.\d{1,2}|linear|output\.1)\.(weight|bias)", lambda m: m[0], ""),
]


def places(names: Collection[str]) -> list[str]:
    """Where hypernetworks lie: before their tensors."""
    return [f"{m[1]}hypernet." for name in names if (m := FIRST.fullmatch(name))]


def network(
    tensors: Mapping[str, Tensor], generator: Part | None, passes: int, what: str
) -> tuple[Part, dict[str, str]]:
    """The hypernetwork from its tensors, and those that are not used.

    Raises:
        Unfit: naming tensors of another network, or missing ones; there is no generator beside it, or another one's.
    """
    found, ignored = match(tensors, RULES, what)
    if generator is None:
        raise Unfit(f"{what}: the generator whose weights it changes is not in the file; convert the whole checkpoint")
    shapes = {name: one.shape for name, one in found.items()}
    config = {**config_of(shapes, generator.config["channels"], what), "passes": passes}
    return Part(kind=KIND, config=config, arrays=fill(found, network_shapes(config), what)), ignored


def layers(channels: Collection[int]) -> list[tuple[int, int]]:
    """(features that it reads, makes) of each layer of a StyleGAN2; (0, 0) of those that make images."""
    found, before = [], 0
    for width in channels:
        found += [(before, width)] * bool(before) + [(width, width), (0, 0)]
        before = width
    return found


def config_of(shapes: Shapes, channels: Collection[int], what: str) -> dict[str, Any]:
    """The config of a network whose tensors have these shapes, without its passes; channels are the generator's."""
    known, slots = layers(channels), []
    names = {int(m[1]) for name in shapes if (m := re.match(r"refinement_blocks\.(\d+)\.", name))}
    for index in sorted(names):
        own = known[index] if index < len(known) else (0, 0)
        output = f"refinement_blocks.{index}.output.1.weight"
        if not own[0] or output in shapes and dim(shapes, output, 0) != own[0] * own[1]:
            raise Unfit(f"{what}: its block {index} does not fit that layer of the generator beside it {own}")
        slots.append([index, *own])
    with_head = [slot for slot in slots if f"refinement_blocks.{slot[0]}.linear.weight" in shapes]
    others = [slot for slot in slots if slot not in with_head]
    if not slots or len({tuple(slot[1:]) for slot in with_head}) > 1:
        raise Unfit(f"{what}: layers of several sizes share a head, or it changes none; the file is damaged")
    units = count(shapes, r"body\.(\d{1,3})\..*", f"{what}: its trunk")
    widths = [dim(shapes, f"body.{k}.conv1.weight", 0) for k in range(units)]
    stem = dim(shapes, "conv1.weight", 0)
    code = dim(shapes, f"{HEAD}.w1", 0) if with_head else 1

    def convs(chosen: list[list[int]], first: int) -> list[list[int]]:
        if not chosen:
            return [[1, 2]]
        prefix = f"refinement_blocks.{chosen[0][0]}.convs"
        indices = sorted(
            int(m[1]) for name in shapes if (m := re.fullmatch(rf"{re.escape(prefix)}\.(\d+)\.bias", name))
        )
        return [[dim(shapes, f"{prefix}.{k}.weight", 0), 2 if place else first] for place, k in enumerate(indices)]

    return {
        "slots": slots,
        "in_channels": dim(shapes, "conv1.weight", 1),
        "input_resolution": SIDE,
        "stem": stem,
        "units": [[width, 1 + (width != last)] for last, width in zip([stem, *widths], widths, strict=False)],
        "shared": with_head[0][1] if with_head else 0,
        "shared_code": code,
        "shared_convs": convs(with_head, 1),
        "convs": convs(others, 2),
        "filter": FILTER,
    }


def network_shapes(config: Mapping[str, Any]) -> Shapes:
    """Every tensor of a hypernetwork with this config: name -> shape."""
    c = config
    widths = [width for width, _ in c["units"]]
    # The trunk's first convolution has the width of its first units, as in `resnet`.
    shapes = resnet(widths, c["in_channels"])
    shared = [slot for slot in c["slots"] if slot[1] == slot[2] == c["shared"]]
    for slot in c["slots"]:
        name, before = f"refinement_blocks.{slot[0]}", widths[-1]
        for k, (width, _) in enumerate(c["shared_convs"] if slot in shared else c["convs"]):
            shapes |= {f"{name}.convs.{2 * k}.weight": (width, before, 3, 3), f"{name}.convs.{2 * k}.bias": (width,)}
            before = width
        if slot in shared:
            shapes |= {f"{name}.linear.weight": (c["shared_code"], before), f"{name}.linear.bias": (c["shared_code"],)}
        else:
            size = slot[1] * slot[2]
            shapes |= {f"{name}.output.1.weight": (size, before, 1, 1), f"{name}.output.1.bias": (size,)}
    if shared:
        code, width = c["shared_code"], c["shared"]
        for layer, size in (("1", 9 * width), ("2", code * width)):
            shapes |= {f"{HEAD}.w{layer}": (code, size), f"{HEAD}.b{layer}": (size,)}
    return shapes
