"""Effective GFLOP/s of 3x3 convolutions, direct and in Winograd's form, by shape.

    python benchmarks/convolutions.py [--batch 1 8] [--rounds 5]

Medians of both in turns in one process; the count is that of the direct form. By image: Winograd's, image by image.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.networks.convolution import conv2d
from lsap_jax.networks.winograd import conv3x3, transform_weight

SHAPES = ((16, 512), (32, 512), (64, 256), (128, 128))  # side and channels of StyleGAN2 and VGG16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print("| batch | side | channels | direct | Winograd | by image | largest difference |")
    print("|---|---|---|---|---|---|---|")
    for batch in args.batch:
        for side, channels in SHAPES:
            rng = np.random.default_rng(0)
            x = jnp.asarray(rng.standard_normal((batch, side, side, channels), np.float32))
            w = jnp.asarray(rng.standard_normal((3, 3, channels, channels), np.float32) / np.sqrt(9 * channels))
            wide = transform_weight(w)
            runs = {
                "direct": (jax.jit(lambda x, w: conv2d(x, w, 1, 1)), w),
                "Winograd": (jax.jit(conv3x3), wide),
                "by image": (jax.jit(lambda x, w: jax.lax.map(lambda one: conv3x3(one[None], w)[0], x)), wide),
            }
            found = {name: np.asarray(function(x, weight)) for name, (function, weight) in runs.items()}
            off = np.abs(found["Winograd"] - found["direct"]).max() / np.abs(found["direct"]).max()
            times: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(args.rounds):
                for name, (function, weight) in runs.items():
                    started = time.perf_counter()
                    jax.block_until_ready(function(x, weight))
                    times[name].append(time.perf_counter() - started)
            count = 2 * 9 * channels**2 * side**2 * batch / 1e9
            rates = " | ".join(f"{count / np.median(t):.0f}" for t in times.values())
            print(f"| {batch} | {side} | {channels} | {rates} | {off:.0e} |", flush=True)


if __name__ == "__main__":
    main()
