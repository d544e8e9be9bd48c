"""MoCo's ResNet-50 from the file of its pretraining (moco_v2_800ep_pretrain.pth.tar), as e4e and pSp use it."""

from convert_weights.checkpoint import Checkpoint, Part, together
from convert_weights.match import Rule, fill, match
from convert_weights.structure import Structure

OWN = "encoder_q."
STATISTICS = ("weight", "bias", "running_mean", "running_var")
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # width, units
RULES: list[Rule] = [
    (r".*\.num_batches_tracked", None, "a counter of training steps"),
    (r"(.*/)?(module\.)?encoder_q\.fc\..*", None, "the last layers serve the training alone"),
    (r"(.*/)?(module\.)?(encoder_k\..*|queue|queue_ptr)", None, "the second encoder serves the training alone"),
    (r"optimizer/.*", None, "of the training"),
    (r"(.*/)?(module\.)?encoder_q\.((conv1|bn1|layer\d)(\.\w+)*\.\w+)", lambda m: m[3], ""),
]

Shapes = dict[str, tuple[int, ...]]


def is_moco(structure: Structure) -> bool:
    """Whether the file has MoCo's encoder of queries."""
    return any(name.endswith(f"{OWN}conv1.weight") for name in structure.everything)


def moco_shapes() -> Shapes:
    """Every tensor of ResNet-50 up to the features: name -> shape."""

    def layer(name: str, norm: str, *shape: int) -> Shapes:
        return {f"{name}.weight": shape} | {f"{norm}.{s}": shape[:1] for s in STATISTICS}

    shapes, before = layer("conv1", "bn1", 64, 3, 7, 7), 64
    for stage, (width, count) in enumerate(STAGES):
        for k in range(count):
            name = f"layer{stage + 1}.{k}"
            shapes |= layer(f"{name}.conv1", f"{name}.bn1", width, before, 1, 1)
            shapes |= layer(f"{name}.conv2", f"{name}.bn2", width, width, 3, 3)
            shapes |= layer(f"{name}.conv3", f"{name}.bn3", 4 * width, width, 1, 1)
            if k == 0:
                shapes |= layer(f"{name}.downsample.0", f"{name}.downsample.1", 4 * width, before, 1, 1)
            before = 4 * width
    return shapes


def moco(structure: Structure) -> Checkpoint:
    """The file as a checkpoint.

    Raises:
        ConversionError: it has other layers, or tensors of other shapes.
    """
    found, ignored = match(structure.everything, RULES, "MoCo's ResNet-50")
    part = Part(
        kind="moco",
        config={"name": "resnet50", "trained_on": "ImageNet, without labels"},
        arrays=fill(found, moco_shapes(), "MoCo's ResNet-50"),
    )
    return Checkpoint(
        format="MoCo checkpoint",
        parts=together(part),
        ignored=ignored,
        licence="CC BY-NC 4.0 (MoCo); the pictures it learned from are for research",
    )
