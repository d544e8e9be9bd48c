"""Perceptual weights: torchvision's VGG16, AlexNet and SqueezeNet 1.1 features, and LPIPS' linear layers on top.

Sources: torchvision.models, PerceptualSimilarity v0.1 (Zhang et al., arXiv 1801.03924).
"""

import hashlib
from collections.abc import Mapping

import numpy as np

from convert_weights.checkpoint import Checkpoint, ConversionError, Part, together
from convert_weights.match import Rule, fill, match
from convert_weights.structure import Structure
from convert_weights.tensors import Tensor


def _plain(layers: dict[int, tuple[int, int, int]]) -> dict[str, tuple[int, ...]]:
    """Shapes of convolutions {index: (in, out, kernel)}."""
    table: dict[str, tuple[int, ...]] = {}
    for i, (fan_in, fan_out, k) in layers.items():
        table |= {f"features.{i}.weight": (fan_out, fan_in, k, k), f"features.{i}.bias": (fan_out,)}
    return table


def _fires(layers: dict[int, tuple[int, int, int]]) -> dict[str, tuple[int, ...]]:
    """Shapes of SqueezeNet's fire modules {index: (in, squeeze, expand)}."""
    table: dict[str, tuple[int, ...]] = {}
    for i, (fan_in, squeeze, expand) in layers.items():
        for part, a, b, k in (
            ("squeeze", fan_in, squeeze, 1),
            ("expand1x1", squeeze, expand, 1),
            ("expand3x3", squeeze, expand, 3),
        ):
            table |= {f"features.{i}.{part}.weight": (b, a, k, k), f"features.{i}.{part}.bias": (b,)}
    return table


FIRST = "features.0.weight"
VGG_INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG_WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
BACKBONES: dict[str, dict[str, tuple[int, ...]]] = {
    "vgg16": _plain({i: (a, b, 3) for i, a, b in zip(VGG_INDICES, VGG_WIDTHS, VGG_WIDTHS[1:], strict=False)}),
    "alexnet": _plain({0: (3, 64, 11), 3: (64, 192, 5), 6: (192, 384, 3), 8: (384, 256, 3), 10: (256, 256, 3)}),
    "squeezenet1_1": _plain({0: (3, 64, 3)})
    | _fires({3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128)})
    | _fires({9: (256, 48, 192), 10: (384, 48, 192), 11: (384, 64, 256), 12: (512, 64, 256)}),
}
LINEAR = {
    (64, 128, 256, 512, 512): "vgg16",
    (64, 192, 384, 256, 256): "alexnet",
    (64, 128, 256, 384, 384, 512, 512): "squeezenet1_1",
}
BACKBONE_RULES: list[Rule] = [
    (r"classifier\..*", None, "the classifier is not part of LPIPS"),
    (r"features\.\d{1,3}(\.(squeeze|expand1x1|expand3x3))?\.(weight|bias)", lambda m: m[0], ""),
]
# First digits of the SHA-256 of all weights of the files of lpips: vgg, alex, squeeze.
PUBLISHED = {
    **dict.fromkeys(("e60d8ee2c0926a5b", "8a9f071221953c58", "1a1c8db5a561a681"), "v0.0"),
    **dict.fromkeys(("9153a2043dccf3b5", "718a8b40b0d22f96", "68f1b1752260e033"), "v0.1"),
}
LINEAR_RULES: list[Rule] = [
    (r"lin(\d{1,2})\.model\.1\.weight", lambda m: f"lin{int(m[1])}.weight", lambda x: x[0, :, 0, 0])
]


def is_backbone(structure: Structure) -> bool:
    """Whether the file's own state dict, or one inside it, begins like an image network of torchvision."""
    return structure.with_tensor(FIRST) is not None


def any_backbone(structure: Structure) -> Checkpoint:
    """`backbone` of the first state dict that `is_backbone` finds."""
    return backbone(structure.with_tensor(FIRST) or {})


def backbone(tensors: Mapping[str, Tensor]) -> Checkpoint:
    """torchvision's state dict of one of the three backbones, which is recognised by its convolutions.

    Raises:
        ConversionError: it is another network (VGG19, a batch-norm variant, SqueezeNet 1.0).
    """
    found, ignored = match(tensors, BACKBONE_RULES, "the image network")
    shapes = {n: m.shape for n, m in found.items()}
    name = next((n for n, table in BACKBONES.items() if table.keys() == shapes.keys()), None)
    if name is None:
        raise ConversionError(
            "has the layers of none of VGG16, AlexNet and SqueezeNet 1.1; use torchvision's vgg16-397923af.pth"
        )
    arrays = fill(found, BACKBONES[name], name)
    part = Part(kind="backbone", config={"name": name}, arrays=arrays)
    return Checkpoint(
        format=f"torchvision {name} state dict",
        parts=together(part),
        ignored=ignored,
        licence="BSD-3-Clause (torchvision)",
    )


def linear(tensors: Mapping[str, Tensor]) -> Checkpoint:
    """LPIPS' v0.1 linear layers, [1, C, 1, 1] each, as [C]."""
    found, ignored = match(tensors, LINEAR_RULES, "the linear layers of LPIPS")
    widths = tuple(found[n].shape[0] for n in (f"lin{k}.weight" for k in range(len(found))) if n in found)
    if widths not in LINEAR or len(widths) != len(found):
        raise ConversionError(
            f"has linear layers of {list(widths)} channels, which fit none of VGG16, AlexNet and SqueezeNet 1.1; use "
            "vgg.pth, alex.pth or squeeze.pth of lpips v0.1"
        )
    arrays = fill(found, {f"lin{k}.weight": (c,) for k, c in enumerate(widths)}, "LPIPS")
    version = _version(arrays)
    if version == "v0.0":
        raise ConversionError(
            "has the linear layers of LPIPS v0.0, which are for images that are not scaled; use the file of the same "
            "name in weights/v0.1"
        )
    part = Part(kind="lpips_lin", config={"name": LINEAR[widths]}, arrays=arrays)
    return Checkpoint(
        format="LPIPS v0.1 linear layers",
        parts=together(part),
        notes=() if version else ("these are not the published weights of v0.1",),
        ignored=ignored,
        licence="BSD-2-Clause (Zhang et al., PerceptualSimilarity)",
    )


def _version(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Which published linear layers these are: those of both versions have the same names and shapes."""
    weights = b"".join(np.ascontiguousarray(arrays[f"lin{k}.weight"], "<f4").tobytes() for k in range(len(arrays)))
    return PUBLISHED.get(hashlib.sha256(weights).hexdigest()[:16])


def lpips(backbone: Checkpoint, lin: Checkpoint) -> Checkpoint:
    """LPIPS v0.1 from its halves, of kind "backbone" and "lpips_lin".

    Raises:
        ConversionError: they are of other kinds, or for different networks.
    """
    for checkpoint, kind in ((backbone, "backbone"), (lin, "lpips_lin")):
        if checkpoint.kind != kind:
            raise ConversionError(
                f"expected {kind!r} weights, got {checkpoint.kind!r} ({checkpoint.format}); give the backbone, then "
                "the lin weights"
            )
    below, above = backbone.parts["backbone"], lin.parts["lpips_lin"]
    if below.config["name"] != above.config["name"]:
        raise ConversionError(
            f"the backbone is {below.config['name']}, the lin weights are for {above.config['name']}; convert the pair "
            "of one network"
        )
    config = {"name": below.config["name"], "version": "0.1"}
    return Checkpoint(
        format=f"{backbone.format}, {lin.format}",
        parts=together(Part(kind="lpips", config=config, arrays={**below.arrays, **above.arrays})),
        halves={"backbone": backbone.provenance, "lin": lin.provenance},
    )
