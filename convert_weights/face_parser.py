"""BiSeNet for the parts of faces (zllrunning/face-parsing.PyTorch, `79999_iter.pth`)."""

from collections.abc import Mapping
from typing import Any

from convert_weights.checkpoint import Checkpoint, Part, together
from convert_weights.match import Rule, fill, match
from convert_weights.structure import Structure
from convert_weights.stylegan2 import count, dim
from convert_weights.trunks import LEAF, Shapes, norm

KIND = "face_parser"
WHAT = "BiSeNet for faces"
FIRST = ("cp.resnet.conv1.weight", "ffm.convblk.conv.weight")  # tensors that no other network has together
STAGES = range(1, 5)
SIDE = 512  # px a side of the images that it was trained with
RULES: list[Rule] = [
    (r".*\.num_batches_tracked", None, "a counter of training steps"),
    (r"conv_out(16|32)\..*", None, "a head of the training alone"),
    (rf"(cp|ffm|conv_out)\.[\w.]+{LEAF}", lambda m: m[0], ""),
]


def is_parser(structure: Structure) -> bool:
    """Whether the file's own state dict is the network's."""
    return all(name in structure.own for name in FIRST)


def parser_file(structure: Structure) -> Checkpoint:
    """The state dict as a checkpoint.

    Raises:
        ConversionError: it has other layers, or tensors of other shapes.
    """
    found, ignored = match(structure.own, RULES, WHAT)
    config = config_of({name: one.shape for name, one in found.items()})
    part = Part(kind=KIND, config=config, arrays=fill(found, network_shapes(config), WHAT))
    return Checkpoint(format=f"BiSeNet, in {structure.placed}", parts=together(part), ignored=ignored)


def config_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The config of a network whose tensors have these shapes.

    Raises:
        Unfit: a tensor that tells a size is missing.
    """
    stages = [rf"cp\.resnet\.layer{k}\.(\d{{1,3}})\..*" for k in STAGES]
    return {
        "classes": dim(shapes, "conv_out.conv_out.weight", 0),
        "input_resolution": SIDE,
        "stem": dim(shapes, FIRST[0], 0),
        "widths": [dim(shapes, f"cp.resnet.layer{k}.0.conv1.weight", 0) for k in STAGES],
        "units": [count(shapes, pattern, f"{WHAT}: layer{k}") for k, pattern in zip(STAGES, stages, strict=True)],
        "context": dim(shapes, "cp.conv_avg.conv.weight", 0),
        "fused": dim(shapes, FIRST[1], 0),
        "squeezed": dim(shapes, "ffm.conv1.weight", 0),
        "head": dim(shapes, "conv_out.conv.conv.weight", 0),
    }


def network_shapes(config: Mapping[str, Any]) -> Shapes:
    """Every tensor of the network with this config: name -> shape."""
    c = config
    context, before = c["context"], c["stem"]
    shapes = _layer("cp.resnet.conv1", "cp.resnet.bn1", c["stem"], 3, 7)
    for stage, (width, units) in enumerate(zip(c["widths"], c["units"], strict=True)):
        for k in range(units):
            name = f"cp.resnet.layer{stage + 1}.{k}"
            shapes |= _layer(f"{name}.conv1", f"{name}.bn1", width, before, 3)
            shapes |= _layer(f"{name}.conv2", f"{name}.bn2", width, width, 3)
            if k == 0 and (stage > 0 or before != width):
                shapes |= _layer(f"{name}.downsample.0", f"{name}.downsample.1", width, before, 1)
            before = width
    for name, width in (("arm16", c["widths"][2]), ("arm32", c["widths"][3])):
        shapes |= _block(f"cp.{name}.conv", context, width, 3)
        shapes |= _layer(f"cp.{name}.conv_atten", f"cp.{name}.bn_atten", context, context, 1)
    shapes |= _block("cp.conv_head32", context, context, 3) | _block("cp.conv_head16", context, context, 3)
    shapes |= _block("cp.conv_avg", context, c["widths"][3], 1)
    shapes |= _block("ffm.convblk", c["fused"], c["widths"][1] + context, 1)
    shapes["ffm.conv1.weight"] = (c["squeezed"], c["fused"], 1, 1)
    shapes["ffm.conv2.weight"] = (c["fused"], c["squeezed"], 1, 1)
    shapes |= _block("conv_out.conv", c["head"], c["fused"], 3)
    return shapes | {"conv_out.conv_out.weight": (c["classes"], c["head"], 1, 1)}


def _block(name: str, width: int, before: int, kernel: int) -> Shapes:
    return _layer(f"{name}.conv", f"{name}.bn", width, before, kernel)


def _layer(conv: str, after: str, width: int, before: int, kernel: int) -> Shapes:
    """A convolution without bias, and a norm."""
    return {f"{conv}.weight": (width, before, kernel, kernel)} | norm(after, width)
