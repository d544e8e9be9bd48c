"""Tensors that have been found but not read yet: their shape and type are checked, their bytes are read on demand.

Nothing is allocated from a size that a file merely claims: a view is made only over bytes that are there.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable

import numpy as np

from convert_weights.checkpoint import ConversionError, shown

# bfloat16 has no numpy type: its bits are carried as uint16 and widened in `as_float32`.
STORAGES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "DoubleStorage": "float64",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
FLOATS = ("float32", "float16", "float64", "bfloat16")
MAX_DIMS = 8
MAX_SHARING = 4
FREE_VALUES = 2**25  # networks of one size are no larger


def numpy_dtype(dtype: str) -> np.dtype:
    """The little-endian numpy type that carries `dtype`."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor of a source file.

    Attributes:
        shape: its shape.
        dtype: "float32", "float16", "float64", "bfloat16", an integer type or "bool".
        load: returns the values as an array of `numpy_dtype(dtype)`, often a read-only view.
        storage: the memory that it is a view of; None where that is its own.
        held: number of values there.
    """

    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], np.ndarray]
    storage: object = None
    held: int = 0


@dataclasses.dataclass(slots=True, eq=False)
class Storage:
    """The flat memory that torch tensors are views of. `read` is set once the reader knows where the bytes lie; `root`
    is the storage that this one is itself a view of.
    """

    dtype: str
    numel: int
    read: Callable[[], bytes | memoryview] | None = None
    offset: int = 0
    root: "Storage | None" = None

    def flat(self) -> np.ndarray:
        """All elements, [numel]."""
        if self.read is None:
            raise ConversionError("a tensor refers to a storage that the file does not contain; fetch the file again")
        kind = numpy_dtype(self.dtype)
        raw = self.read()
        if len(raw) < (self.offset + self.numel) * kind.itemsize:
            raise ConversionError(
                f"a storage holds {len(raw)} bytes but should hold {self.numel} values of {self.dtype}; "
                "the file is damaged, fetch it again"
            )
        return np.frombuffer(raw, kind, count=self.numel, offset=self.offset * kind.itemsize)


def whole(value: object, what: str, limit: int = 2**48) -> int:
    """`value` if it is a non-negative integer of sensible size."""
    if type(value) is not int or not 0 <= value <= limit:
        raise ConversionError(f"{what} is {shown(value)}, not a count; the file is damaged, fetch it again")
    return value


def strided(storage: object, offset: object, size: object, stride: object) -> Tensor:
    """A torch tensor from its pickled description, with the bounds checked before anything is touched.

    Raises:
        ConversionError: where the description is not a tensor's, has negative strides or reaches outside its storage.
    """
    if not isinstance(storage, Storage):
        raise ConversionError("a tensor is not backed by a storage; the file is damaged or hostile")
    if not isinstance(size, tuple) or not isinstance(stride, tuple) or len(size) != len(stride) or len(size) > MAX_DIMS:
        raise ConversionError("a tensor's size and stride do not match; the file is damaged or hostile")
    shape = tuple(whole(n, "a tensor's size") for n in size)
    steps = tuple(whole(n, "a tensor's stride") for n in stride)
    first = whole(offset, "a tensor's offset")
    last = first + sum((n - 1) * s for n, s in zip(shape, steps, strict=True))
    if 0 not in shape and last >= storage.numel:
        raise ConversionError(
            f"a tensor of shape {list(shape)} with stride {list(steps)} and offset {first} needs {last + 1} "
            "values but its "
            f"storage holds {storage.numel}; the file is damaged or hostile"
        )

    def load() -> np.ndarray:
        if 0 in shape:
            return np.empty(shape, numpy_dtype(storage.dtype))
        _check_dense(shape, steps)
        flat = storage.flat()[first:]
        return np.lib.stride_tricks.as_strided(flat, shape, [s * flat.itemsize for s in steps], writeable=False)

    root = storage.root or storage
    return Tensor(shape, storage.dtype, load, root, root.numel)


def _check_dense(shape: tuple[int, ...], steps: tuple[int, ...]) -> None:
    """Refuses tensors whose elements overlap: no writer makes such weights, but a damaged stride does."""
    extent = 1
    for step, n in sorted((s, n) for n, s in zip(shape, steps, strict=True) if n > 1):
        if step < extent:
            raise ConversionError(
                f"a tensor of shape {list(shape)} overlaps itself (stride {list(steps)}); the file is damaged"
            )
        extent = step * (n - 1) + extent


def from_numpy(array: np.ndarray, storage: object = None) -> Tensor:
    """A numpy array that is already in memory (or mapped) as a Tensor; `storage` is the object whose bytes it views."""
    return Tensor(array.shape, array.dtype.newbyteorder("=").name, lambda: array, storage, array.size)


def check_sharing(tensors: Iterable[Tensor]) -> None:
    """Refuses tensors that are, together, many times the memory that they are views of: each is about to be copied.

    Raises:
        ConversionError: they share their storages too often.
    """
    tensors = list(tensors)
    held: dict[int, int] = {}
    for one in tensors:
        held |= {id(one): math.prod(one.shape)} if one.storage is None else {id(one.storage): one.held}
    viewed = sum(math.prod(t.shape) for t in tensors)
    if viewed > MAX_SHARING * sum(held.values()) + FREE_VALUES:
        raise ConversionError(
            f"its tensors have {viewed} values, of which the file holds {sum(held.values())}; refused as hostile"
        )


def as_float32(tensor: Tensor) -> np.ndarray:
    """The tensor's values as float32, without a copy where they are float32 already.

    Raises:
        ConversionError: for integer tensors, which are never weights.
    """
    if tensor.dtype not in FLOATS:
        raise ConversionError(f"has type {tensor.dtype}, but weights are floating-point numbers")
    values = tensor.load()
    if tensor.dtype == "bfloat16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def transformed_shape(shape: tuple[int, ...], transform: Callable[[np.ndarray], np.ndarray]) -> tuple[int, ...]:
    """The shape that `transform` makes of `shape`, found on a stand-in that takes no memory."""
    if math.prod(shape) == 0:
        raise ConversionError("is empty")
    return np.shape(transform(np.broadcast_to(np.float32(0), shape)))
