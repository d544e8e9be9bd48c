"""Feature stacks of LPIPS: VGG16, AlexNet and SqueezeNet 1.1 up to the last layer that LPIPS reads.

Each network is one table of steps (`STACKS`) run by one module. Params carry torchvision's names, `features.{i}.weight`
becoming `params["features"]["{i}"]["weight"]`, in HWIO. Images are [B, H, W, 3], shifted and scaled by the caller.

References: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (CVPR 2018), and
torchvision's layer tables.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from lsap_jax.errors import LsapError
from lsap_jax.networks import frozen
from lsap_jax.networks.bounds import Text
from lsap_jax.networks.convolution import Kernel, conv2d
from lsap_jax.networks.layers import FEATURES
from lsap_jax.networks.parameters import initial_shapes


class Conv(NamedTuple):
    """Convolution, bias and ReLU; `place` is torchvision's index in `features`."""

    place: int
    width: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    tap: bool = False


class Pool(NamedTuple):
    """Max pooling with stride 2; `ceil` lets a last, partly empty window count (torch's ceil_mode)."""

    window: int
    ceil: bool = False


class Fire(NamedTuple):
    """SqueezeNet's module: 1x1 squeeze, then 1x1 and 3x3 expansions side by side, ReLU after each."""

    place: int
    squeeze: int
    expand: int
    tap: bool = False


Step = Conv | Pool | Fire


@dataclass(frozen=True, kw_only=True)
class PerceptualConfig:
    """Which network LPIPS reads, and the version of its weights."""

    name: Literal["vgg16", "alexnet", "squeezenet1_1"]
    version: Text = "0.1"


STACKS: dict[str, tuple[Step, ...]] = {
    "vgg16": (
        Conv(0, 64), Conv(2, 64, tap=True), Pool(2),
        Conv(5, 128), Conv(7, 128, tap=True), Pool(2),
        Conv(10, 256), Conv(12, 256), Conv(14, 256, tap=True), Pool(2),
        Conv(17, 512), Conv(19, 512), Conv(21, 512, tap=True), Pool(2),
        Conv(24, 512), Conv(26, 512), Conv(28, 512, tap=True),
    ),
    "alexnet": (
        Conv(0, 64, kernel=11, stride=4, padding=2, tap=True), Pool(3),
        Conv(3, 192, kernel=5, padding=2, tap=True), Pool(3),
        Conv(6, 384, tap=True), Conv(8, 256, tap=True), Conv(10, 256, tap=True),
    ),
    "squeezenet1_1": (
        Conv(0, 64, stride=2, padding=0, tap=True), Pool(3, ceil=True),
        Fire(3, 16, 64), Fire(4, 16, 64, tap=True), Pool(3, ceil=True),
        Fire(6, 32, 128), Fire(7, 32, 128, tap=True), Pool(3, ceil=True),
        Fire(9, 48, 192, tap=True), Fire(10, 48, 192, tap=True),
        Fire(11, 64, 256, tap=True), Fire(12, 64, 256, tap=True),
    ),
}  # fmt: skip


def tap_channels(name: str) -> tuple[int, ...]:
    """Channels of each tap of the stack `name`, first tap first."""
    widths = []
    for step in stack(name):
        if isinstance(step, Conv) and step.tap:
            widths.append(step.width)
        elif isinstance(step, Fire) and step.tap:
            widths.append(2 * step.expand)
    return tuple(widths)


def stack(name: str) -> tuple[Step, ...]:
    """The steps of a network by name.

    Raises:
        LsapError: no such network.
    """
    if name not in STACKS:
        raise LsapError(f"no perceptual network named {name!r}; choose one of {', '.join(STACKS)}")
    return STACKS[name]


def _pool_axis(x: jax.Array, window: int, ceil: bool, axis: int) -> jax.Array:
    n = x.shape[axis]
    count = (-(-(n - window) // 2) if ceil else (n - window) // 2) + 1
    if count < 1:
        raise LsapError("the image is too small for this perceptual network; use a larger image or another network")
    missing = 2 * (count - 1) + window - n
    if missing > 0:
        x = jnp.pad(x, [(0, missing if a == axis else 0) for a in range(4)], constant_values=-jnp.inf)
    pooled = None
    for offset in range(window):
        part = jax.lax.slice_in_dim(x, offset, offset + 2 * (count - 1) + 1, stride=2, axis=axis)
        pooled = part if pooled is None else jnp.maximum(pooled, part)
    assert pooled is not None
    return pooled


def max_pool(x: jax.Array, window: int, ceil: bool = False) -> jax.Array:
    """Max pooling with stride 2 of [B, H, W, C], no padding, as the maximum of strided slices, one axis after the
    other.

    The gradient of a slice is a pad, whereas that of `reduce_window` is a slow scatter on CPUs.

    Raises:
        LsapError: the image is smaller than one window.
    """
    return _pool_axis(_pool_axis(x, window, ceil, axis=1), window, ceil, axis=2)


class Convolution(nn.Module):
    """Convolution with bias and ReLU; params `weight` (HWIO) and `bias`."""

    width: int
    kernel: int
    stride: int = 1
    padding: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.width)
        side, strided = x.shape[1], self.stride > 1
        weight = frozen.weight(
            self, nn.initializers.he_normal(), shape, lambda w: w, lambda w: Kernel.of(w, side, strided)
        )
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        if min(x.shape[1:3]) + 2 * self.padding < self.kernel:
            raise LsapError("the image is too small for this perceptual network; use a larger image or another network")
        y = conv2d(x, weight.astype(x.dtype), self.stride, self.padding)
        return nn.relu(y + bias.astype(x.dtype)[None, None, None, :])


class FireModule(nn.Module):
    """See `Fire`; the 1x1 expansion's channels come first."""

    squeeze: int
    expand: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Convolution(self.squeeze, 1, name="squeeze")(x)
        sides = (
            Convolution(self.expand, 1, name="expand1x1")(x),
            Convolution(self.expand, 3, padding=1, name="expand3x3")(x),
        )
        return jnp.concatenate(sides, axis=-1)


class Features(nn.Module):
    """Runs a table of steps and collects the taps."""

    steps: tuple[Step, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        taps = []
        for step in self.steps:
            if isinstance(step, Pool):
                x = checkpoint_name(max_pool(x, step.window, step.ceil), FEATURES)
                continue
            if isinstance(step, Conv):
                x = Convolution(step.width, step.kernel, step.stride, step.padding, name=str(step.place))(x)
            else:
                x = FireModule(step.squeeze, step.expand, name=str(step.place))(x)
            if step.tap:
                taps.append(x)
        return taps


class PerceptualNetwork(nn.Module):
    """Images [B, H, W, 3] to the list of LPIPS taps [B, h, w, C], finest first."""

    network: str

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        return Features(stack(self.network), name="features")(x)


def param_shapes(name: str) -> dict[str, Any]:
    """Params tree of `PerceptualNetwork(name)`, and `lin{k}` with the "weight" [C] of each tap, as ShapeDtypeStructs.

    Raises:
        LsapError: there is no such network.
    """
    shapes = initial_shapes(PerceptualNetwork(name), (1, 64, 64, 3))
    widths = enumerate(tap_channels(name))
    lins = {f"lin{k}": {"weight": jax.ShapeDtypeStruct((width,), jnp.float32)} for k, width in widths}
    return {**shapes, **lins}
