"""Latent statistics of a generator: their sampling error, and time and memory of the pass that estimates them.

    python benchmarks/latent_statistics.py [--generator toonhead64] [--samples 1000000]
    python benchmarks/latent_statistics.py --large        a random mapping network of 8 layers of 512, as FFHQ's
    python benchmarks/latent_statistics.py --prior        what P_N's prior is at the mean w, by floor of the variances

Printed are the largest differences between the estimates of two seeds, relative to what a reader compares with: means
to the spread of w, variances to themselves, anchors to 1; and the angle between the subspaces of the first axes.
"""

import argparse
import resource
import time

import jax
import numpy as np

import lsap_jax
from lsap_jax.networks import stylegan2
from lsap_jax.networks.families import initial_params
from lsap_jax.spaces.gaussian import p_of, whiten
from lsap_jax.spaces.statistics import ANCHOR_SAMPLES, SAMPLES, compute_statistics, with_statistics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--prior", action="store_true")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    args = parser.parse_args()
    G = large_generator() if args.large else lsap_jax.load_generator(args.generator)
    if args.prior:
        print_prior(with_statistics(G))
        return
    before = peak()
    found = []
    for seed in (0,) if args.large else (0, 1):
        started = time.perf_counter()
        found.append(compute_statistics(G, args.samples, min(args.samples, ANCHOR_SAMPLES), seed))
        print(f"seed {seed}: {args.samples:,} samples of {G.w_dim} in {time.perf_counter() - started:.0f} s")
    print(f"peak memory of the process {peak():.0f} MB, {before:.0f} MB before")
    values = np.asarray(found[0].p_values)
    print(f"variances of p from {values[0]:.3g} to {values[-1]:.3g}, a factor of {values[0] / values[-1]:.3g}")
    if len(found) == 2:
        a, b = found
        spread = float(a.w_spread)
        print(f"w_mean: {np.linalg.norm(a.w_mean - b.w_mean) / spread:.2e} of w's spread")
        print(f"w_std: {np.abs(a.w_std / b.w_std - 1).max():.2e} relative at most")
        print(f"variances of p: {np.abs(a.p_values / b.p_values - 1).max():.2e} relative at most")
        for first in (8, 32, len(values)):
            singular = np.linalg.svd(a.p_vectors[:, :first].T @ b.p_vectors[:, :first], compute_uv=False)
            print(f"first {first} axes: largest angle {np.degrees(np.arccos(min(1.0, singular.min()))):.2f}°")
        anchors = max(float(np.linalg.norm(a.anchors[n] - b.anchors[n])) for n in a.anchors)
        print(f"anchors: {anchors:.2e} at most")


def print_prior(G: lsap_jax.Generator) -> None:
    """The mean square of p_N at the mean w, where BDInvert starts, and how much of it its ten largest axes have."""
    assert G.statistics is not None
    for floor in (0.0, 1e-4, 1e-3, 1e-2):
        squares = np.sort(np.square(np.asarray(whiten(G.statistics, p_of(G.w_avg[None]), floor))[0]))
        part = squares[-10:].sum() / squares.sum()
        print(f"floor {floor:g}: mean square {squares.mean():.3g}, {part:.0%} in 10 of {len(squares)} axes")


def large_generator() -> lsap_jax.Generator:
    """A random generator whose mapping network has the size of FFHQ's; its images are small."""
    config = stylegan2.GeneratorConfig(img_resolution=16, channels=(8, 8, 8))
    return lsap_jax.Generator(config=config, params=initial_params(config, jax.random.key(0)))


def peak() -> float:
    """Most memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
