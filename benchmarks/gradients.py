"""Why float32 gradients of two equal formulations differ by 1e-3: rounding, or kinks of leaky ReLUs?

    python benchmarks/gradients.py [--resolution 64] [--seeds 8]

Gradients of a curved loss of the image to ws, by the plain weights, frozen ones and Winograd's form, each against the
plain one in float64, with leaky ReLUs and with softplus in their place. Printed: the largest difference relative to
the largest gradient, median and most over the seeds. Without kinks only rounding is left.
"""

import argparse
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from lsap_jax.models.generator import Generator
from lsap_jax.networks.families import initial_params
from lsap_jax.networks.stylegan2 import GeneratorConfig

CASES = [(dtype, form) for dtype in ("float64", "float32") for form in ("plain", "frozen", "winograd")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=8)
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    channels = (args.width,) * (args.resolution.bit_length() - 2)
    print("| activation | precision | weights | median | most |")
    print("|---|---|---|---|---|")
    for activation in ("lrelu", "softplus"):
        config = GeneratorConfig(img_resolution=args.resolution, channels=channels, activation="lrelu")
        params = initial_params(config, jax.random.key(0))
        config = replace(config, activation=activation)
        G = Generator(config=config, params=params)
        exact = gradients(G, args.seeds, "float64", "plain")
        for dtype, form in CASES:
            found = gradients(G, args.seeds, dtype, form)
            off = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, exact, strict=True)]
            print(f"| {activation} | {dtype} | {form} | {np.median(off):.1e} | {max(off):.1e} |", flush=True)


def gradients(G: Generator, seeds: int, dtype: str, form: str) -> list[np.ndarray]:
    """One [num_ws, w_dim] per seed."""
    G = jax.tree.map(lambda a: jnp.asarray(a, dtype), G)
    if form != "plain":
        G = G.freeze(winograd=64 if form == "winograd" else 0)
    one = jax.jit(jax.grad(lambda ws, G: jnp.sin(3 * G.synthesis(ws)).mean()))
    ws = [np.random.default_rng(seed).standard_normal((1, G.num_ws, G.w_dim)) for seed in range(seeds)]
    return [np.asarray(one(jnp.asarray(w, dtype), G), np.float64)[0] for w in ws]


if __name__ == "__main__":
    main()
