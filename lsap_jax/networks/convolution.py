"""Convolution whose gradient stays fast inside `lax.scan` on CPUs.

Autodiff's gradient with respect to the input is a convolution whose kernel has its channel axes swapped by dimension
numbers. Inside a loop, XLA's CPU compiler (jaxlib 0.10) does not bring that into the layout of its fast kernels and falls
back to plain loops: LPIPS-VGG16 and its gradient at 256 px then take four times as long as outside the loop. With the
kernel transposed explicitly they take as long as there.
"""

from functools import partial

import jax
import jax.numpy as jnp

_NUMBERS = ("NHWC", "HWIO", "NHWC")


def _plain(x: jax.Array, weight: jax.Array, stride: int, padding: int) -> jax.Array:
    return jax.lax.conv_general_dilated(x, weight, (stride,) * 2, [(padding,) * 2] * 2, dimension_numbers=_NUMBERS)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d(x: jax.Array, weight: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    """Cross-correlation of x [B, H, W, Cin] with weight [kH, kW, Cin, Cout], zero-padded by `padding` on every side."""
    return _plain(x, weight, stride, padding)


def _forward(x: jax.Array, weight: jax.Array, stride: int, padding: int) -> tuple[jax.Array, tuple]:
    return _plain(x, weight, stride, padding), (x, weight)


def _backward(stride: int, padding: int, saved: tuple, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    edges = []
    for axis in (1, 2):
        before = weight.shape[axis - 1] - 1 - padding
        edges.append((before, x.shape[axis] - 1 + padding - (g.shape[axis] - 1) * stride))
    turned = jnp.flip(weight, (0, 1)).transpose(0, 1, 3, 2)
    dx = jax.lax.conv_general_dilated(g, turned, (1, 1), edges, lhs_dilation=(stride,) * 2, dimension_numbers=_NUMBERS)
    # Frozen weights do not pay for this: the compiler drops what nobody reads.
    (dw,) = jax.vjp(lambda w: _plain(x, w, stride, padding), weight)[1](g)
    return dx, dw


conv2d.defvjp(_forward, _backward)
