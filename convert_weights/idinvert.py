"""IDInvert's domain-guided encoder, as its authors released it (genforce/idinvert_pytorch, `*_encoder.pth`).

A convolution, residual blocks, and a dense layer, each followed by batch norm: `block0.conv` to `block7.fc` at 256 px.
Canonical names are those of the file, with `bn.bn` as `bn` and the bias `wscale1` as that of `conv1`. The encoder that
the TensorFlow original trains is another network, which is not read.
"""

from collections.abc import Collection, Mapping
from typing import Any

from convert_weights.checkpoint import Checkpoint, Part, Unfit, together
from convert_weights.match import Rule, fill, match
from convert_weights.places import places as find
from convert_weights.structure import Structure
from convert_weights.stylegan2 import count, dim
from convert_weights.tensors import Tensor
from convert_weights.trunks import Shapes, norm

KIND = "idinvert"
FIRST = ("block0.conv.weight", "block1.wscale1.bias")  # tensors that no other network has together
WHAT = "IDInvert's encoder"
SIDE = 4  # px a side where the dense layer begins
BLOCKS = range(2, 13)  # before the dense layer: as many as lsap_jax's encoders can have
RULES: list[Rule] = [
    (r".*\.num_batches_tracked", None, "a counter of training steps"),
    (r"block(\d{1,2})\.(conv[12]?|fc)\.weight", lambda m: m[0], ""),
    (r"block(\d{1,2})\.wscale([12])\.bias", lambda m: f"block{m[1]}.conv{m[2]}.bias", ""),
    (
        r"block(\d{1,2})\.(bn[12]?)\.bn\.(weight|bias|running_mean|running_var)",
        lambda m: f"block{m[1]}.{m[2]}.{m[3]}",
        "",
    ),
]


def is_encoder(s: Structure) -> bool:
    """Whether the file's own state dict is the encoder's."""
    return all(name in s.own for name in FIRST)


def places(names: Collection[str]) -> list[str]:
    """Where such encoders lie among the tensors of a file."""
    return [place for place in find(names, FIRST[:1]) if place + FIRST[1] in names]


def encoder_file(s: Structure) -> Checkpoint:
    """The encoder's state dict as a checkpoint."""
    part, ignored = encoder(s.own)
    return Checkpoint(format=f"IDInvert encoder, in {s.placed}", parts=together(part), ignored=ignored)


def encoder(tensors: Mapping[str, Tensor]) -> tuple[Part, dict[str, str]]:
    """The encoder, and the source tensors that are not used with the reasons.

    Raises:
        Unfit: naming the tensors of another network.
    """
    found, ignored = match(tensors, RULES, WHAT)
    config = _config({name: one.shape for name, one in found.items()})
    return Part(kind=KIND, config=config, arrays=fill(found, encoder_shapes(config), WHAT)), ignored


def _config(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The dense layer makes all rows at once: how many there are follows from the resolution, as in the original."""
    last = count(shapes, r"block(\d{1,2})\..*", WHAT) - 1
    if last not in BLOCKS or f"block{last}.fc.weight" not in shapes:
        raise Unfit(f"{WHAT}: block{last} is no dense layer behind residual blocks; this variant is not supported")
    widths = [dim(shapes, f"block{k}.{'conv2' if k else 'conv'}.weight", 0) for k in range(last)]
    rows, numbers = 2 * last, dim(shapes, f"block{last}.fc.weight", 0)
    if numbers % rows:
        raise Unfit(
            f"{WHAT}: makes {numbers} numbers from images of {SIDE * 2 ** (last - 1)} px, which are not {rows} rows"
        )
    return {
        "num_ws": rows,
        "w_dim": numbers // rows,
        "widths": widths,
        "in_channels": dim(shapes, "block0.conv.weight", 1),
    }


def encoder_shapes(config: Mapping[str, Any]) -> Shapes:
    """Every tensor of the encoder with this config: name -> shape."""
    widths, last = config["widths"], len(config["widths"])
    shapes = {"block0.conv.weight": (widths[0], config["in_channels"], 3, 3)} | norm("block0.bn", widths[0])
    for k in range(1, last):
        before, width = widths[k - 1 : k + 1]
        if before != width:
            shapes |= {f"block{k}.conv.weight": (width, before, 1, 1)} | norm(f"block{k}.bn", width)
        for i, taken, made in ((1, before, min(before, width)), (2, min(before, width), width)):
            name = f"block{k}.conv{i}"
            shapes |= {f"{name}.weight": (made, taken, 3, 3), f"{name}.bias": (made,)} | norm(f"block{k}.bn{i}", made)
    numbers = config["num_ws"] * config["w_dim"]
    shapes[f"block{last}.fc.weight"] = (numbers, widths[-1] * SIDE**2)
    return shapes | norm(f"block{last}.bn", numbers)
