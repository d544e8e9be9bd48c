"""The allow-list: every global that the supported checkpoints name, and the pure function that stands for it.

Source: observed globals of NVlabs, TensorFlow, rosinality and GenForce files (torch 0.4 to 2.x, both numpy spellings).
"""

import math
from collections.abc import Mapping

import numpy as np

from convert_weights.checkpoint import ConversionError, shown
from convert_weights.pickle_limits import check_key
from convert_weights.pickle_machine import Builder, Global, Node, Stateful
from convert_weights.tensors import MAX_DIMS, STORAGES, Tensor, from_numpy, strided, whole

PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
NETWORK = "dnnlib.tflib.network.Network"
NAMESPACE = "argparse.Namespace"
NUMERIC = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


OBJECT = "O8"


class Dtype(Stateful):
    """A numpy dtype under construction: its code, and a byte order from BUILD."""

    __slots__ = ("code",)

    def __init__(self, code: object):
        if type(code) is not str or code not in NUMERIC:
            raise ConversionError(
                f"its pickle has a numpy array of type {shown(code)}; only plain numbers are read, save the "
                "array as numbers"
            )
        self.code = code

    def set_state(self, state: object) -> None:
        if type(state) is not tuple or len(state) < 5 or state[2:5] != (None, None, None):
            raise TypeError("a numpy dtype with fields")
        if state[1] not in ("<", "|", "="):
            raise ConversionError(
                "its pickle has a big-endian numpy array, which is not read; save the file on a little-endian machine"
            )

    def numpy(self) -> np.dtype:
        return np.dtype("<" + self.code)


class ObjectDtype(Dtype):
    """numpy's dtype of Python objects, which .npy files alone may hold."""

    __slots__ = ()

    def __init__(self) -> None:
        self.code = OBJECT


class Array(Stateful):
    """A numpy array under construction; BUILD sets `tensor`, or `objects` of an array of Python objects."""

    __slots__ = ("objects", "tensor")

    def __init__(self) -> None:
        self.tensor: Tensor | None = None
        self.objects: list | None = None

    def set_state(self, state: object) -> None:
        if type(state) is not tuple or len(state) != 5 or self.tensor is not None:
            raise TypeError("not the state of a numpy array")
        _, size, dtype, fortran, raw = state
        if type(size) is not tuple or len(size) > MAX_DIMS or not isinstance(dtype, Dtype):
            raise TypeError("a numpy array without shape or type")
        shape = tuple(whole(n, "an array's size") for n in size)
        if type(dtype) is ObjectDtype:
            if type(raw) is not list or math.prod(shape) != len(raw) or self.objects is not None:
                raise TypeError("an array of objects without its objects")
            self.objects = raw
            return
        data = _raw(raw)
        if math.prod(shape) * dtype.numpy().itemsize != len(data):
            raise ConversionError(
                f"an array of shape {list(shape)} has {len(data)} bytes of values; the file is damaged, fetch it again"
            )
        if fortran and len(shape) > 1:
            raise ConversionError(
                "an array is stored column-major, which no supported writer does; the file is damaged"
            )
        self.tensor = from_numpy(np.frombuffer(data, dtype.numpy()).reshape(shape), raw)


def _raw(value: object) -> bytes | memoryview:
    """The bytes of a numpy array; Python 2 wrote them as text."""
    if isinstance(value, str):
        return value.encode("ascii")
    if not isinstance(value, (bytes, memoryview)):
        raise ConversionError("an array holds Python objects instead of numbers; such arrays are not read")
    return value


def object_dtype(args: tuple) -> Dtype:
    """`numpy.dtype` where objects are allowed."""
    return ObjectDtype() if args[0] == OBJECT else Dtype(args[0])


def _array(args: tuple) -> Array:
    if not args or args[0] != Global("numpy.ndarray"):
        raise TypeError("a numpy array of another class")
    return Array()


def _scalar(args: tuple) -> float | int | bool:
    dtype, raw = args
    if type(dtype) is not Dtype:
        raise TypeError("a numpy number without a type")
    return np.frombuffer(_raw(raw), dtype.numpy(), count=1)[0].item()


def _encode(args: tuple) -> bytes:
    text, encoding = args
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise ConversionError(
            f"its pickle encodes bytes as {shown(encoding)} instead of latin1; the file is damaged or hostile"
        )
    return text.encode("latin1")


def _dict(args: tuple) -> dict:
    """OrderedDict and EasyDict: empty, or from pairs as Python 2 wrote them."""
    pairs = args[0] if args else []
    if len(args) > 1 or type(pairs) is not list:
        raise TypeError("not the arguments of a dict")
    result: dict = {}
    for key, value in pairs:
        check_key(key)
        if key in result:
            raise ConversionError(f"its pickle sets key {shown(key)} twice; the file is damaged")
        result[key] = value
    return result


def _set(args: tuple) -> set:
    items = args[0] if args else []
    if type(items) is not list:
        raise TypeError("not the arguments of a set")
    for item in items:
        check_key(item)
    return set(items)


def _tensor(args: tuple) -> Tensor:
    if len(args) not in (4, 6, 7):
        raise TypeError("not the arguments of a tensor")
    return strided(*args[:4])


def _parameter(args: tuple) -> Tensor:
    if not args or type(args[0]) is not Tensor:
        raise TypeError("a parameter without a tensor")
    return args[0]


def _persistent(args: tuple) -> Node:
    """A module of NVlabs, as a passive node of its description; the source text in it is never read."""
    (meta,) = args
    if type(meta) is not dict or meta.get("type") != "class" or type(meta.get("class_name")) is not str:
        raise TypeError("not the description of a module")
    if meta.get("version") != 6 or type(meta.get("state")) is not dict:
        raise ConversionError(
            f"its modules have version {shown(meta.get('version'))} instead of 6; save the file with a current "
            "stylegan2-ada-pytorch"
        )
    return Node(meta["class_name"], meta["state"])


def _node(name: str) -> Builder:
    def build(args: tuple) -> Node:
        if args:
            raise TypeError("arguments where none are expected")
        return Node(name)

    return build


def storage_dtype(kind: object) -> str:
    """The dtype that a storage class in a persistent id stands for."""
    name = kind.name.rpartition(".")[2] if type(kind) is Global else ""
    if name not in STORAGES:
        raise ConversionError("a storage has an unknown type; the file is damaged")
    return STORAGES[name]


STORAGE_CLASSES: dict[str, Builder | None] = {
    f"{m}.{name}": None for m in ("torch", "torch.storage") for name in STORAGES
}
ALLOWED: dict[str, Builder | None] = STORAGE_CLASSES | {
    PERSISTENT: _persistent,
    "dnnlib.util.EasyDict": _dict,
    "dnnlib.EasyDict": _dict,
    "collections.OrderedDict": _dict,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy._core.multiarray._reconstruct": _array,
    "numpy.ndarray": None,
    "numpy.dtype": lambda args: Dtype(args[0]),
    "_codecs.encode": _encode,
    NETWORK: _node(NETWORK),
    NAMESPACE: _node(NAMESPACE),
}
WHOLE_MODULE = "a whole Python module was saved instead of its weights; save module.state_dict() and convert that"
ADVICE: Mapping[str, str] = {
    "tfutil.": "this is a Progressive GAN (PGGAN) file of 2017, which is not supported; use a StyleGAN2 checkpoint",
    "torch.jit.": "this is TorchScript, which holds a program; use a checkpoint with plain weights",
    "torch.nn.": WHOLE_MODULE,
    "models.": WHOLE_MODULE,
    "model.": WHOLE_MODULE,
    "training.": WHOLE_MODULE,
    "torchvision.": WHOLE_MODULE,
}
