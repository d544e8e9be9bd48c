"""What a file is, told from its bytes and structure (never its name), and the way to its reader and dialect."""

import dataclasses
import hashlib
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from convert_weights import (
    basecode,
    codes,
    faces,
    inception,
    mtcnn,
    nvlabs,
    nvlabs_file,
    perceptual,
    state_dicts,
    tensorflow,
)
from convert_weights.archive import Archive
from convert_weights.builders import NAMESPACE, NETWORK, Array
from convert_weights.checkpoint import Checkpoint, ConversionError, listed, shown
from convert_weights.npy import MAGIC, npy_tensor, npz_tensors
from convert_weights.pickle_machine import Node
from convert_weights.tensors import Tensor
from convert_weights.torch_file import LEGACY_START, read_legacy, read_plain, read_zip

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
        path: NVlabs (stylegan2-ada-pytorch, stylegan3 repository) or TensorFlow StyleGAN2 pickle, whole-generator save,
            rosinality, pSp/e4e or GenForce checkpoint, `.npz` with NVlabs names, torchvision VGG16/AlexNet/SqueezeNet
            1.1, LPIPS linear layers, FID's Inception v3, facenet-pytorch's Inception-ResNet v1, ArcFace's IR-SE50,
            facenet-pytorch's wheel or one of MTCNN's networks in it, BDInvert base-code encoder, or latent codes. Its
            name and suffix do not matter.
    Returns:
        the weights in canonical names; see `Checkpoint`.
    Raises:
        ConversionError: one line naming the file, the offending global, tensor or shape, and what to do.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            checkpoint = _read(file, before.st_size)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from None
    except OSError as error:
        raise ConversionError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions"
        ) from None
    except (MemoryError, RecursionError) as error:
        raise ConversionError(
            f"{path}: needs more memory or nesting than a checkpoint should ({type(error).__name__})"
        ) from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ConversionError(f"{path}: changed while it was read; wait for the download to finish and convert again")
    return dataclasses.replace(checkpoint, sha256=digest)


def _read(file: BinaryIO, size: int) -> Checkpoint:
    start = file.read(512)
    if not start:
        raise ConversionError("is empty; fetch it again")
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _from_zip(Archive(file, size))
    if start[257:262] == b"ustar":
        raise ConversionError(
            "is a tar file (torch before 2017, or an archive); unpack it, or load and save it again with an older torch"
        )
    for magic, reason in OTHERS:
        if start.startswith(magic):
            raise ConversionError(reason)
    # mapped, not read: only the pages of tensors that are used are ever in memory
    data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if start.startswith(MAGIC):
        return codes.codes({"array": npy_tensor(data)}, "an .npy file")
    if start.startswith(LEGACY_START):
        return _from_object(read_legacy(data), "torch file (legacy)")
    if start[0] == 0x80 and start[1:2] <= b"\x05":
        return _from_object(read_plain(data), "pickle")
    if start[8:9] == b"{" and 0 < int.from_bytes(start[:8], "little") <= size:
        raise ConversionError(
            "is a safetensors file; one written by lsap-jax is loaded directly, others are not supported"
        )
    raise ConversionError(
        f"starts with {shown(start[:8])}, which is no checkpoint format known here (pickle, torch, npz); the "
        "download may be incomplete"
    )


def _from_zip(archive: Archive) -> Checkpoint:
    detector = mtcnn.wheel(archive)
    if detector is not None:
        return detector
    if any(name.endswith((".pkl", "/version", "/byteorder")) for name in archive.names):
        return _from_object(read_zip(archive), "torch file")
    tensors = npz_tensors(archive)
    networks, ignored = nvlabs.state_dicts(tensors)
    if networks:
        return nvlabs_file.flat_networks(networks, ignored, "an .npz")
    if not tensors:
        raise ConversionError("is an empty zip; fetch it again")
    return codes.codes(tensors, "an .npz file")


def _from_object(root: object, container: str) -> Checkpoint:
    """The dialect of whatever object the container holds."""
    if tensorflow.is_networks(root):
        return tensorflow.networks(tuple(root))  # type: ignore[arg-type]
    if isinstance(root, Array) and root.tensor is not None:
        root = root.tensor
    if isinstance(root, Tensor):
        return codes.codes({"tensor": root}, f"a {container}")
    if isinstance(root, Node) and root.name not in (NAMESPACE, NETWORK):
        return nvlabs_file.whole_generator(root)
    if isinstance(root, dict):
        return _from_dict(root, container)
    raise ConversionError(
        f"holds {'a single network' if isinstance(root, Node) else shown(root)} instead of a checkpoint; it is "
        "not supported"
    )


def _from_dict(root: dict, container: str) -> Checkpoint:
    if any(isinstance(root.get(key), Node) and root[key].name != NAMESPACE for key in ("G_ema", "G")):
        return nvlabs_file.snapshot(root)
    parts = {str(k): flat for k, v in root.items() if isinstance(v, dict) and (flat := _tensors(v))}
    own = _tensors(root)
    for flat in (own, *parts.values()):
        if "features.0.weight" in flat:
            return perceptual.backbone(flat)
    if "lin0.model.1.weight" in own:
        return perceptual.linear(own)
    if inception.FIRST in own:
        return inception.inception(own)
    if faces.FACENET_FIRST in own:
        return faces.facenet(own)
    if faces.ARCFACE_FIRST in own:
        return faces.arcface(own)
    if mtcnn.is_mtcnn(own):
        return mtcnn.mtcnn(own)
    if "model.0.weight" in parts.get("encoder", own):
        return basecode.encoder(
            parts.get("encoder", own), state_dicts.leftovers(root, {"encoder"}) if "encoder" in parts else {}
        )
    found = state_dicts.generator_file(root, own, parts, container)
    if found is not None:
        return found
    if own and not parts and all(len(t.shape) <= 3 for t in own.values()):
        return codes.codes(own, f"a {container}")
    raise ConversionError(
        f"holds {listed([str(k) for k in root])}, which is no checkpoint known here; see the list of supported formats"
    )


def _tensors(value: Mapping) -> dict[str, Tensor]:
    """The tensors directly in a dict, numpy arrays included."""
    plain = {str(k): v.tensor if isinstance(v, Array) else v for k, v in value.items()}
    return {k: v for k, v in plain.items() if isinstance(v, Tensor)}
