"""dlib's face recognition network as dlib writes it, with other weights."""

import math

import numpy as np

from convert_weights import dlib_file
from lsap_jax.networks import dlib_resnet

UNEVEN = ("affine_", "add_prev_")  # layers with another flag


def whole(value: int) -> bytes:
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def real(value: float) -> bytes:
    """As dlib writes the floats of its own file: 24 bits of mantissa, 16 after whole numbers lose their zeros."""
    mantissa, exponent = math.frexp(value)
    mantissa, exponent = int(mantissa * 2**24), exponent - 24
    for _ in range(3):
        if mantissa and mantissa & 0xFF == 0:
            mantissa, exponent = mantissa >> 8, exponent + 8
    return whole(mantissa) + whole(exponent)


def text(value: str) -> bytes:
    return whole(len(value)) + value.encode()


def tensor(a: np.ndarray, shape: tuple[int, ...]) -> bytes:
    return whole(2) + b"".join(map(whole, shape)) + np.asarray(a, "<f4").tobytes()


def alias(*shape: int) -> bytes:
    return whole(1) + b"".join(map(whole, shape))


def factors() -> bytes:
    return real(1.0) * 3 + whole(0) + whole(11)


def written(arrays: dict[str, np.ndarray]) -> bytes:
    """The network as dlib writes it."""
    layers = list(dlib_file._expected())
    # Tags and skips have version 1, other layers 2, the innermost one 3; only their number is of interest here.
    out = whole(1) + text("loss_metric_2") + real(0.04) + real(0.6) + whole(2) * (len(layers) - 1) + whole(3)
    out += text(dlib_file.INPUT) + b"".join(map(real, dlib_resnet.MEAN)) + whole(150) * 2
    at = -1
    for index, (name, settings) in enumerate(layers):
        out += text(name)
        at += name == "con_4"
        if name == "con_4":
            weight, bias = arrays[f"layer{at}.conv.weight"], arrays[f"layer{at}.conv.bias"]
            numbers = np.concatenate([weight.reshape(-1), bias])
            out += tensor(numbers, (numbers.size, 1, 1, 1)) + b"".join(map(whole, settings))
            out += alias(*weight.shape) + alias(1, len(bias), 1, 1) + factors()
        elif name == "affine_":
            numbers = np.concatenate([arrays[f"layer{at}.scale"], arrays[f"layer{at}.shift"]])
            half = alias(1, numbers.size // 2, 1, 1)
            out += tensor(numbers, (numbers.size, 1, 1, 1)) + half * 2 + whole(0)
        elif name == "fc_2":
            weight = arrays["fc.weight"].T
            out += whole(128) + whole(256) + tensor(weight, (256, 128, 1, 1))
            out += alias(256, 128, 1, 1) + alias(0, 0, 0, 0) + whole(1) + factors()
        else:
            out += b"".join(map(whole, settings))
        out += (b"111" if name in UNEVEN else b"110") + tensor(np.zeros(0), (0,) * 4) * 3
        out += whole(1) if index == 0 else b""
    return out


def other_weights() -> dict[str, np.ndarray]:
    """Other weights in the network's canonical layouts."""
    rng = np.random.default_rng(0)
    shapes = {".".join(path): leaf.shape for path, leaf in _leaves(dlib_resnet.param_shapes())}
    turned = {name: shape[::-1] if name.endswith("weight") else shape for name, shape in shapes.items()}
    turned |= {name: (s[0], s[1], s[3], s[2]) for name, s in turned.items() if len(s) == 4}
    return {name: rng.standard_normal(shape, np.float32) for name, shape in turned.items()}


def _leaves(tree, path=()):
    for name, value in tree.items():
        yield from _leaves(value, (*path, name)) if isinstance(value, dict) else [((*path, name), value)]
