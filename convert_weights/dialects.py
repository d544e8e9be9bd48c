"""The table of dialects: the first row whose test a file passes reads the file.

To add a dialect, write a module with a test and a reader, and add a row here.
"""

from collections.abc import Callable
from typing import NamedTuple, NoReturn

from convert_weights import (
    basecode,
    codes,
    dlib_file,
    faces,
    inception,
    mtcnn,
    nvlabs,
    nvlabs_file,
    perceptual,
    tensorflow,
)
from convert_weights import state_dicts as sd
from convert_weights.archive import Archive
from convert_weights.builders import NAMESPACE, NETWORK
from convert_weights.checkpoint import Checkpoint, ConversionError, listed, shown
from convert_weights.pickle_machine import Node
from convert_weights.structure import Structure


class Dialect(NamedTuple):
    """A row: the name of a dialect, the test for it, and its reader, which may raise ConversionError."""

    name: str
    test: Callable[[Structure], bool]
    read: Callable[[Structure], Checkpoint]


def refused(reason: str) -> Callable[[Structure], NoReturn]:
    """The reader of a format that is recognised but not supported."""

    def read(structure: Structure) -> NoReturn:
        raise ConversionError(reason)

    return read


def has(*names: str) -> Callable[[Structure], bool]:
    """The test whether the file's own state dict has one of these tensors."""
    return lambda s: any(name in s.own for name in names)


def anywhere(test: Callable[[str], bool]) -> Callable[[Structure], bool]:
    """The test whether the name of any tensor in the file passes `test`."""
    return lambda s: any(test(name) for flat in (s.own, *s.parts.values()) for name in flat)


STYLEGAN1 = "is a StyleGAN1 generator, which is not supported; use a StyleGAN2 checkpoint"
DIALECTS: tuple[Dialect, ...] = (
    Dialect("wheel of facenet-pytorch", lambda s: isinstance(s.root, Archive), lambda s: mtcnn.wheel(s.root)),
    Dialect("dlib", lambda s: s.container == "dlib file", lambda s: dlib_file.face_network(s.root)),
    Dialect("NVlabs .npz", lambda s: s.container == ".npz" and bool(nvlabs.state_dicts(s.own)[0]), nvlabs_file.npz),
    Dialect("codes in numpy's files", lambda s: s.container in (".npz", ".npy"), codes.numpy_file),
    Dialect("TensorFlow StyleGAN2", lambda s: tensorflow.is_networks(s.root), lambda s: tensorflow.networks(s.root)),
    Dialect("codes, a single tensor", lambda s: s.tensor is not None, codes.single),
    Dialect(
        "NVlabs generator",
        lambda s: isinstance(s.root, Node) and s.root.name not in (NAMESPACE, NETWORK),
        lambda s: nvlabs_file.whole_generator(s.root),
    ),
    Dialect("NVlabs snapshot", nvlabs_file.is_snapshot, lambda s: nvlabs_file.snapshot(s.mapping)),
    Dialect("image network of torchvision", perceptual.is_backbone, perceptual.any_backbone),
    Dialect("linear layers of LPIPS", has("lin0.model.1.weight"), lambda s: perceptual.linear(s.own)),
    Dialect("Inception v3 of FID", has(inception.FIRST), lambda s: inception.inception(s.own)),
    Dialect("Inception-ResNet v1", has(faces.FACENET_FIRST), lambda s: faces.facenet(s.own)),
    Dialect("ArcFace", has(faces.ARCFACE_FIRST), lambda s: faces.arcface(s.own)),
    Dialect("network of MTCNN", lambda s: mtcnn.is_mtcnn(s.own), lambda s: mtcnn.mtcnn(s.own)),
    Dialect("base-code encoder of BDInvert", basecode.is_encoder, sd.basecode_encoder),
    Dialect("generator in pSp, e4e, HyperStyle", sd.is_decoder, sd.decoder),
    Dialect("rosinality", sd.is_rosinality, sd.rosinality_file),
    Dialect("GenForce", sd.is_genforce, sd.genforce_file),
    Dialect("NVlabs names", sd.is_nvlabs, sd.nvlabs_names),
    Dialect(
        "StyleGAN3",
        anywhere(lambda name: name.startswith(("synthesis.input.", "synthesis.L0_"))),
        refused("is a StyleGAN3 generator, whose networks are different; use a StyleGAN2 checkpoint"),
    ),
    Dialect(
        "module of LPIPS",
        anywhere(lambda name: name.startswith(("net.slice", "lins."))),
        refused(
            "is a whole LPIPS module; convert torchvision's vgg16-397923af.pth and lpips/weights/v0.1/vgg.pth instead, "
            "one by one"
        ),
    ),
    Dialect(
        "StyleGAN1",
        anywhere(
            lambda name: (
                name == "g_synthesis.blocks.4x4.epi1.top_epi.noise.weight"
                or name.startswith("synthesis.layer0.apply_noise")
            )
        ),
        refused(STYLEGAN1),
    ),
    Dialect(
        "ArcFace inside of something else",
        lambda s: any(
            faces.ARCFACE_FIRST in flat and any(n.startswith("body.") for n in flat) for flat in s.parts.values()
        ),
        refused(
            "holds a face-recognition network (ArcFace) among other things; convert the state dict of that network, "
            "model_ir_se50.pth"
        ),
    ),
    Dialect("codes by name", codes.are_codes, lambda s: codes.codes(s.own, s.placed)),
)


def in_dialect(structure: Structure) -> Checkpoint:
    """The checkpoint that the reader of a structure's dialect makes of it.

    Raises:
        ConversionError: no row of `DIALECTS` matches, or the tensors do not fit the network.
    """
    found = next((row for row in DIALECTS if row.test(structure)), None)
    if found is not None:
        return found.read(structure)
    if isinstance(structure.root, dict):
        raise ConversionError(
            f"holds {listed([str(k) for k in structure.root])}, which is not a known checkpoint; see the list of "
            "supported formats"
        )
    held = "a single network" if isinstance(structure.root, Node) else shown(structure.root)
    raise ConversionError(f"holds {held} instead of a checkpoint; it is not supported")
