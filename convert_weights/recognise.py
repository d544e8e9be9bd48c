"""Recognition of a file by its bytes, never its name: opens the container, and `dialects` does the rest."""

import dataclasses
import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from convert_weights import mtcnn
from convert_weights.archive import Archive
from convert_weights.checkpoint import Checkpoint, ConversionError, shown
from convert_weights.codes import PICKLED
from convert_weights.dialects import in_dialect
from convert_weights.dlib_file import is_dlib
from convert_weights.npy import MAGIC, npy_tensor, npz_tensors, objects_start
from convert_weights.opening import open_file
from convert_weights.structure import Structure
from convert_weights.torch_file import LEGACY_START, read_legacy, read_objects, read_plain, read_zip

OTHERS = (
    (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"7z\xbc\xaf", "is a 7z archive; unpack it first"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the weights; run `git lfs pull`"),
    (b"<", "is a web page, not the weights (a download quota or login page); download it in a browser"),
    (
        b"\x89HDF",
        "is an HDF5 (Keras) file, which is not supported; use a checkpoint of the PyTorch or TensorFlow original",
    ),
)


def read(path: str | os.PathLike) -> Checkpoint:
    """Reads a foreign checkpoint of any supported format; nothing inside the file is executed.

    Args:
        path: NVlabs (stylegan2-ada-pytorch, stylegan3 repository) or TensorFlow pickle (StyleGAN1, StyleGAN2),
            whole-generator save, rosinality, GenForce, InterFaceGAN or IDInvert checkpoint, that of pSp, e4e, LSAP,
            ReStyle, HyperStyle or StyleRes, `.npz` with NVlabs names, torchvision VGG16/AlexNet/SqueezeNet 1.1, LPIPS
            linear layers, FID's Inception v3, facenet-pytorch's Inception-ResNet v1, ArcFace's IR-SE50, dlib's face
            recognition network, facenet-pytorch's wheel or one of MTCNN's networks in it, BDInvert base-code encoder,
            IDInvert's encoder, StyleCLIP's mapper, BiSeNet for faces, or latent codes. Its name and suffix do not
            matter.
    Returns:
        the weights in canonical names; see `Checkpoint`.
    Raises:
        ConversionError: one line that names the file, the offending global, tensor or shape, and the remedy.
    """
    with explained(Path(path)), open_file(path) as file:
        before = os.fstat(file.fileno())
        checkpoint = in_dialect(_opened(file, before.st_size))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ConversionError(f"{path}: changed while it was read; wait for the download to finish and convert again")
    return dataclasses.replace(checkpoint, sha256=digest)


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[Structure]:
    """The contents of a file before anything is made of them; its tensors can be read until the end of the context.

    Raises:
        ConversionError: see `read`.
    """
    with explained(Path(path)), open_file(path) as file:
        yield _opened(file, os.fstat(file.fileno()).st_size)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of reading a file as a ConversionError that names it."""
    try:
        yield
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from None
    except OSError as error:
        raise ConversionError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from None
    except (MemoryError, RecursionError) as error:
        raise ConversionError(
            f"{path}: needs more memory or deeper nesting than a checkpoint does ({type(error).__name__}); it is "
            "damaged, hostile or too large for this machine"
        ) from None


def _opened(file: BinaryIO, size: int) -> Structure:
    """The contents of the file, from the reader of its container."""
    start = file.read(512)
    if not start:
        raise ConversionError("is empty; fetch it again")
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _unzipped(Archive(file, size))
    if start[257:262] == b"ustar":
        raise ConversionError(
            "is a tar file (torch before 2017, or an archive); unpack it, or load and save it again with an older torch"
        )
    for magic, reason in OTHERS:
        if start.startswith(magic):
            raise ConversionError(reason)
    # mapped, not read: only the pages of tensors that are used are ever in memory
    data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if is_dlib(start):
        return Structure(data, "dlib file")
    if (at := objects_start(data)) is not None:
        return Structure(read_objects(data[at:]), PICKLED)
    if start.startswith(MAGIC):
        return Structure({"array": npy_tensor(data)}, ".npy")
    if start.startswith(LEGACY_START):
        return Structure(read_legacy(data), "torch file (legacy)")
    if start[0] == 0x80 and start[1:2] <= b"\x05":
        return Structure(read_plain(data), "pickle")
    if start[8:9] == b"{" and 0 < int.from_bytes(start[:8], "little") <= size:
        raise ConversionError(
            "is a safetensors file; one written by lsap-jax is loaded directly, others are not supported"
        )
    raise ConversionError(
        f"starts with {shown(start[:8])}, which is not a known checkpoint format (pickle, torch, npz); the "
        "download may be incomplete"
    )


def _unzipped(archive: Archive) -> Structure:
    if mtcnn.is_wheel(archive):
        return Structure(archive, "wheel")
    if any(name.endswith((".pkl", "/version", "/byteorder")) for name in archive.names):
        return Structure(read_zip(archive), "torch file")
    tensors = npz_tensors(archive)
    if not tensors:
        raise ConversionError("is an empty zip; fetch it again")
    return Structure(tensors, ".npz")
