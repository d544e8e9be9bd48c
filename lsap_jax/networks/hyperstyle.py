"""HyperStyle's hypernetwork: an image beside what its codes render to, to changes of a generator's weights.

A trunk (ResNet34 without max-pooling) makes a map of features. For each layer that is changed, a refinement block
shrinks it, and predicts by how much each weight of the layer grows: one number for all taps of a kernel, or, for the
largest layers, one number each by a head that they share. Params carry the names of the public file, in HWIO.

Reference: Alaluf et al., HyperStyle (arXiv 2111.15666), section 3.2 and appendix C.
"""

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.bounds import Channels, Side, between, length
from lsap_jax.networks.inception import Conv, Kernel
from lsap_jax.networks.irse import Norm, Prelu, Unit
from lsap_jax.networks.layers import FullyConnected
from lsap_jax.networks.parameters import initial_shapes
from lsap_jax.networks.psp import RESNET34, SLOPE, BasicBody, BiasedConv
from lsap_jax.networks.view import View

Slot = tuple[Annotated[int, between(0, 63)], Channels, Channels]  # (index of a layer, features that it reads, makes)
Stride = Annotated[int, between(1, 2)]
Widths = Annotated[tuple[tuple[Channels, Stride], ...], length(1, 64)]


@dataclass(frozen=True, kw_only=True)
class HyperConfig:
    """Shape of a hypernetwork; by default, but for the layers, that of the public ones.

    Attributes:
        slots: the layers that are changed, by their index among those of the generator, torgb layers counted.
        in_channels: of an image and what its codes render to together.
        input_resolution: px a side of both, or of their width.
        input_height: their height in px; 0 is that of squares. Cars are seen without the bars above and below them.
        stem: width of the trunk's first convolution, of stride 2.
        units: (width, stride) of its residual units.
        shared: layers that read and make so many features use the shared head; 0 is none.
        shared_code: numbers that the shared head reads, which are also the width of its own layer.
        shared_convs, convs: (width, stride) of the convolutions of blocks with the shared head, and of the others.
        passes: number of passes, each from what the one before renders to.
        filter: by which targets are resized. The originals' is "bilinear"; files that do not say it have "lanczos".
    """

    slots: Annotated[tuple[Slot, ...], length(1, 64)]
    in_channels: Annotated[int, between(2, 8)] = 6
    input_resolution: Side = 256
    stem: Channels = 64
    units: Widths = RESNET34
    shared: Annotated[int, between(0, 2**14)] = 512
    shared_code: Channels = 512
    shared_convs: Widths = ((128, 1), (128, 2), (128, 2), (128, 2), (512, 2))
    convs: Widths = ((256, 2), (256, 2), (512, 2))
    passes: Annotated[int, between(1, 64)] = 5
    filter: Literal["lanczos", "bilinear"] = "lanczos"
    input_height: Annotated[int, between(0, 2**13)] = 0

    @property
    def view(self) -> View:
        """Size and filter of the images that it takes."""
        return View(self.input_height or self.input_resolution, self.input_resolution, self.filter)

    def is_shared(self, slot: tuple[int, int, int]) -> bool:
        """Whether a layer uses the shared head."""
        return slot[1] == slot[2] == self.shared


class Convs(nn.Module):
    """Convolutions with leaky ReLUs; every other index is an activation."""

    convs: tuple[tuple[int, int], ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for k, (width, stride) in enumerate(self.convs):
            x = nn.leaky_relu(BiasedConv(width, 3, stride, name=str(2 * k))(x), SLOPE)
        return x


class SharedHead(nn.Module):
    """Codes [B, D] to changes of weights [B, 3, 3, inputs, outputs]."""

    inputs: int
    outputs: int

    @nn.compact
    def __call__(self, code: jax.Array) -> jax.Array:
        size, own = code.shape[-1], nn.initializers.normal(0.01)
        w2, b2 = self.param("w2", own, (size, self.inputs * size)), self.param("b2", own, (self.inputs * size,))
        w1, b1 = self.param("w1", own, (size, self.outputs * 9)), self.param("b1", own, (self.outputs * 9,))
        hidden = (jnp.matmul(code, w2, precision=FULL) + b2[None]).reshape(len(code), self.inputs, size)
        kernels = jnp.matmul(hidden, w1, precision=FULL) + b1[None, None]
        # [in, out · 9] numbers in the order of weights [out, in, 3, 3]: read anew, not transposed, as in the original.
        return kernels.reshape(len(code), self.outputs, self.inputs, 3, 3).transpose(0, 3, 4, 2, 1)


class Block(nn.Module):
    """Features to the change of a layer's weights [B, k, k, in, out], k = 1 where all taps have the same one; or, with
    the shared head, to the code that this one reads.
    """

    config: HyperConfig
    slot: tuple[int, int, int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c, (_, inputs, outputs) = self.config, self.slot
        if c.is_shared(self.slot):
            x = Convs(c.shared_convs, name="convs")(x)
            if x.shape[1:3] != (1, 1):
                raise ValueError(f"a block leaves {x.shape[1]} x {x.shape[2]} px, not one: its images are too large")
            return FullyConnected(c.shared_code, name="linear")(x[:, 0, 0])
        x = Convs(c.convs, name="convs")(x).mean((1, 2), keepdims=True)
        x = Output(inputs * outputs, name="output")(x)
        return x.reshape(len(x), 1, 1, outputs, inputs).swapaxes(-1, -2)


class Output(nn.Module):
    """1 x 1 convolution after a pooling."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return BiasedConv(self.width, 1, name="1")(x)


class Blocks(nn.Module):
    """A block for each layer that is changed."""

    config: HyperConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        return [Block(self.config, slot, name=str(slot[0]))(x) for slot in self.config.slots]


class HyperNetwork(nn.Module):
    """Images beside what their codes render to, [B, r, r, in_channels] in [-1, 1], to a change for each slot."""

    config: HyperConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Changes [B, k, k, in, out] of the weights of each slot, k = 1 or 3: weights become weights · (1 + change)."""
        c = self.config
        x = Norm(name="bn1")(Kernel(Conv("conv1", c.stem, (7, 7), 2), name="conv1")(x))
        x = BasicBody(tuple(Unit(*unit) for unit in c.units), name="body")(Prelu(name="relu")(x))[-1]
        found = Blocks(c, name="refinement_blocks")(x)
        if any(c.is_shared(slot) for slot in c.slots):
            head = SharedHead(c.shared, c.shared, name="shared_weight_hypernet")
            found = [head(one) if c.is_shared(slot) else one for slot, one in zip(c.slots, found, strict=True)]
        return found


@cache
def param_shapes(config: HyperConfig) -> dict[str, Any]:
    """Params tree of the network as ShapeDtypeStructs."""
    return initial_shapes(HyperNetwork(config), (1, *config.view[:2], config.in_channels))
