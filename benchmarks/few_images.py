"""Seconds to invert a few images: a folder of 1, 2, 8, 16, 17, with compiled programs at hand.

    python benchmarks/few_images.py [--generator toonhead64] [--space z+] [--steps 200] [--counts 1 2 8 16 17]
                                    [--batch_size N] [--together 0]

Each is the whole command `lsap-jax invert` in a process of its own, twice, of which the second is timed: the first
leaves its programs in a cache. `--together 0` computes whole batches, as accelerators do, on a processor, too. A batch
is no larger than what there is to do, so seconds per image should hardly depend on their number.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lsap_jax

SAMPLES = sorted((Path(lsap_jax.__file__).parent / "assets" / "samples").glob("*.png"))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--space", default="z+")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 8, 16, 17])
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--together", type=int, default=-1, help="compute.together; 0 is whole batches")
    return parser.parse_args()


def seconds(args: argparse.Namespace, folder: Path, count: int, turn: int) -> tuple[float, int]:
    """(seconds of the command, batch size that it chose)."""
    images, out = folder / f"images{count}", folder / f"run{count}_{turn}"
    images.mkdir(exist_ok=True)
    for i in range(count):
        (images / f"{i:04d}.png").write_bytes(SAMPLES[i % len(SAMPLES)].read_bytes())
    words = ["invert", images, "--generator", args.generator, "--space", args.space, "--steps", args.steps]
    words += ["--batch_size", args.batch_size, f"--config.compute.together={args.together}", "--out", out]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    started = time.perf_counter()
    command = [sys.executable, "-m", "lsap_jax", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - started, json.loads((out / "run.json").read_text())["batch_size"]


def main() -> None:
    args = arguments()
    print(f"{args.space}, {args.steps} steps, batches of at most {args.batch_size}; load {os.getloadavg()[0]:.1f}")
    print("| images | batch | s, at first | s | s per image |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for count in args.counts:
            first, batch = seconds(args, Path(folder), count, 0)
            again, _ = seconds(args, Path(folder), count, 1)
            print(f"| {count} | {batch} | {first:.1f} | {again:.1f} | {again / count:.2f} |", flush=True)


if __name__ == "__main__":
    main()
