"""Processor time of the gradient to the weights of a convolution, outside of a loop and inside one.

    python benchmarks/weight_gradients.py [--batch 1 16] [--rounds 3]

Milliseconds of one gradient, the least of several; the last column is the largest difference between both forms.
`autodiff` is what jax makes of a convolution, `ours` that of `lsap_jax.networks.convolution`.
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.networks.convolution import conv2d

# side, channels in and out, kernel, stride, padding
SHAPES = ((64, 24, 24, 3, 1, 1), (16, 96, 96, 3, 1, 1), (64, 24, 3, 1, 1, 0), (32, 24, 48, 3, 2, 1))
STEPS = 4  # of the loop


def autodiff(x: jax.Array, w: jax.Array, stride: int, padding: int) -> jax.Array:
    """`conv2d` without its rules."""
    edges, numbers = [(padding,) * 2] * 2, ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, w, (stride,) * 2, edges, dimension_numbers=numbers)


def gradient(form: Callable[..., jax.Array], stride: int, padding: int) -> Callable[..., jax.Array]:
    return lambda x, w, g: jax.vjp(lambda w: form(x, w, stride, padding), w)[1](g)[0]


def looped(once: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The sum of `STEPS` gradients, of which each needs the one before."""

    def loop(x: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
        step = lambda _, total: total + once(x * (1 + 1e-6 * total[0, 0, 0, 0]), w, g)  # noqa: E731
        return jax.lax.fori_loop(0, STEPS, step, jnp.zeros_like(w))

    return loop


def milliseconds(function: Callable[..., jax.Array], rounds: int, *args: jax.Array) -> tuple[float, np.ndarray]:
    compiled = jax.jit(function).lower(*args).compile()
    found, times = np.asarray(compiled(*args)), []
    for _ in range(rounds):
        started = time.process_time()
        jax.block_until_ready(compiled(*args))
        times.append(time.process_time() - started)
    return 1e3 * min(times), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print("| batch | side, in, out, kernel, stride | autodiff | in a loop | ours | in a loop | largest difference |")
    print("|---|---|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    for batch in args.batch:
        for side, inputs, outputs, kernel, stride, padding in SHAPES:
            size = (side + 2 * padding - kernel) // stride + 1
            shapes = ((batch, side, side, inputs), (kernel, kernel, inputs, outputs), (batch, size, size, outputs))
            x, w, g = (jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes)
            cells, found = [], []
            for form in (autodiff, conv2d):
                once = gradient(form, stride, padding)
                outside, value = milliseconds(once, args.rounds, x, w, g)
                inside, _ = milliseconds(looped(once), args.rounds, x, w, g)
                cells += [f"{outside:.1f}", f"{inside / STEPS:.1f}"]
                found.append(value)
            off = np.abs(found[0] - found[1]).max() / np.abs(found[0]).max()
            shape = f"{side}, {inputs}, {outputs}, {kernel}, {stride}"
            print(f"| {batch} | {shape} | {' | '.join(cells)} | {off:.0e} |", flush=True)


if __name__ == "__main__":
    main()
