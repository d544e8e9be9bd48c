"""The .npy and .npz containers, read without numpy's unpickling and without trusting the sizes in a header."""

import math
import re

import numpy as np

from convert_weights.archive import Archive
from convert_weights.checkpoint import ConversionError, shown
from convert_weights.tensors import MAX_DIMS, Tensor

MAGIC = b"\x93NUMPY"
MAX_HEADER = 2**16
HEADER = re.compile(
    rb"\{'descr': '([<>|=]?)([a-zA-Z])(\d{1,6})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,15}, ?)*(?:\d{1,15})?,?)\),? ?\}\s*"
)
OBJECTS = re.compile(rb"\{'descr': '\|?O', 'fortran_order': False, 'shape': \(([0-9, ]{0,99})\),? ?\}\s*")
KINDS = {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "b": (1,)}


def read_npy(head: bytes | memoryview, size: int) -> tuple[tuple[int, ...], np.dtype, bool, int]:
    """Parses an .npy header.

    Args:
        head: at least the header's bytes.
        size: bytes of the whole .npy, against which the claimed shape is checked.
    Returns:
        shape, dtype, whether column-major, and where the values start.
    Raises:
        ConversionError: for a damaged header, types other than numbers, or a size that does not match the shape.
    """
    head = bytes(head[: MAX_HEADER + 12])
    if head[:6] != MAGIC or len(head) < 12 or head[6] not in (1, 2, 3):
        raise ConversionError("is not an .npy array; the file is damaged, save it again with numpy.save")
    start = 10 if head[6] == 1 else 12
    length = int.from_bytes(head[8:start], "little")
    if start + length > min(len(head), MAX_HEADER):
        raise ConversionError(f"claims an .npy header of {length} bytes; the file is damaged or hostile")
    header = head[start : start + length]
    found = HEADER.fullmatch(header)
    if found is None:
        if OBJECTS.fullmatch(header) is not None:
            raise ConversionError("holds pickled Python objects, which are not read; save plain numeric arrays instead")
        raise ConversionError(
            f"has an .npy header that cannot be read: {shown(header)}; save it again as a plain numeric array"
        )
    order, kind, width = found[1].decode(), found[2].decode(), int(found[3])
    if width not in KINDS.get(kind, ()):
        raise ConversionError(f"holds values of type {kind}{width}; save a numeric array instead")
    if order == ">":
        raise ConversionError("holds big-endian values; save it again on a little-endian machine")
    shape = tuple(int(n) for n in found[5].split(b",") if n.strip())
    dtype = np.dtype(f"<{kind}{width}")
    if len(shape) > MAX_DIMS or math.prod(shape) * dtype.itemsize != size - start - length:
        raise ConversionError(
            f"claims shape {list(shape)} but holds {size - start - length} bytes; the file is damaged or truncated"
        )
    return shape, dtype, found[4] == b"True", start + length


def objects_start(head: bytes | memoryview) -> int | None:
    """Where the pickle starts in an .npy of one Python object (`numpy.save` of a dictionary); None of other files."""
    head = bytes(head[: MAX_HEADER + 12])
    if head[:6] != MAGIC or len(head) < 12 or head[6] not in (1, 2, 3):
        return None
    start = 10 if head[6] == 1 else 12
    end = start + int.from_bytes(head[8:start], "little")
    found = OBJECTS.fullmatch(head[start:end])
    return end if found is not None and not found[1].strip() else None


def npy_tensor(data: bytes | memoryview) -> Tensor:
    """A whole .npy file in memory as a Tensor."""
    shape, dtype, fortran, start = read_npy(data, len(data))
    return Tensor(shape, dtype.name, lambda: _values(data, shape, dtype, fortran, start))


def npz_tensors(archive: Archive) -> dict[str, Tensor]:
    """Every array of an .npz by its name; values are read when they are asked for.

    Raises:
        ConversionError: a member is not a plain numeric array; the message names it.
    """
    tensors = {}
    for member in archive.names:
        if not member.endswith(".npy"):
            raise ConversionError(
                f"zip member {shown(member, 80)} is not an array; the file is neither a torch save nor an .npz"
            )
        try:
            size = archive.size(member)
            shape, dtype, fortran, start = read_npy(archive.head(member, MAX_HEADER), size)
        except ConversionError as error:
            raise ConversionError(f"array {shown(member, 80)}: {error}") from None

        def load(member=member, size=size, shape=shape, dtype=dtype, fortran=fortran, start=start) -> np.ndarray:
            return _values(archive.read(member, size), shape, dtype, fortran, start)

        tensors[member.removesuffix(".npy")] = Tensor(shape, dtype.name, load)
    return tensors


def _values(data: bytes | memoryview, shape: tuple[int, ...], dtype: np.dtype, fortran: bool, start: int) -> np.ndarray:
    flat = np.frombuffer(data, dtype, count=math.prod(shape), offset=start)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
