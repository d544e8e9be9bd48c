"""MTCNN's networks P-Net, R-Net and O-Net: one state dict each, or all three in a wheel of facenet-pytorch.

A wheel is a zip: its data files are read like any other checkpoint, and nothing in it is run or imported.

Source: facenet-pytorch 2.6.0 (facenet_pytorch/data/{p,r,o}net.pt).
"""

from collections.abc import Mapping

import numpy as np

from convert_weights.archive import Archive
from convert_weights.checkpoint import Checkpoint, ConversionError, Part, together
from convert_weights.match import Rule, fill, match
from convert_weights.tensors import Tensor
from convert_weights.torch_file import LEGACY_START, read_legacy

LICENCE = "MIT (facenet-pytorch, Timothy Esler; after MTCNN, Zhang et al. 2016)"
KIND = "mtcnn"
FOLDER = "facenet_pytorch/data/"
RULES: list[Rule] = [(r"(conv|prelu|dense)\d(_\d)?\.(weight|bias)", lambda m: m[0], "")]

Shapes = dict[str, tuple[int, ...]]


def _layers(*layers: tuple[str, tuple[int, ...]], slopes: tuple[int, ...]) -> Shapes:
    """Shapes of layers (name, (out, in[, k, k])) with a bias each, and of PReLUs with these numbers of slopes."""
    table: Shapes = {}
    for name, shape in layers:
        table |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return table | {f"prelu{k + 1}.weight": (n,) for k, n in enumerate(slopes)}


NETWORKS: dict[str, Shapes] = {
    "pnet": _layers(
        ("conv1", (10, 3, 3, 3)),
        ("conv2", (16, 10, 3, 3)),
        ("conv3", (32, 16, 3, 3)),
        ("conv4_1", (2, 32, 1, 1)),
        ("conv4_2", (4, 32, 1, 1)),
        slopes=(10, 16, 32),
    ),
    "rnet": _layers(
        ("conv1", (28, 3, 3, 3)),
        ("conv2", (48, 28, 3, 3)),
        ("conv3", (64, 48, 2, 2)),
        ("dense4", (128, 576)),
        ("dense5_1", (2, 128)),
        ("dense5_2", (4, 128)),
        slopes=(28, 48, 64, 128),
    ),
    "onet": _layers(
        ("conv1", (32, 3, 3, 3)),
        ("conv2", (64, 32, 3, 3)),
        ("conv3", (64, 64, 3, 3)),
        ("conv4", (128, 64, 2, 2)),
        ("dense5", (256, 1152)),
        ("dense6_1", (2, 256)),
        ("dense6_2", (4, 256)),
        ("dense6_3", (10, 256)),
        slopes=(32, 64, 64, 128, 256),
    ),
}
MAX_NETWORK = 2**23  # bytes of a file; the largest has 2^21
FILES = {f"{FOLDER}{name}.pt" for name in NETWORKS}
TELLING = {"conv4_1.weight": "pnet", "dense4.weight": "rnet", "dense5.weight": "onet"}  # a layer that only this one has


def is_mtcnn(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these look like the state dict of one of the three networks."""
    return "prelu1.weight" in tensors and any(name in tensors for name in TELLING)


def mtcnn(tensors: Mapping[str, Tensor]) -> Checkpoint:
    """One network's state dict, under names such as `pnet/conv1.weight`.

    Raises:
        ConversionError: tensors are missing, unexpected or of another shape.
    """
    name = next((net for layer, net in TELLING.items() if layer in tensors), None)
    if name is None:
        raise ConversionError("has the layers of none of MTCNN's three networks; use the files of facenet-pytorch")
    found, _ = match(tensors, RULES, f"MTCNN's {name}")
    arrays = fill(found, NETWORKS[name], f"MTCNN's {name}")
    return _checkpoint(f"facenet-pytorch {name}.pt", [name], {f"{name}/{key}": a for key, a in arrays.items()})


def is_wheel(archive: Archive) -> bool:
    """Whether a zip has files of the three networks where facenet-pytorch's wheel has them."""
    return not FILES.isdisjoint(archive.names)


def wheel(archive: Archive) -> Checkpoint:
    """The three networks in a wheel of facenet-pytorch.

    Raises:
        ConversionError: a network is missing or damaged.
    """
    arrays: dict[str, np.ndarray] = {}
    for name in NETWORKS:
        part = mtcnn(_state_dict(archive.read(f"{FOLDER}{name}.pt", MAX_NETWORK), name)).parts[KIND]
        if part.config["networks"] != [name]:
            raise ConversionError(f"its {name}.pt holds {part.config['networks'][0]} instead; fetch the wheel again")
        arrays |= part.arrays
    return _checkpoint("wheel of facenet-pytorch", list(NETWORKS), arrays)


def _checkpoint(format: str, networks: list[str], arrays: dict[str, np.ndarray]) -> Checkpoint:
    part = Part(kind=KIND, config={"networks": networks}, arrays=arrays)
    return Checkpoint(format=format, parts=together(part), licence=LICENCE)


def _state_dict(data: bytes, name: str) -> dict[str, Tensor]:
    if not data.startswith(LEGACY_START):
        raise ConversionError(
            f"its {name}.pt is not a torch file in the legacy format; use the wheel of facenet-pytorch 2.6.0"
        )
    root = read_legacy(memoryview(data))
    if not isinstance(root, dict):
        raise ConversionError(f"its {name}.pt holds no state dict; use the wheel of facenet-pytorch 2.6.0")
    return {str(key): value for key, value in root.items() if isinstance(value, Tensor)}
