"""Seconds and memory to convert a full-size generator and to load the converted file.

    python benchmarks/convert.py [--resolution 1024] [--rounds 3] [--encoder]

Random weights under NVIDIA's names and shapes in an .npz file, converted as `lsap-jax convert` does, saved, and loaded
again with digests checked. Printed: bytes, median and spread of the seconds, the largest memory of the process.

With --encoder, a torch file of e4e's encoder and that generator instead, converted by each of the two commands in a
process of its own. Printed: bytes, seconds, the largest memory of each process.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict

from convert_weights.psp import encoder_shapes
from convert_weights.torch_writer import Part, write_torch
from convert_weights.trunks import IR_SE50
from lsap_jax.models.generator_file import load_generator
from lsap_jax.networks.families import generator_shapes
from lsap_jax.networks.stylegan2 import GeneratorConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoder", action="store_true")
    args = parser.parse_args()
    if args.encoder:
        return convert_encoder(args.resolution, args.rounds)
    config = generator_config(args.resolution)
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


def generator_config(resolution: int) -> GeneratorConfig:
    channels = tuple(min(32768 // (4 << i), 512) for i in range(resolution.bit_length() - 2))
    return GeneratorConfig(img_resolution=resolution, channels=channels)


def convert_encoder(resolution: int, rounds: int) -> None:
    """Converts an encoder with its generator, from a torch file, by both commands."""
    generator, rng = generator_config(resolution), np.random.default_rng(0)
    before = (0, *IR_SE50)
    units = [(width, 1 + (width != last)) for last, width in zip(before, IR_SE50, strict=False)]
    encoder = {"trunk": "irse", "heads": "pyramid", "units": units, "taps": (6, 20, 23), "in_channels": 3}
    shapes = {f"e4e.{n}": s for n, s in encoder_shapes({**encoder, "w_dim": 512, "num_ws": generator.num_ws}).items()}
    for path, leaf in flatten_dict(generator_shapes(generator)).items():
        name = ".".join(path)
        shapes[f"generator_smooth.{name}"] = nvidia_layout(name, np.broadcast_to(np.float32(0), leaf.shape)).shape
    shapes["latent_avg"] = (generator.num_ws, 512)

    def drawn(shape: tuple[int, ...]) -> Iterator[np.ndarray]:
        yield rng.standard_normal(shape, np.float32)

    with tempfile.TemporaryDirectory() as folder:
        foreign, own = Path(folder) / "foreign.pt", Path(folder) / "own.safetensors"
        with foreign.open("wb") as file:
            parts = {n: Part(shape=s, dtype=np.dtype(np.float32), chunks=drawn(s)) for n, s in shapes.items()}
            write_torch(file, parts)
        print(f"encoder with its generator, {len(shapes)} tensors, {foreign.stat().st_size / 2**20:.0f} MiB")
        for command in (["convert_weights"], ["lsap_jax", "convert", "--nogrid"]):
            seconds, peaks = zip(*(measured(command, foreign, own) for _ in range(rounds)), strict=True)
            spread = f"{np.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
            print(f"python -m {' '.join(command)}: {spread}, largest memory {max(peaks):.2f} GiB")


def measured(command: list[str], source: Path, target: Path) -> tuple[float, float]:
    """Seconds, and the largest memory in GiB, of `python -m COMMAND SOURCE TARGET`."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *command, source, target], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - started, usage.ru_maxrss / 2**20


def nvidia_layout(name: str, a: np.ndarray) -> np.ndarray:
    """An array of `lsap_jax` with its axes as NVIDIA's code has them, [out, in, h, w]."""
    if name.endswith("const") and a.ndim == 3:
        return a.transpose(2, 0, 1)
    return a.T if a.ndim == 2 and name.endswith("weight") else a.transpose(3, 2, 0, 1) if a.ndim == 4 else a


if __name__ == "__main__":
    main()
