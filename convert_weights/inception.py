"""FID's Inception v3: the port to torch of TensorFlow's graph of 2015-12-05 (pt_inception-2015-12-05-6726825d.pth).

torchvision's ImageNet Inception v3 has the same convolutions with other weights; the number of classes, 1008 there and
1000 here, tells the two apart.

Source: pytorch-fid (fid_inception_v3).
"""

from collections.abc import Mapping

from convert_weights.checkpoint import Checkpoint, ConversionError, Part, together
from convert_weights.match import Rule, fill, match
from convert_weights.tensors import Tensor

FIRST = "Conv2d_1a_3x3.conv.weight"
CLASSES = 1008
STATISTICS = ("weight", "bias", "running_mean", "running_var")
RULES: list[Rule] = [
    (r"fc\.(weight|bias)", None, "the classifier is not part of FID"),
    (r"AuxLogits\..*", None, "the auxiliary classifier is not part of FID"),
    (r".*\.num_batches_tracked", None, "a counter of training steps"),
    (rf"\w+(\.\w+)?\.(conv\.weight|bn\.({'|'.join(STATISTICS)}))", lambda m: m[0], ""),
]

# name: (in, out, height, width) of every convolution
Table = dict[str, tuple[int, int, int, int]]


def _chain(name: str, before: int, *layers: tuple[int, int, int]) -> Table:
    """Convolutions `name`_1, `name`_2, ... of (out, height, width) in a row."""
    table = {}
    for k, (width, *kernel) in enumerate(layers):
        table[f"{name}_{k + 1}"] = (before, width, kernel[0], kernel[1])
        before = width
    return table


def _a(n: int, pooled: int) -> Table:
    return {
        "branch1x1": (n, 64, 1, 1),
        **_chain("branch5x5", n, (48, 1, 1), (64, 5, 5)),
        **_chain("branch3x3dbl", n, (64, 1, 1), (96, 3, 3), (96, 3, 3)),
        "branch_pool": (n, pooled, 1, 1),
    }


def _b(n: int) -> Table:
    return {
        "branch3x3": (n, 384, 3, 3),
        **_chain("branch3x3dbl", n, (64, 1, 1), (96, 3, 3), (96, 3, 3)),
    }


def _c(n: int, c: int) -> Table:
    return {
        "branch1x1": (n, 192, 1, 1),
        **_chain("branch7x7", n, (c, 1, 1), (c, 1, 7), (192, 7, 1)),
        **_chain("branch7x7dbl", n, (c, 1, 1), (c, 7, 1), (c, 1, 7), (c, 7, 1), (192, 1, 7)),
        "branch_pool": (n, 192, 1, 1),
    }


def _d(n: int) -> Table:
    return {
        **_chain("branch3x3", n, (192, 1, 1), (320, 3, 3)),
        **_chain("branch7x7x3", n, (192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)),
    }


def _e(n: int) -> Table:
    return {
        "branch1x1": (n, 320, 1, 1),
        **_chain("branch3x3", n, (384, 1, 1)),
        "branch3x3_2a": (384, 384, 1, 3),
        "branch3x3_2b": (384, 384, 3, 1),
        **_chain("branch3x3dbl", n, (448, 1, 1), (384, 3, 3)),
        "branch3x3dbl_3a": (384, 384, 1, 3),
        "branch3x3dbl_3b": (384, 384, 3, 1),
        "branch_pool": (n, 192, 1, 1),
    }


STEM: Table = {
    "Conv2d_1a_3x3": (3, 32, 3, 3),
    "Conv2d_2a_3x3": (32, 32, 3, 3),
    "Conv2d_2b_3x3": (32, 64, 3, 3),
    "Conv2d_3b_1x1": (64, 80, 1, 1),
    "Conv2d_4a_3x3": (80, 192, 3, 3),
}
BLOCKS: dict[str, Table] = {
    "Mixed_5b": _a(192, 32),
    "Mixed_5c": _a(256, 64),
    "Mixed_5d": _a(288, 64),
    "Mixed_6a": _b(288),
    "Mixed_6b": _c(768, 128),
    "Mixed_6c": _c(768, 160),
    "Mixed_6d": _c(768, 160),
    "Mixed_6e": _c(768, 192),
    "Mixed_7a": _d(768),
    "Mixed_7b": _e(1280),
    "Mixed_7c": _e(2048),
}


def inception_shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor up to the features: name -> shape."""
    convolutions = STEM | {f"{block}.{name}": c for block, table in BLOCKS.items() for name, c in table.items()}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (fan_in, fan_out, height, width) in convolutions.items():
        shapes[f"{name}.conv.weight"] = (fan_out, fan_in, height, width)
        shapes |= {f"{name}.bn.{s}": (fan_out,) for s in STATISTICS}
    return shapes


def inception(tensors: Mapping[str, Tensor]) -> Checkpoint:
    """The state dict of FID's Inception v3 as a checkpoint.

    Raises:
        ConversionError: it is torchvision's network, or its layers or the shapes of its tensors differ.
    """
    classifier = tensors.get("fc.weight")
    if classifier is not None and tuple(classifier.shape[:1]) != (CLASSES,):
        raise ConversionError(
            f"is an Inception v3 whose fc.weight is {list(classifier.shape)}; FID's has {CLASSES} classes, "
            "torchvision's has 1000 and other features; use pt_inception-2015-12-05-6726825d.pth of pytorch-fid"
        )
    found, ignored = match(tensors, RULES, "FID's Inception v3")
    notes = () if classifier is not None else ("without the classifier, FID's weights cannot be told from others",)
    part = Part(
        kind="inception",
        config={"name": "inception_v3_fid"},
        arrays=fill(found, inception_shapes(), "FID's Inception v3"),
    )
    return Checkpoint(
        format="pytorch-fid Inception v3 state dict",
        parts=together(part),
        ignored=ignored,
        notes=notes,
        licence="Apache-2.0 (TensorFlow's graph of 2015-12-05, ported by pytorch-fid)",
    )
