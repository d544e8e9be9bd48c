"""Seconds and memory to convert a full-size generator and to load the converted file.

    python benchmarks/convert.py [--resolution 1024] [--rounds 3]

Random weights under NVIDIA's names and shapes in an .npz file, converted as `lsap-jax convert` does, saved, and loaded
again with digests checked. Printed: bytes, median and spread of the seconds, the largest memory of the process.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

from lsap_jax.models.generator_file import load_generator
from lsap_jax.networks.families import generator_shapes
from lsap_jax.networks.stylegan2 import GeneratorConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    channels = tuple(min(32768 // (4 << i), 512) for i in range(args.resolution.bit_length() - 2))
    config = GeneratorConfig(img_resolution=args.resolution, channels=channels)
    rng, times = np.random.default_rng(0), {"convert": [], "save": [], "load": []}
    with tempfile.TemporaryDirectory() as folder:
        foreign, own = Path(folder) / "foreign.npz", Path(folder) / "own.safetensors"
        names = {"G_ema/" + ".".join(path): leaf.shape for path, leaf in flatten_dict(generator_shapes(config)).items()}
        np.savez(
            foreign, **{name: nvidia_layout(name, rng.standard_normal(s, np.float32)) for name, s in names.items()}
        )
        for _ in range(args.rounds):
            started = time.perf_counter()
            G = load_generator(foreign)
            times["convert"].append(time.perf_counter() - started)
            started = time.perf_counter()
            G.save(own)
            times["save"].append(time.perf_counter() - started)
            started = time.perf_counter()
            load_generator(own)
            times["load"].append(time.perf_counter() - started)
        print(f"{args.resolution} px, {len(names)} tensors, {foreign.stat().st_size / 2**20:.0f} MiB")
    for name, seconds in times.items():
        print(f"{name}: {np.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")
    print(f"largest memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def nvidia_layout(name: str, a: np.ndarray) -> np.ndarray:
    """An array of `lsap_jax` with its axes as NVIDIA's code has them, [out, in, h, w]."""
    if name.endswith("const") and a.ndim == 3:
        return a.transpose(2, 0, 1)
    return a.T if a.ndim == 2 and name.endswith("weight") else a.transpose(3, 2, 0, 1) if a.ndim == 4 else a


if __name__ == "__main__":
    main()
