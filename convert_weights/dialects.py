"""The table of dialects: the first row whose test a file passes reads the file.

To add a dialect, write a module with a test and a reader, and add a row here.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from convert_weights import (
    basecode,
    codes,
    dlib_file,
    encoders,
    face_parser,
    faces,
    families,
    idinvert,
    inception,
    invertibility,
    moco,
    mtcnn,
    nvlabs_file,
    perceptual,
    styleclip,
    tensorflow,
    tensorflow_stylegan1,
)
from convert_weights.archive import Archive
from convert_weights.checkpoint import Checkpoint, ConversionError, listed, shown
from convert_weights.generators import TOLD, generator_file, is_discriminator, is_generator
from convert_weights.pickle_machine import Node
from convert_weights.places import labelled
from convert_weights.structure import Structure

FORMATS = "docs/converting.md lists the formats"


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


def unsupported(name: str, table: Mapping[str, str]) -> Dialect:
    """The row of networks that are refused by what they are."""

    def read(structure: Structure) -> NoReturn:
        raise ConversionError(f"holds {families.family(structure.everything, table)}")

    return Dialect(name, lambda s: families.family(s.everything, table) is not None, read)


# Networks besides generators, each recognised by its tensors; they may be wrapped (`Structure.views`).
NETWORKS: tuple[Dialect, ...] = (
    Dialect("image network of torchvision", perceptual.is_backbone, perceptual.any_backbone),
    Dialect("linear layers of LPIPS", has("lin0.model.1.weight"), lambda s: perceptual.linear(s.own)),
    Dialect("Inception v3 of FID", has(inception.FIRST), lambda s: inception.inception(s.own)),
    Dialect("Inception-ResNet v1", has(faces.FACENET_FIRST), lambda s: faces.facenet(s.own)),
    Dialect("ArcFace", faces.is_arcface, lambda s: faces.arcface(s.own)),
    Dialect("network of MTCNN", lambda s: mtcnn.is_mtcnn(s.own), lambda s: mtcnn.mtcnn(s.own)),
    Dialect("base-code encoder of BDInvert", basecode.is_encoder, basecode.encoder_file),
    Dialect("encoder of IDInvert", idinvert.is_encoder, idinvert.encoder_file),
    Dialect("BiSeNet for faces", face_parser.is_parser, face_parser.parser_file),
)


def wrapped(structure: Structure) -> list[tuple[Dialect, str, Structure]]:
    """The networks of `NETWORKS` inside dictionaries or behind prefixes that all names share: row, place, contents."""
    return [(row, place, view) for place, view in structure.views() for row in NETWORKS if row.test(view)]


def unwrapped(structure: Structure) -> Checkpoint:
    """The one network that `wrapped` finds; the checkpoint notes its place and lists what is beside it."""
    ((row, place, view),) = wrapped(structure)
    checkpoint = row.read(view)
    beside = dict.fromkeys(labelled(structure.entries, [place]), "not part of the network")
    note = f"the network was found under {shown(place)}, which is not a part of its names"
    return dataclasses.replace(checkpoint, ignored=checkpoint.ignored | beside, notes=(note, *checkpoint.notes))


DIALECTS: tuple[Dialect, ...] = (
    Dialect("wheel of facenet-pytorch", lambda s: isinstance(s.root, Archive), lambda s: mtcnn.wheel(s.root)),
    Dialect("dlib", lambda s: s.container == "dlib file", lambda s: dlib_file.face_network(s.root)),
    Dialect(
        "TensorFlow StyleGAN1",
        lambda s: tensorflow_stylegan1.is_stylegan1(s.root),
        lambda s: tensorflow_stylegan1.networks(s.root),
    ),
    Dialect("TensorFlow StyleGAN2", lambda s: tensorflow.is_networks(s.root), lambda s: tensorflow.networks(s.root)),
    Dialect("codes, a single tensor", lambda s: s.tensor is not None, codes.single),
    Dialect(
        "NVlabs generator",
        lambda s: nvlabs_file.is_module(s.root),
        lambda s: nvlabs_file.whole_generator(s.root),
    ),
    Dialect("NVlabs snapshot", nvlabs_file.is_snapshot, lambda s: nvlabs_file.snapshot(s.mapping)),
    *NETWORKS,
    Dialect("MoCo", moco.is_moco, moco.moco),
    Dialect("mapper of StyleCLIP", styleclip.is_mapper, styleclip.mapper_file),
    Dialect("invertibility network of SAM", invertibility.is_network, invertibility.network),
    Dialect(
        "one of these networks in a wrapper",
        lambda s: len(wrapped(s)) == 1 and not is_generator(s),
        unwrapped,
    ),
    unsupported("networks around a StyleGAN2", families.AROUND),
    Dialect("generator by the names of its tensors", is_generator, generator_file),
    Dialect(
        "discriminator alone",
        is_discriminator,
        refused("has no generator (G_ema or G); a discriminator alone is not converted"),
    ),
    unsupported("other networks", families.OTHERS),
    Dialect("encoder of pSp, e4e, LSAP or ReStyle", encoders.is_encoder, encoders.encoder_file),
    unsupported("parts of networks", families.PARTS),
    Dialect(
        "directions",
        codes.are_directions,
        refused("holds directions, not weights; give the file to `lsap-jax edit RUN --direction FILE@w` as it is"),
    ),
    Dialect("codes by image", codes.are_by_image, codes.by_image),
    Dialect("codes in numpy's files", lambda s: s.container in (".npz", ".npy"), codes.numpy_file),
    Dialect("codes by name", codes.are_codes, lambda s: codes.codes(s.own, s.placed)),
)


def paired(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint without its discriminator if that judges other pictures than the generator makes."""
    parts = checkpoint.parts
    if not {"generator", "discriminator"} <= parts.keys():
        return checkpoint
    made, judged = (
        (parts[kind].config["img_resolution"], parts[kind].config["img_channels"])
        for kind in ("generator", "discriminator")
    )
    if made == judged:
        return checkpoint
    note = (
        f"the discriminator is not used: it judges pictures of {judged[0]} px with {judged[1]} channels, the generator "
        f"makes {made[0]} px with {made[1]}"
    )
    kept = {kind: part for kind, part in parts.items() if kind != "discriminator"}
    return dataclasses.replace(checkpoint, parts=kept, notes=(*checkpoint.notes, note))


def in_dialect(structure: Structure) -> Checkpoint:
    """The checkpoint that the reader of a structure's dialect makes of it.

    Raises:
        ConversionError: no row of `DIALECTS` matches, or the tensors do not fit the network.
    """
    found = next((row for row in DIALECTS if row.test(structure)), None)
    if found is not None:
        return paired(found.read(structure))
    if isinstance(structure.root, dict):
        first = ", ".join(f"{layout.telling[0]} ({layout.title})" for layout in TOLD)
        raise ConversionError(
            f"lacks the tensors that a known network begins with, under any key and prefix: {first}, or those of the "
            f"other networks; {FORMATS}. It holds {listed([str(k) for k in structure.root])}"
        )
    held = "a single network" if isinstance(structure.root, Node) else shown(structure.root)
    raise ConversionError(f"holds {held} instead of a checkpoint; {FORMATS}")
