"""The encoders of pSp, e4e, LSAP and ReStyle, and the W encoder of pSp and HyperStyle: images to ws.

A trunk (IR-SE50, or ReStyle's ResNet34) makes feature maps, and a head per row of ws shrinks one of them to a vector
("map2style"). pSp's heads read three maps, from a feature pyramid, ReStyle's the last one. Progressive encoders (e4e,
LSAP) predict the first row and, for the others, their offsets from it. Params carry the names of the public files:
`styles.0.convs.2.weight` becomes `params["styles"]["0"]["convs"]["2"]["weight"]`, in HWIO.

References: Richardson et al., Encoding in Style (pSp, arXiv 2008.00951); Tov et al., Designing an Encoder for StyleGAN
Image Manipulation (e4e, 2102.02766); Cao et al., LSAP (2209.12746); Alaluf et al., ReStyle (2104.02699) and HyperStyle
(2111.15666).
"""

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.bounds import Channels, Count, Side, between, length
from lsap_jax.networks.convolution import conv2d, strided_conv2d
from lsap_jax.networks.inception import Conv, Kernel
from lsap_jax.networks.irse import UNITS, Body, InputLayer, Norm, Prelu, ShortcutLayer, Unit, adaptive_average
from lsap_jax.networks.layers import FullyConnected
from lsap_jax.networks.parameters import initial_shapes
from lsap_jax.networks.view import View, middle

Index = Annotated[int, between(0, 63)]
UNITS_OUT = "units"  # collection of what the trunk's units make, for those that ask for it
SLOPE = 0.01  # of the heads' leaky ReLUs: torch's default
# Heads of the pyramid by the first row they make: the map they read, counted from the coarsest.
PYRAMID = ((0, 0), (3, 1), (7, 2))
RESNET34 = tuple(
    Unit(width, 2 if k == 0 and width > 64 else 1)
    for width, n in ((64, 3), (128, 4), (256, 6), (512, 3))
    for k in range(n)
)

# A small trunk for images of 64 px: 1.3 million params with the pyramid's heads for 10 rows of 128, 2.7 MB in float16.
# After the input layer (32 channels, 64 px) its units leave 32 px (two of 32 channels), 16 px (two of 48), 8 px (three
# of 56) and 4 px (two of 56); the heads read the last three sizes, with 2, 3 and 4 convolutions of stride 2.
SMALL = ((32, 2), (32, 1), (48, 2), (48, 1), (56, 2), (56, 1), (56, 1), (56, 2), (56, 1))


@dataclass(frozen=True, kw_only=True)
class PspConfig:
    """Shape of an encoder.

    Attributes:
        num_ws, w_dim: of the codes.
        heads: "pyramid" (pSp, e4e, LSAP), "last" (ReStyle), "single" (the W encoder: one vector for all rows).
        progressive: whether rows after the first are offsets from it (e4e, LSAP, ReStyle-e4e).
        trunk: "irse" or "resnet34".
        units: (width, stride) of the trunk's residual units; the public files have those of IR-SE50 or ResNet34.
        taps: units whose outputs are the three maps of the pyramid, the finest first; the last one is the trunk's end.
        in_channels: 3, or 6 where the present image is seen beside the target (ReStyle).
        input_resolution: px a side of the images that it was trained with; their width, where they are no squares.
        input_height: their height in px; 0 is that of squares.
        filter: by which they were resized. The originals' is "bilinear"; files that do not say it have "lanczos".
        passes: number of passes, each from the result of the one before (ReStyle); 1 elsewhere.
        head_convs: convolutions of the heads on each map, the coarsest first.
        head_width: channels of the heads and of the pyramid; 0 is w_dim, as in the public files. The last unit has as
            many.
    """

    num_ws: Annotated[int, between(2, 64)]
    w_dim: Channels = 512
    heads: Literal["pyramid", "last", "single"] = "pyramid"
    progressive: bool = False
    trunk: Literal["irse", "resnet34"] = "irse"
    units: Annotated[tuple[tuple[Channels, Annotated[int, between(1, 2)]], ...], length(1, 64)] = UNITS
    taps: tuple[Index, Index, Index] = (6, 20, 23)
    in_channels: Channels = 3
    input_resolution: Side = 256
    passes: Annotated[int, between(1, 64)] = 1
    head_convs: tuple[Index, Index, Index] = (4, 5, 6)
    head_width: Count = 0
    input_height: Count = 0
    filter: Literal["lanczos", "bilinear"] = "lanczos"

    def __post_init__(self) -> None:
        if self.passes > 1 and not self.sees_result:
            raise ValueError(
                f"an encoder of {self.passes} passes sees its result, not {self.in_channels} channels alone"
            )
        if self.input_height > self.input_resolution:
            raise ValueError(f"images of {self.input_height} x {self.input_resolution} px are higher than wide")
        if self.heads == "pyramid" and max(self.taps) >= len(self.units):
            raise ValueError(f"taps are {self.taps}, the trunk has {len(self.units)} units")
        if self.heads == "pyramid" and self.units[-1][0] != self.width:
            raise ValueError(f"the trunk's last unit has {self.units[-1][0]} channels, the pyramid {self.width}")

    @property
    def sees_result(self) -> bool:
        """Whether it sees what its codes render to beside the image, which has 1 or 3 channels."""
        return self.in_channels in (2, 6)

    @property
    def view(self) -> View:
        """Size and filter of the images that it takes."""
        return View(self.input_height or self.input_resolution, self.input_resolution, self.filter)

    @property
    def width(self) -> int:
        """Channels of the heads and of the pyramid."""
        return self.head_width or self.w_dim

    @property
    def slots(self) -> tuple[tuple[int, int], ...]:
        """(map, number of convolutions) of the head of each row; maps count from the coarsest."""
        if self.heads == "last":
            return ((0, self.head_convs[0]),) * self.num_ws
        maps = (next(m for first, m in PYRAMID[::-1] if row >= first) for row in range(self.num_ws))
        return tuple((m, self.head_convs[m]) for m in maps)


def upsampled(x: jax.Array, height: int, width: int) -> jax.Array:
    """[B, h, w, C] at another size by bilinear interpolation between pixel centres, corners on corners
    (`torch.nn.functional.interpolate(mode="bilinear", align_corners=True)`).
    """
    for axis, size, formula in ((1, height, "oh,bhwc->bowc"), (2, width, "ow,bhwc->bhoc")):
        if x.shape[axis] != size:
            weights = jnp.asarray(corner_matrix(x.shape[axis], size), x.dtype)
            x = jnp.einsum(formula, weights, x, precision=FULL)
    return x


def corner_matrix(source: int, size: int) -> np.ndarray:
    """Weights [size, source] of 1-D linear interpolation that keeps the ends."""
    at = np.linspace(0, source - 1, size)
    low = np.minimum(at.astype(int), max(source - 2, 0))
    share = at - low
    matrix = np.zeros((size, source))
    np.add.at(matrix, (np.arange(size), low), 1 - share)
    np.add.at(matrix, (np.arange(size), np.minimum(low + 1, source - 1)), share)
    return matrix


class BiasedConv(nn.Module):
    """Convolution with bias, padded by half its kernel."""

    width: int
    kernel: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.width)
        weight = self.param("weight", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        convolution = conv2d if self.stride == 1 else strided_conv2d
        return convolution(x, weight, self.stride, self.kernel // 2) + bias[None, None, None]


class Convs(nn.Module):
    """Strided convolutions, each halving the sides, with leaky ReLUs; every other index is an activation."""

    count: int
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for k in range(self.count):
            x = nn.leaky_relu(BiasedConv(self.width, 3, 2, name=str(2 * k))(x), SLOPE)
        return x


class Head(nn.Module):
    """A map to one row: strided convolutions down to one pixel, then an equalised linear layer."""

    count: int
    width: int
    w_dim: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Convs(self.count, self.width, name="convs")(x)
        if x.shape[1:3] != (1, 1):
            raise ValueError(f"a head leaves {x.shape[1]} x {x.shape[2]} px, not one: its images are too large")
        return FullyConnected(self.w_dim, name="linear")(x[:, 0, 0])


class Heads(nn.Module):
    """A head for each row."""

    config: PspConfig

    @nn.compact
    def __call__(self, maps: list[jax.Array]) -> jax.Array:
        """Maps, the coarsest first, to rows [B, num_ws, w_dim]."""
        c = self.config
        rows = [Head(count, c.width, c.w_dim, name=str(k))(maps[m]) for k, (m, count) in enumerate(c.slots)]
        return jnp.stack(rows, axis=1)


class BasicUnit(nn.Module):
    """ResNet34's unit: two convolutions with norms; the shortcut is a convolution where the shape changes."""

    unit: Unit

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width, stride = self.unit
        y = nn.relu(Norm(name="bn1")(Kernel(Conv("conv1", width, (3, 3), stride), name="conv1")(x)))
        y = Norm(name="bn2")(Kernel(Conv("conv2", width, (3, 3)), name="conv2")(y))
        if x.shape[-1] != width or stride > 1:
            x = ShortcutLayer(self.unit, name="downsample")(x)
        return nn.relu(x + y)


class BasicBody(nn.Module):
    """The units of ResNet34 in a row."""

    units: tuple[Unit, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """The output of every unit."""
        found = []
        for k, one in enumerate(self.units):
            x = BasicUnit(one, name=str(k))(x)
            found.append(x)
        return found


class PspEncoder(nn.Module):
    """Images [B, r, r, in_channels] in [-1, 1] to ws [B, num_ws, w_dim] without the mean latent."""

    config: PspConfig

    @nn.compact
    def __call__(self, x: jax.Array, stage: int | jax.Array | None = None) -> jax.Array:
        """Args:
        stage: the last row with an offset of its own (e4e's progressive training); None is all.
        """
        c = self.config
        units = tuple(Unit(*unit) for unit in c.units)
        if c.trunk == "irse":
            outputs = Body(units, name="body")(InputLayer(units[0].width, name="input_layer")(x))
        else:
            x = Norm(name="bn1")(Kernel(Conv("conv1", units[0].width, (7, 7), 2), name="conv1")(x))
            outputs = BasicBody(units, name="body")(Prelu(name="relu")(x))
        self.sow(UNITS_OUT, "outputs", outputs)
        if c.heads == "single":
            w = FullyConnected(c.w_dim, name="linear")(outputs[-1].mean(axis=(1, 2)))
            return jnp.repeat(w[:, None], c.num_ws, axis=1)
        rows = Heads(c, name="styles")(self.maps(outputs))
        if not c.progressive:
            return rows
        first, last = rows[:, :1], c.num_ws if stage is None else stage
        row = jnp.arange(c.num_ws)[None, :, None]
        return first + jnp.where((row > 0) & (row <= last), rows, 0)

    def maps(self, outputs: list[jax.Array]) -> list[jax.Array]:
        """The maps that heads read, the coarsest first."""
        c = self.config
        if c.heads == "last":
            return [outputs[-1]]
        fine, middle, coarse = (outputs[k] for k in c.taps)
        p2 = BiasedConv(c.width, 1, name="latlayer1")(middle)
        p2 = upsampled(coarse, *p2.shape[1:3]) + p2
        p1 = BiasedConv(c.width, 1, name="latlayer2")(fine)
        return [coarse, p2, upsampled(p2, *p1.shape[1:3]) + p1]


def pooled(images: jax.Array, view: View) -> jax.Array:
    """Images [B, R, R, C] of a generator as ReStyle's encoders see them: averaged to the width, and the middle rows."""
    averaged = adaptive_average(images, view.width)
    return averaged[:, middle(view.width, view)]


@cache
def param_shapes(config: PspConfig) -> dict[str, Any]:
    """Params tree of the network as ShapeDtypeStructs."""
    return initial_shapes(PspEncoder(config), (1, *config.view[:2], config.in_channels))
