"""Convolutions whose gradients stay fast on CPUs, inside `lax.scan` as outside.

XLA's CPU compiler (jaxlib 0.10) has two weak spots that autodiff hits. Inside a loop it does not bring a kernel whose
channel axes were swapped by dimension numbers into the layout of its fast kernels: a gradient to the input takes four
to ten times as long as outside. And the gradient to the weights of a convolution over stuffed zeros runs in plain
loops. Here both are spelled out: kernels are transposed explicitly, each tap's weight gradient of a transposed
convolution is one matrix product. Every rule is made of these same functions, so that second derivatives (R1, path
length) are fast too.
"""

from functools import partial

import jax
import jax.numpy as jnp

_NUMBERS = ("NHWC", "HWIO", "NHWC")


def _plain(x: jax.Array, weight: jax.Array, stride: int, padding: int) -> jax.Array:
    return jax.lax.conv_general_dilated(x, weight, (stride,) * 2, [(padding,) * 2] * 2, dimension_numbers=_NUMBERS)


def _turned(weight: jax.Array) -> jax.Array:
    """The kernel of the adjoint: flipped in space, channel axes swapped."""
    return jnp.flip(weight, (0, 1)).transpose(0, 1, 3, 2)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d(x: jax.Array, weight: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    """Cross-correlation of x [B, H, W, Cin] with weight [kh, kw, Cin, Cout], zero-padded by `padding` on every side."""
    return _plain(x, weight, stride, padding)


def _conv2d_fwd(x: jax.Array, weight: jax.Array, stride: int, padding: int) -> tuple[jax.Array, tuple]:
    return _plain(x, weight, stride, padding), (x, weight)


def _conv2d_bwd(stride: int, padding: int, saved: tuple, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    k = weight.shape[0]
    if stride == 1 and k == weight.shape[1] and padding < k:
        dx = conv2d(g, _turned(weight), 1, k - 1 - padding)
    else:
        full = transposed_conv2d(g, _turned(weight), stride)
        edges = [(-padding, x.shape[axis] + padding - full.shape[axis], 0) for axis in (1, 2)]
        dx = jax.lax.pad(full, jnp.zeros((), full.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    # Frozen weights do not pay for this: the compiler drops what nobody reads.
    (dw,) = jax.vjp(lambda w: _plain(x, w, stride, padding), weight)[1](g)
    return dx, dw


conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def transposed_conv2d(x: jax.Array, weight: jax.Array, up: int) -> jax.Array:
    """Full cross-correlation of the zero-stuffed x with weight: [B, (H - 1)·up + kh, (W - 1)·up + kw, Cout]."""
    kh, kw = weight.shape[:2]
    edges = [(kh - 1, kh - 1), (kw - 1, kw - 1)]
    return jax.lax.conv_general_dilated(x, weight, (1, 1), edges, lhs_dilation=(up, up), dimension_numbers=_NUMBERS)


def _transposed_fwd(x: jax.Array, weight: jax.Array, up: int) -> tuple[jax.Array, tuple]:
    return transposed_conv2d(x, weight, up), (x, weight)


def _transposed_bwd(up: int, saved: tuple, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    kh, kw = weight.shape[:2]
    height, width = x.shape[1:3]

    def tap(i: int, j: int) -> jax.Array:  # sample s of x meets weight (i, j) in output up·s + k - 1 - (i, j)
        rows = slice(kh - 1 - i, kh - i + (height - 1) * up, up)
        columns = slice(kw - 1 - j, kw - j + (width - 1) * up, up)
        return jnp.einsum("bhwi,bhwo->io", x, g[:, rows, columns])

    dw = jnp.stack([jnp.stack([tap(i, j) for j in range(kw)]) for i in range(kh)])
    return conv2d(g, _turned(weight), up), dw


transposed_conv2d.defvjp(_transposed_fwd, _transposed_bwd)
