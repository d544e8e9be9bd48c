"""Trunks of face networks and encoders: the names and shapes of their tensors."""

from collections.abc import Sequence

STATISTICS = ("weight", "bias", "running_mean", "running_var")
LEAF = rf"\.({'|'.join(STATISTICS)})"  # the last word of a name, in a pattern
SQUEEZE = 16  # of IR-SE's excitation
FILTER = "bilinear"  # of torchvision's Resize, with antialiasing, by which all of these tools reduce pictures
IR_SE50 = (64,) * 3 + (128,) * 4 + (256,) * 14 + (512,) * 3  # widths of its units

Shapes = dict[str, tuple[int, ...]]


def norm(name: str, width: int) -> Shapes:
    """A batch norm."""
    return {f"{name}.{s}": (width,) for s in STATISTICS}


def ir_se(widths: Sequence[int], channels: int = 3) -> Shapes:
    """The residual network with squeeze and excitation of ArcFace, for images with these channels: name -> shape."""
    before = widths[0]
    shapes = input_layer("input_layer", channels, before)
    for k, width in enumerate(widths):
        shapes |= ir_unit(f"body.{k}", before, width)
        shapes[f"body.{k}.res_layer.5.fc1.weight"] = (width // SQUEEZE, width, 1, 1)
        shapes[f"body.{k}.res_layer.5.fc2.weight"] = (width, width // SQUEEZE, 1, 1)
        before = width
    return shapes


def input_layer(name: str, channels: int, width: int) -> Shapes:
    """A convolution, a norm and a PReLU."""
    shapes = {f"{name}.0.weight": (width, channels, 3, 3), f"{name}.2.weight": (width,)}
    return shapes | norm(f"{name}.1", width)


def ir_unit(name: str, before: int, width: int) -> Shapes:
    """A residual unit of IR without squeeze and excitation."""
    inner = f"{name}.res_layer"
    shapes = norm(f"{inner}.0", before) | {f"{inner}.1.weight": (width, before, 3, 3), f"{inner}.2.weight": (width,)}
    shapes |= norm(f"{inner}.4", width) | {f"{inner}.3.weight": (width, width, 3, 3)}
    return shapes | (_shortcut(f"{name}.shortcut_layer", before, width) if width != before else {})


def resnet(widths: Sequence[int], channels: int = 3) -> Shapes:
    """ResNet34 as ReStyle has it, for images with these channels: name -> shape."""
    before = widths[0]
    shapes = {"conv1.weight": (before, channels, 7, 7), "relu.weight": (before,)} | norm("bn1", before)
    for k, width in enumerate(widths):
        shapes |= {f"body.{k}.conv1.weight": (width, before, 3, 3), f"body.{k}.conv2.weight": (width, width, 3, 3)}
        shapes |= norm(f"body.{k}.bn1", width) | norm(f"body.{k}.bn2", width)
        if width != before:
            shapes |= _shortcut(f"body.{k}.downsample", before, width)
        before = width
    return shapes


def _shortcut(name: str, before: int, width: int) -> Shapes:
    return {f"{name}.0.weight": (width, before, 1, 1)} | norm(f"{name}.1", width)
