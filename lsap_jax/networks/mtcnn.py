"""MTCNN's three networks: P-Net scans the image, R-Net and O-Net filter its boxes, and O-Net finds landmarks, too.

Convolutions and pools are not padded, and a last, partly empty window of a pool counts (ceil mode). Every network
returns logits of (no face, face) through a softmax, and corrections of the box in units of its sides. Params carry the
names of facenet-pytorch's files: `conv1.weight` becomes `params["conv1"]["weight"]`, in HWIO. Their inputs are
`normalised` pixels.

References: Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks (IEEE
Signal Processing Letters 2016); facenet-pytorch, whose weights these are.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsap_jax.networks.arithmetic import FULL
from lsap_jax.networks.parameters import Layout, from_canonical, initial_shapes
from lsap_jax.networks.perceptual import max_pool

WINDOW, STRIDE = 12, 2  # of P-Net's cells, in pixels of its input
REFINED, FINAL = 24, 48  # sides of the inputs of R-Net and O-Net
LANDMARKS = 5


def normalised(levels: jax.Array) -> jax.Array:
    """Grey levels 0 to 255 as the networks take them: (v - 127.5) / 128."""
    return (levels - 127.5) * 0.0078125


class Convolution(nn.Module):
    """Convolution with bias, not padded; params `weight` (HWIO) and `bias`."""

    width: int
    kernel: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.width)
        weight = self.param("weight", nn.initializers.he_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(x, weight, (1, 1), "VALID", dimension_numbers=numbers, precision=FULL)
        return y + bias[None, None, None, :]


class Dense(nn.Module):
    """Matrix product with bias; params `weight` [in, out] and `bias`."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weight = self.param("weight", nn.initializers.he_normal(), (x.shape[-1], self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        return jnp.dot(x, weight, precision=FULL) + bias[None, :]


class PReLU(nn.Module):
    """x where it is positive, else x times a learned slope of its channel; param `weight` [C]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        weight = self.param("weight", nn.initializers.constant(0.25), (x.shape[-1],))
        return jnp.where(x > 0, x, x * weight.reshape((1,) * (x.ndim - 1) + (-1,)))


def flattened(x: jax.Array) -> jax.Array:
    """[B, H, W, C] as [B, W · H · C]: columns first, as the weights were trained in Matlab's order."""
    return x.transpose(0, 2, 1, 3).reshape(len(x), -1)


def cells(side: jax.Array | int) -> Any:
    """Cells along an axis of P-Net's output for an input of `side` pixels, 12 or more."""
    return (side - 1) // 2 - 4


class PNet(nn.Module):
    """A score and a correction per cell of 12 x 12 px, two pixels apart.

    Call: x [B, H, W, 3] of `normalised` levels, 12 px or more a side -> (correction [B, h, w, 4], probability
    [B, h, w, 2]) with h = cells(H). `live` bool [B, H - 2, W - 2]: if several images lie side by side in x, whether a
    3 x 3 window lies within one of them; an image that begins at even pixels then has the same cells as alone.
    """

    @nn.compact
    def __call__(self, x: jax.Array, live: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        x = PReLU(name="prelu1")(Convolution(10, 3, name="conv1")(x))
        if live is None:
            x = max_pool(x, 2, ceil=True)
        else:  # the last window of an image may reach over its edge; values beyond it must not win
            x = max_pool(jnp.where(live[..., None], x, -jnp.inf), 2, ceil=True)
            x = jnp.where(jnp.isfinite(x), x, 0.0)
        x = PReLU(name="prelu2")(Convolution(16, 3, name="conv2")(x))
        x = PReLU(name="prelu3")(Convolution(32, 3, name="conv3")(x))
        probability = nn.softmax(Convolution(2, 1, name="conv4_1")(x))
        return Convolution(4, 1, name="conv4_2")(x), probability


class RNet(nn.Module):
    """x [B, 24, 24, 3] of `normalised` levels -> (correction [B, 4], probability [B, 2])."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = max_pool(PReLU(name="prelu1")(Convolution(28, 3, name="conv1")(x)), 3, ceil=True)
        x = max_pool(PReLU(name="prelu2")(Convolution(48, 3, name="conv2")(x)), 3, ceil=True)
        x = PReLU(name="prelu3")(Convolution(64, 2, name="conv3")(x))
        x = PReLU(name="prelu4")(Dense(128, name="dense4")(flattened(x)))
        probability = nn.softmax(Dense(2, name="dense5_1")(x))
        return Dense(4, name="dense5_2")(x), probability


class ONet(nn.Module):
    """x [B, 48, 48, 3] of `normalised` levels -> (correction [B, 4], landmarks [B, 10], probability [B, 2]).

    Landmarks are five x and then five y, in units of the box: eyes, nose, corners of the mouth, left before right.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = max_pool(PReLU(name="prelu1")(Convolution(32, 3, name="conv1")(x)), 3, ceil=True)
        x = max_pool(PReLU(name="prelu2")(Convolution(64, 3, name="conv2")(x)), 3, ceil=True)
        x = max_pool(PReLU(name="prelu3")(Convolution(64, 3, name="conv3")(x)), 2, ceil=True)
        x = PReLU(name="prelu4")(Convolution(128, 2, name="conv4")(x))
        x = PReLU(name="prelu5")(Dense(256, name="dense5")(flattened(x)))
        probability = nn.softmax(Dense(2, name="dense6_1")(x))
        return Dense(4, name="dense6_2")(x), Dense(2 * LANDMARKS, name="dense6_3")(x), probability


NETWORKS: dict[str, tuple[nn.Module, int]] = {
    "pnet": (PNet(), WINDOW),
    "rnet": (RNet(), REFINED),
    "onet": (ONet(), FINAL),
}


def param_shapes() -> dict[str, Any]:
    """{"pnet": params, "rnet": params, "onet": params} as ShapeDtypeStructs, named as torch names them."""
    return {name: initial_shapes(module, (1, side, side, 3)) for name, (module, side) in NETWORKS.items()}


# One network's arrays are named as torch names them, e.g. `pnet/conv1.weight`.
LAYOUT = Layout(lambda path: f"{path[0]}/{'.'.join(path[1:])}", from_canonical)
