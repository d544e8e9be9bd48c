"""dlib's file of its face recognition network (`dlib_face_recognition_resnet_model_v1.dat`).

dlib writes a network as nested layers: the version of every layer from the loss inward, the input, then layer by layer
outward its settings, its weights and its state, which is empty in a file. Only this one network is read: the sequence
of its layers is known, and everything else is refused.

Source: dlib 19 (dlib/dnn/core.h, layers.h, dlib/cuda/tensor.h, dlib/serialize.h); the network is that of
examples/dnn_face_recognition_ex.cpp.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from convert_weights.checkpoint import Checkpoint, ConversionError, Part, shown, together

START = b"\x01\x01\x01\x0dloss_metric_"
KIND = "dlib_resnet"
LICENCE = "CC0 1.0 (Davis E. King, dlib-models)"
INPUT = "input_rgb_image_sized"
# Blocks from the image on: width, and whether the block halves the resolution.
BLOCKS: tuple[tuple[int, bool], ...] = (
    *((32, False),) * 3,
    *((64, True), *((64, False),) * 3),
    *((128, True), *((128, False),) * 2),
    *((256, True), *((256, False),) * 2),
    (256, True),
)
STEM, FEATURES = 32, 128
MEAN = (122.782, 117.001, 104.298)  # that the input takes off red, green and blue levels
_CONV_FILTER_BIAS = 1


class _Bytes:
    """A cursor over the bytes of a file."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise ConversionError("ends in the middle of a layer; fetch it again")
        found = self.data[self.at : self.at + count]
        self.at += count
        return found

    def whole(self) -> int:
        """An integer: its number of bytes, with the sign in the highest bit, and the bytes from the lowest on."""
        head = self.take(1)[0]
        size = head & 0x7F
        if size > 8:
            raise ConversionError(f"has an integer of {size} bytes; it is damaged, fetch it again")
        value = int.from_bytes(self.take(size), "little")
        return -value if head & 0x80 else value

    def wholes(self, count: int) -> tuple[int, ...]:
        return tuple(self.whole() for _ in range(count))

    def real(self) -> float:
        """A float: mantissa and exponent of 2."""
        mantissa, exponent = self.wholes(2)
        try:
            return math.ldexp(mantissa, exponent)
        except OverflowError:
            return math.nan

    def text(self) -> str:
        size = self.whole()
        if not 0 <= size <= 64:
            raise ConversionError(f"has a name of {size} letters; it is damaged, fetch it again")
        return bytes(self.take(size)).decode("ascii", "replace")

    def tensor(self) -> np.ndarray:
        """Four sizes and float32 numbers, as they lie in the file."""
        version, *shape = self.wholes(5)
        count = math.prod(shape)
        if version != 2 or min(shape) < 0:
            raise ConversionError(f"has a tensor of version {version}, shape {shape}; it is damaged, fetch it again")
        return np.frombuffer(self.take(4 * count), "<f4").reshape(shape)


def is_dlib(start: bytes) -> bool:
    """Whether a file begins as dlib's metric-learning networks do."""
    return start.startswith(START)


def _expected() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every layer (name, settings) from the image on.

    Settings of a convolution are filters, rows, columns, strides and padding; of a pool the same without filters.
    """
    yield "con_4", (STEM, 7, 7, 2, 2, 0, 0)
    yield from (("affine_", ()), ("relu_", ()), ("max_pool_2", (3, 3, 2, 2, 0, 0)))
    for width, down in BLOCKS:
        yield "con_4", (width, 3, 3, 2, 2, 0, 0) if down else (width, 3, 3, 1, 1, 1, 1)
        yield from (("affine_", ()), ("relu_", ()), ("con_4", (width, 3, 3, 1, 1, 1, 1)), ("affine_", ()))
        if down:
            yield "avg_pool_2", (2, 2, 2, 2, 0, 0)
        yield from (("add_prev_", ()), ("relu_", ()))
    yield "avg_pool_2", (0, 0, 1, 1, 0, 0)  # of everything
    yield "fc_2", (FEATURES, BLOCKS[-1][0])


def _convolution(file: _Bytes) -> tuple[tuple[int, ...], tuple[np.ndarray, ...]]:
    params, settings = file.tensor(), file.wholes(7)
    filters, biases = _alias(file), _alias(file)
    [file.real() for _ in range(4)]  # factors of learning rate and weight decay
    weight, bias = _parted(params, filters, biases)
    if (filters[0], *filters[2:]) != settings[:3]:
        raise ConversionError(f"has filters of shape {filters} for settings {settings}; it is damaged, fetch it again")
    return settings, (weight.reshape(filters), bias)


def _affine(file: _Bytes) -> tuple[tuple[int, ...], tuple[np.ndarray, ...]]:
    params, gamma, beta = file.tensor(), _alias(file), _alias(file)
    file.whole()  # mode: of a convolution or a dense layer
    return (), _parted(params, gamma, beta)


def _dense(file: _Bytes) -> tuple[tuple[int, ...], tuple[np.ndarray, ...]]:
    settings, params, weights = file.wholes(2), file.tensor(), _alias(file)
    _alias(file)
    if file.whole() != _CONV_FILTER_BIAS:
        raise ConversionError("has a dense layer with a bias, unlike the face recognition network")
    [file.real() for _ in range(4)]
    (weight,) = _parted(params, weights)
    return settings, (weight.reshape(weights[:2]).T,)


def _nothing(file: _Bytes) -> tuple[tuple[int, ...], tuple[np.ndarray, ...]]:
    return (), ()


def _pool(file: _Bytes) -> tuple[tuple[int, ...], tuple[np.ndarray, ...]]:
    return file.wholes(6), ()


def _alias(file: _Bytes) -> tuple[int, ...]:
    """Shape of one part of a layer's numbers."""
    return file.wholes(5)[1:]


def _parted(params: np.ndarray, *shapes: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    sizes = [math.prod(shape) for shape in shapes]
    if min(sizes) < 0 or sum(sizes) != params.size:
        raise ConversionError(f"has a layer of {params.size} numbers for {shapes}; it is damaged, fetch it again")
    return tuple(np.split(params.reshape(-1), np.cumsum(sizes)[:-1]))


Layer = Callable[[_Bytes], tuple[tuple[int, ...], tuple[np.ndarray, ...]]]
_LAYERS: dict[str, tuple[Layer, tuple[str, ...]]] = {
    "con_4": (_convolution, ("conv.weight", "conv.bias")),
    "affine_": (_affine, ("scale", "shift")),
    "relu_": (_nothing, ()),
    "max_pool_2": (_pool, ()),
    "avg_pool_2": (_pool, ()),
    "add_prev_": (_nothing, ()),
    "fc_2": (_dense, ("weight",)),
}


def face_network(data: memoryview) -> Checkpoint:
    """dlib's face recognition network: 29 convolutions, each with a scale and a shift, and a dense layer.

    Arrays: `layer{k}.conv.weight` [O, I, h, w], `layer{k}.conv.bias`, `layer{k}.scale`, `layer{k}.shift`, [O] each, and
    `fc.weight` [128, 256].

    Raises:
        ConversionError: it is another network, or damaged.
    """
    file = _Bytes(data)
    file.whole()
    loss = file.text()
    [file.real() for _ in range(2)]  # margin and threshold of the loss
    _skip_versions(file)
    found = file.text()
    if found != INPUT:
        raise ConversionError(f"is a network of dlib with {shown(found)} as input, loss {shown(loss)}; {_ONLY}")
    mean, size = [file.real() for _ in range(3)], file.wholes(2)
    if size != (150, 150) or not all(abs(a - b) <= 1e-3 for a, b in zip(mean, MEAN, strict=True)):
        raise ConversionError(f"takes pictures of {size} px less a mean of {mean}; {_ONLY}")
    arrays: dict[str, np.ndarray] = {}
    convolutions = -1
    for index, (name, settings) in enumerate(_expected()):
        if (found := file.text()) != name:
            raise ConversionError(f"has {shown(found)} for layer {index}, expected {name}; {_ONLY}")
        read, names = _LAYERS[name]
        own, values = read(file)
        if own != settings:
            raise ConversionError(f"has settings {own} for layer {index} ({name}), expected {settings}; {_ONLY}")
        if not all(np.isfinite(value).all() for value in values):
            raise ConversionError(f"has numbers in layer {index} ({name}) that are not finite; fetch it again")
        convolutions += name == "con_4"
        prefix = "fc" if name == "fc_2" else f"layer{convolutions}"
        arrays |= {f"{prefix}.{key}": np.asarray(value, np.float32) for key, value in zip(names, values, strict=True)}
        file.take(3)  # flags: set up, gradients
        [file.tensor() for _ in range(3)]  # gradients and cached output
        if index == 0:
            file.whole()  # images that the input makes of one
    if file.at != len(data):
        raise ConversionError(f"has {len(data) - file.at} bytes behind the network; it is damaged, fetch it again")
    return Checkpoint(
        format="dlib face recognition network",
        parts=together(Part(kind=KIND, config={"name": KIND}, arrays=arrays)),
        licence=LICENCE,
    )


_ONLY = "only dlib_face_recognition_resnet_model_v1.dat can be read"
_VERSIONS = (1, 2)
_LAST_VERSION = 3  # of the innermost layer, whose input follows


def _skip_versions(file: _Bytes) -> None:
    """The versions of all layers, which come before the input: tags and skips among them have no settings."""
    for _ in range(1000):
        version = file.whole()
        if version == _LAST_VERSION:
            return
        if version not in _VERSIONS:
            raise ConversionError(f"has a layer of version {version}; {_ONLY}")
    raise ConversionError(f"has more than 1000 layers; {_ONLY}")
