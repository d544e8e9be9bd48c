"""Face-recognition networks: facenet-pytorch's Inception-ResNet v1, and ArcFace's IR-SE50.

Other networks of the same families (IR-SE101, IR without excitation, the trunks of pSp and e4e) have other tensors and
are refused with a list of the differences.

Sources: facenet-pytorch (20180402-114759-vggface2.pt, 20180408-102900-casia-webface.pt); InsightFace_Pytorch
(model_ir_se50.pth).
"""

from collections.abc import Mapping

from convert_weights.checkpoint import Checkpoint, Part, together
from convert_weights.encoders import encoder_places
from convert_weights.match import Rule, fill, match
from convert_weights.structure import Structure
from convert_weights.tensors import Tensor
from convert_weights.trunks import IR_SE50, LEAF, Shapes, ir_se, norm

FACENET_FIRST = "conv2d_1a.conv.weight"
ARCFACE_FIRST = "input_layer.0.weight"
FACENET_RULES: list[Rule] = [
    (r"logits\.(weight|bias)", None, "the classifier of the training set's people is not part of the embedding"),
    (r".*\.num_batches_tracked", None, "a counter of training steps"),
    (rf"(conv2d_\d\w|repeat_\d|mixed_\d\w|block8|last_linear|last_bn)(\.\w+)*{LEAF}", lambda m: m[0], ""),
]
ARCFACE_RULES: list[Rule] = [
    (r".*\.num_batches_tracked", None, "a counter of training steps"),
    (rf"(input_layer|body|output_layer)(\.\w+)*{LEAF}", lambda m: m[0], ""),
]
PEOPLE = {8631: "VGGFace2", 10575: "CASIA-WebFace"}  # number of classes: training set

Kernel = tuple[int, int, int]  # out, height, width


def _row(name: str, before: int, *layers: Kernel, numbered: bool = True) -> Shapes:
    """Convolutions with batch norms in a row: name.0, name.1, ...; or a single one, of that name."""
    shapes: Shapes = {}
    for k, (width, height, breadth) in enumerate(layers):
        place = f"{name}.{k}" if numbered else name
        shapes |= {f"{place}.conv.weight": (width, before, height, breadth)} | norm(f"{place}.bn", width)
        before = width
    return shapes


def _residual(name: str, channels: int, first: int, *rows: tuple[Kernel, ...]) -> Shapes:
    """A residual block: branch0 is one convolution of `first` channels, the others are rows."""
    shapes = _row(f"{name}.branch0", channels, (first, 1, 1), numbered=False)
    for k, row in enumerate(rows):
        shapes |= _row(f"{name}.branch{k + 1}", channels, *row)
    joined = first + sum(row[-1][0] for row in rows)
    return shapes | {f"{name}.conv2d.weight": (channels, joined, 1, 1), f"{name}.conv2d.bias": (channels,)}


def facenet_shapes() -> Shapes:
    """Every tensor of Inception-ResNet v1 up to the embedding: name -> shape."""
    shapes: Shapes = {}
    before = 3
    for name, width, k in (("1a", 32, 3), ("2a", 32, 3), ("2b", 64, 3), ("3b", 80, 1), ("4a", 192, 3), ("4b", 256, 3)):
        shapes |= _row(f"conv2d_{name}", before, (width, k, k), numbered=False)
        before = width
    for k in range(5):
        rows = ((32, 1, 1), (32, 3, 3)), ((32, 1, 1), (32, 3, 3), (32, 3, 3))
        shapes |= _residual(f"repeat_1.{k}", 256, 32, *rows)
    shapes |= _row("mixed_6a.branch0", 256, (384, 3, 3), numbered=False)
    shapes |= _row("mixed_6a.branch1", 256, (192, 1, 1), (192, 3, 3), (256, 3, 3))
    for k in range(10):
        shapes |= _residual(f"repeat_2.{k}", 896, 128, ((128, 1, 1), (128, 1, 7), (128, 7, 1)))
    shapes |= _row("mixed_7a.branch0", 896, (256, 1, 1), (384, 3, 3))
    shapes |= _row("mixed_7a.branch1", 896, (256, 1, 1), (256, 3, 3))
    shapes |= _row("mixed_7a.branch2", 896, (256, 1, 1), (256, 3, 3), (256, 3, 3))
    for name in (*(f"repeat_3.{k}" for k in range(5)), "block8"):
        shapes |= _residual(name, 1792, 192, ((192, 1, 1), (192, 1, 3), (192, 3, 1)))
    return shapes | {"last_linear.weight": (512, 1792)} | norm("last_bn", 512)


def facenet(tensors: Mapping[str, Tensor]) -> Checkpoint:
    """The state dict of facenet-pytorch's Inception-ResNet v1 as a checkpoint.

    Raises:
        ConversionError: where it has other layers, or tensors of other shapes.
    """
    found, ignored = match(tensors, FACENET_RULES, "Inception-ResNet v1")
    classifier = tensors.get("logits.bias")
    people = PEOPLE.get(classifier.shape[0]) if classifier is not None and len(classifier.shape) == 1 else None
    notes = (
        () if people else ("without the classifier of a known training set, it cannot be told what it learned from",)
    )
    part = Part(
        kind="inception_resnet_v1",
        config={"name": "inception_resnet_v1", "trained_on": people or "unknown"},
        arrays=fill(found, facenet_shapes(), "Inception-ResNet v1"),
    )
    return Checkpoint(
        format="facenet-pytorch Inception-ResNet v1 state dict",
        parts=together(part),
        ignored=ignored,
        notes=notes,
        licence="MIT (facenet-pytorch); the pictures it learned from are for research",
    )


def is_arcface(structure: Structure) -> bool:
    """Whether the file's own state dict begins like ArcFace; so do the encoders of pSp and its relatives."""
    own = structure.own
    return ARCFACE_FIRST in own and "" not in encoder_places(own)


def arcface_shapes() -> Shapes:
    """Every tensor of IR-SE50: name -> shape."""
    shapes = ir_se(IR_SE50) | norm("output_layer.0", 512) | norm("output_layer.4", 512)
    return shapes | {"output_layer.3.weight": (512, 512 * 7 * 7), "output_layer.3.bias": (512,)}


def arcface(tensors: Mapping[str, Tensor]) -> Checkpoint:
    """The state dict of ArcFace's IR-SE50 as a checkpoint.

    Raises:
        ConversionError: where it has other layers, or tensors of other shapes.
    """
    found, ignored = match(tensors, ARCFACE_RULES, "ArcFace IR-SE50")
    part = Part(kind="arcface", config={"name": "ir_se50"}, arrays=fill(found, arcface_shapes(), "ArcFace IR-SE50"))
    return Checkpoint(
        format="ArcFace IR-SE50 state dict",
        parts=together(part),
        ignored=ignored,
        licence="MIT (InsightFace_Pytorch); the pictures it learned from are for research",
    )
