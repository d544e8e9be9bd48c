"""A file for `torch.load(path, weights_only=True)`, written without torch: the zip container of torch ≥ 1.6.

The zip holds `archive/data.pkl`, a pickle of a dict in which a tensor is a call of `torch._utils._rebuild_tensor_v2`
on a storage named by a persistent id, and the storages' raw little-endian bytes as `archive/data/KEY`.
`torch_file.read_zip` is the reader.
"""

import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

import numpy as np

from convert_weights.checkpoint import ConversionError
from convert_weights.tensors import STORAGES

ROOT = "archive"
# The first date that a zip can hold: the bytes depend on the contents only.
EPOCH = (1980, 1, 1, 0, 0, 0)
CLASSES = {dtype: name for name, dtype in STORAGES.items() if dtype != "bfloat16"}


@dataclass(frozen=True, kw_only=True)
class Part:
    """An array that arrives in pieces, so that it need not be in memory as a whole.

    Attributes:
        shape, dtype: of the whole.
        chunks: arrays whose concatenated bytes (in C order) are those of the whole.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: Iterable[np.ndarray]

    @property
    def size(self) -> int:
        """Length in bytes."""
        return prod(self.shape) * self.dtype.itemsize


def write_torch(
    file: BinaryIO, tensors: Mapping[str, Part] | Part, texts: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Writes a dict of tensors, and of lists of texts, to a seekable file; or a tensor alone.

    Args:
        tensors: by name, or one without a name.
        texts: lists of texts by name; no name may be that of a tensor, and none goes with a tensor alone.

    Raises:
        ConversionError: torch has no such dtype.
        ValueError: the chunks of an array are not as long as its shape says.
    """
    parts = {"the array": tensors} if isinstance(tensors, Part) else tensors
    for name, part in parts.items():
        if part.dtype.name not in CLASSES:
            raise ConversionError(f"{name}: torch has no dtype {part.dtype}; cast it to float32 first")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        write_member(archive, f"{ROOT}/data.pkl", [np.frombuffer(_pickle(tensors, texts or {}), np.uint8)])
        write_member(archive, f"{ROOT}/byteorder", [np.frombuffer(b"little", np.uint8)])
        for key, (name, part) in enumerate(parts.items()):
            written = write_member(archive, f"{ROOT}/data/{key}", part.chunks, part.size)
            if written != part.size:
                raise ValueError(
                    f"{name}: the chunks have {written} bytes, but shape {list(part.shape)} has {part.size}"
                )
        write_member(archive, f"{ROOT}/version", [np.frombuffer(b"3\n", np.uint8)])


def write_member(
    archive: zipfile.ZipFile, name: str, chunks: Iterable[np.ndarray], size: int = 0, head: bytes = b""
) -> int:
    """Writes `head` and the little-endian bytes of the chunks as one stored member without a date; returns their
    number.

    Args:
        size: the expected number of bytes of the chunks; above 2 GiB the zip must know it in advance.
    """
    info = zipfile.ZipInfo(name, date_time=EPOCH)
    info.create_system, info.external_attr, info.file_size = 3, 0o644 << 16, size + len(head)
    written = len(head)
    with archive.open(info, "w") as member:
        member.write(head)
        for chunk in chunks:
            data = np.ascontiguousarray(chunk, chunk.dtype.newbyteorder("<"))
            member.write(data.data.cast("B") if data.size else b"")
            written += data.nbytes
    return written


def _pickle(tensors: Mapping[str, Part] | Part, texts: Mapping[str, Sequence[str]]) -> bytes:
    """Protocol 2 without a memo: a dict is filled item by item."""
    if isinstance(tensors, Part):
        return b"\x80\x02" + _tensor(0, tensors) + b"."
    items = [_text(name) + _tensor(key, part) + b"s" for key, (name, part) in enumerate(tensors.items())]
    items += [_text(name) + b"](" + b"".join(map(_text, values)) + b"es" for name, values in texts.items()]
    return b"\x80\x02}" + b"".join(items) + b"."


def _tensor(key: int, part: Part) -> bytes:
    strides = [prod(part.shape[axis + 1 :]) for axis in range(len(part.shape))]
    kind = CLASSES[part.dtype.name]
    storage = _tuple(_text("storage"), _global("torch", kind), _text(str(key)), _text("cpu"), _whole(prod(part.shape)))
    hooks = _global("collections", "OrderedDict") + b")R"
    arguments = _tuple(
        storage + b"Q",  # BINPERSID: torch finds the storage by this tuple
        _whole(0),
        _tuple(*map(_whole, part.shape)),
        _tuple(*map(_whole, strides)),
        b"\x89",
        hooks,
    )
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode("ascii")


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def _whole(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)
