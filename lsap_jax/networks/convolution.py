"""Convolutions whose gradients stay fast on CPUs, inside `lax.scan` as outside.

XLA's CPU compiler (jaxlib 0.10) has two weak spots that autodiff hits. Inside a loop it does not bring a kernel whose
channel axes were swapped by dimension numbers into the layout of its fast kernels: a gradient to the input takes four
to ten times as long as outside, one to the weights twenty times and more. And the gradient to the weights of a
convolution over stuffed zeros runs in plain loops. Here all of it is spelled out: axes are transposed explicitly, each
tap's weight gradient of a transposed convolution is one matrix product. Every rule is made of these same functions, so
that second derivatives (R1, path length) are fast too.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from lsap_jax.networks import winograd
from lsap_jax.networks.arithmetic import precision

_NUMBERS = ("NHWC", "HWIO", "NHWC")


def _plain(x: jax.Array, weight: jax.Array, stride: int, padding: int) -> jax.Array:
    edges = [(padding,) * 2] * 2
    return jax.lax.conv_general_dilated(
        x, weight, (stride,) * 2, edges, dimension_numbers=_NUMBERS, precision=precision()
    )


def _turned(weight: jax.Array) -> jax.Array:
    """The kernel of the adjoint: flipped in space, channel axes swapped."""
    return jnp.flip(weight, (0, 1)).transpose(0, 1, 3, 2)


class Kernel(struct.PyTreeNode, kw_only=True):
    """A weight that is not differentiated, in the forms that a step needs: made once per run instead of in every step.

    Attributes:
        direct, turned: the weight [kh, kw, Cin, Cout] and that of its adjoint; None in a Winograd kernel.
        wide, wide_turned: both transformed for `winograd.conv3x3`; None elsewhere.
        energy: [Cin, Cout], Σ weight² over the taps, where the convolution is demodulated; None elsewhere.
        side: of the features that it is applied to, in pixels.
        strided: whether it resamples.
    """

    direct: jax.Array | None
    turned: jax.Array | None
    wide: jax.Array | None = None
    wide_turned: jax.Array | None = None
    energy: jax.Array | None
    shape: tuple[int, ...] = struct.field(pytree_node=False)
    side: int = struct.field(pytree_node=False)
    strided: bool = struct.field(pytree_node=False)

    @staticmethod
    def of(weight: jax.Array, side: int, strided: bool, demodulated: bool = False) -> "Kernel":
        """The kernel of a weight in its direct form."""
        energy = jnp.sum(jnp.square(weight), axis=(0, 1)) if demodulated else None
        forms = {"direct": weight, "turned": _turned(weight)}
        return Kernel(**forms, energy=energy, shape=weight.shape, side=side, strided=strided)

    @property
    def adjoint(self) -> "Kernel":
        """The kernel of the gradient to the input."""
        forms = {"direct": self.turned, "turned": self.direct, "wide": self.wide_turned, "wide_turned": self.wide}
        return self.replace(**forms, shape=(*self.shape[:2], self.shape[3], self.shape[2]))

    def winograd(self, channels: int) -> "Kernel":
        """The kernel in Winograd's form if that pays: a 3x3 kernel with `channels` or more inputs and outputs."""
        if self.strided or self.shape[:2] != (3, 3) or min(self.shape[2:]) < channels or self.side < winograd.MIN_SIDE:
            return self
        assert self.direct is not None and self.turned is not None
        wide, wide_turned = (winograd.transform_weight(w) for w in (self.direct, self.turned))
        return self.replace(direct=None, turned=None, wide=wide, wide_turned=wide_turned)

    def astype(self, dtype: jnp.dtype) -> "Kernel":
        """The convolution in another precision; demodulation keeps its own."""
        return jax.tree.map(lambda a: a.astype(dtype), self).replace(energy=self.energy)


def conv2d(x: jax.Array, weight: jax.Array | Kernel, stride: int = 1, padding: int = 0) -> jax.Array:
    """Cross-correlation of x [B, H, W, Cin] with weight [kh, kw, Cin, Cout], zero-padded by `padding` on every side."""
    return (_frozen if isinstance(weight, Kernel) else _conv2d)(x, weight, stride, padding)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv2d(x: jax.Array, weight: jax.Array, stride: int, padding: int) -> jax.Array:
    return _plain(x, weight, stride, padding)


def _conv2d_fwd(x: jax.Array, weight: jax.Array, stride: int, padding: int) -> tuple[jax.Array, tuple]:
    return _plain(x, weight, stride, padding), (x, weight)


def _conv2d_bwd(stride: int, padding: int, saved: tuple, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    dx = _input_gradient(g, _turned(weight), x.shape, stride, padding)
    # Frozen weights do not pay for this: the compiler drops unused results.
    return dx, _weight_gradient(x, weight, g, stride, padding)


def _weight_gradient(x: jax.Array, weight: jax.Array, g: jax.Array, stride: int, padding: int) -> jax.Array:
    """Gradient of `conv2d` with respect to its weight: on CPUs images and channels change places explicitly."""
    if jax.default_backend() != "cpu":
        return jax.vjp(lambda w: _plain(x, w, stride, padding), weight)[1](g)[0]
    kh, kw = weight.shape[:2]
    dw = jax.lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), (1, 1), [(padding,) * 2] * 2, rhs_dilation=(stride,) * 2,
        dimension_numbers=_NUMBERS, precision=precision(),
    )  # fmt: skip
    return dw[:, :kh, :kw].transpose(1, 2, 0, 3)


_conv2d.defvjp(_conv2d_fwd, _conv2d_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def strided_conv2d(x: jax.Array, weight: jax.Array, stride: int, padding: int) -> jax.Array:
    """`conv2d` for strided layers side by side on one input, as heads are.

    On CPUs it is one product of the windows of x, [B · h · w, kh · kw · Cin], with the weight: its layers share the
    windows, and the compiler's own strided convolution takes 1.2 times as long at 64 x 64 px of 512 channels, and ten
    times at 2 x 2. Gradients are those of `conv2d`.
    """
    if jax.default_backend() != "cpu":
        return _plain(x, weight, stride, padding)
    kh, kw, channels, width = weight.shape
    x = jnp.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    batch, h, w = x.shape[0], (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    rows = [x[:, i : i + stride * (h - 1) + 1 : stride] for i in range(kh)]
    windows = jnp.stack([row[:, :, j : j + stride * (w - 1) + 1 : stride] for row in rows for j in range(kw)], axis=3)
    y = jnp.matmul(windows.reshape(batch * h * w, kh * kw * channels), weight.reshape(-1, width), precision=precision())
    return y.reshape(batch, h, w, width)


def _strided_fwd(x: jax.Array, weight: jax.Array, stride: int, padding: int) -> tuple[jax.Array, tuple]:
    return strided_conv2d(x, weight, stride, padding), (x, weight)


strided_conv2d.defvjp(_strided_fwd, _conv2d_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _frozen(x: jax.Array, kernel: Kernel, stride: int, padding: int) -> jax.Array:
    if kernel.wide is not None:
        assert stride == padding == 1
        return winograd.conv3x3(x, kernel.wide)
    assert kernel.direct is not None
    return _plain(x, kernel.direct, stride, padding)


def _frozen_fwd(x: jax.Array, kernel: Kernel, stride: int, padding: int) -> tuple[jax.Array, tuple]:
    return _frozen(x, kernel, stride, padding), (x, kernel)


def _frozen_bwd(stride: int, padding: int, saved: tuple, g: jax.Array) -> tuple[jax.Array, None]:
    x, kernel = saved
    return _input_gradient(g, kernel.adjoint, x.shape, stride, padding), None


_frozen.defvjp(_frozen_fwd, _frozen_bwd)


def _input_gradient(
    g: jax.Array, adjoint: jax.Array | Kernel, shape: tuple[int, ...], stride: int, padding: int
) -> jax.Array:
    """Gradient of `conv2d` with respect to an x of this shape."""
    kh, kw = adjoint.shape[:2]
    if stride == 1 and kh == kw and padding < kh:
        return conv2d(g, adjoint, 1, kh - 1 - padding)
    full = transposed_conv2d(g, adjoint, stride)
    edges = [(-padding, shape[axis] + padding - full.shape[axis], 0) for axis in (1, 2)]
    return jax.lax.pad(full, jnp.zeros((), full.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


def transposed_conv2d(x: jax.Array, weight: jax.Array | Kernel, up: int) -> jax.Array:
    """Full cross-correlation of the zero-stuffed x with weight: [B, (H - 1)·up + kh, (W - 1)·up + kw, Cout]."""
    return (_frozen_transposed if isinstance(weight, Kernel) else _transposed)(x, weight, up)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _transposed(x: jax.Array, weight: jax.Array, up: int) -> jax.Array:
    return _stuffed(x, weight, up)


def _stuffed(x: jax.Array, weight: jax.Array, up: int) -> jax.Array:
    kh, kw = weight.shape[:2]
    edges = [(kh - 1, kh - 1), (kw - 1, kw - 1)]
    return jax.lax.conv_general_dilated(
        x, weight, (1, 1), edges, lhs_dilation=(up, up), dimension_numbers=_NUMBERS, precision=precision()
    )


def _transposed_fwd(x: jax.Array, weight: jax.Array, up: int) -> tuple[jax.Array, tuple]:
    return _stuffed(x, weight, up), (x, weight)


def _transposed_bwd(up: int, saved: tuple, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = saved
    kh, kw = weight.shape[:2]
    height, width = x.shape[1:3]

    def tap(i: int, j: int) -> jax.Array:  # sample s of x meets weight (i, j) in output up·s + k - 1 - (i, j)
        rows = slice(kh - 1 - i, kh - i + (height - 1) * up, up)
        columns = slice(kw - 1 - j, kw - j + (width - 1) * up, up)
        return jnp.einsum("bhwi,bhwo->io", x, g[:, rows, columns], precision=precision())

    dw = jnp.stack([jnp.stack([tap(i, j) for j in range(kw)]) for i in range(kh)])
    return conv2d(g, _turned(weight), up), dw


_transposed.defvjp(_transposed_fwd, _transposed_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _frozen_transposed(x: jax.Array, kernel: Kernel, up: int) -> jax.Array:
    assert kernel.direct is not None
    return _stuffed(x, kernel.direct, up)


def _frozen_transposed_fwd(x: jax.Array, kernel: Kernel, up: int) -> tuple[jax.Array, Kernel]:
    return _frozen_transposed(x, kernel, up), kernel


def _frozen_transposed_bwd(up: int, kernel: Kernel, g: jax.Array) -> tuple[jax.Array, None]:
    return conv2d(g, kernel.adjoint, up), None


_frozen_transposed.defvjp(_frozen_transposed_fwd, _frozen_transposed_bwd)
