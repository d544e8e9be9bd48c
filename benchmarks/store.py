"""A run folder against the same run as a sharded store: time, size, and reading images in random order.

    python benchmarks/store.py [--count 5000] [--curve 301] [--out FOLDER]

Writes a run of bundled samples, each shifted and with noise of its own, at 64 px with random f/z+ codes as `toonhead64`
has them; exports it, brings it back, and compares the files byte for byte. Exit status 1 where they differ.
"""

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from lsap_jax.pixels import to_float
from lsap_jax.storage.from_store import write_files
from lsap_jax.storage.results import read_code, read_image, read_manifest
from lsap_jax.storage.run_folder import RunFolder
from lsap_jax.storage.store import open_store
from lsap_jax.storage.to_store import write_store

SAMPLES = Path(__file__).resolve().parents[1] / "lsap_jax" / "assets" / "samples"
RUN = {"config": {}, "seed": 0, "space": "f/z+", "generator": {"name": "none", "sha256": "0" * 64}}
Result = TypeVar("Result")


def timed(what: str, count: int, call: Callable[[], Result]) -> Result:
    """Prints what a call took."""
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    print(f"{what:44} {seconds:8.2f} s {1000 * seconds / count:9.3f} ms per image")
    return result


def write_run(folder: Path, count: int, curve: int) -> None:
    samples = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(SAMPLES.glob("*.png"))]

    def write(i: int) -> None:
        rng = np.random.default_rng(i)
        target = np.roll(samples[i % len(samples)], rng.integers(64, size=2), (0, 1))
        image = np.clip(target + rng.normal(0, 3, target.shape), 0, 255).astype(np.uint8)
        run.write(
            f"{i // 1000:03d}/{i:07d}",
            codes={name: rng.standard_normal(shape, np.float32) for name, shape in CODE.items()},
            images=to_float(image),
            targets=target,
            curves={name: np.exp(-rng.random(curve, np.float32)) for name in ("loss", "mse", "perceptual")},
            metrics={name: float(rng.random()) for name in ("mse", "psnr", "ssim", "lpips")},
            input_sha256=f"{i:064d}",
        )

    with RunFolder.open(folder, RUN) as run, ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(count)))
        run.finish()


CODE = {"z": (10, 128), "f": (8, 8, 128)}


def size(folder: Path) -> str:
    """Number of files, bytes in them, and bytes that they take of the disk."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    length, disk = sum(file.st_size for file in files), sum(file.st_blocks * 512 for file in files)
    return f"{len(files):7} files {length / 2**20:8.1f} MiB, {disk / 2**20:8.1f} MiB on the disk"


def contents(folder: Path) -> dict[str, bytes]:
    parts = (folder / part for part in ("codes", "images", "targets", "curves"))
    files = {str(path.relative_to(folder)): path.read_bytes() for part in parts for path in part.rglob("*.*")}
    return files | {name: (folder / name).read_bytes() for name in ("run.json", "metrics.csv")}


def compare(folder: Path, count: int, curve: int) -> bool:
    run, name, back = folder / "run", str(folder / "run.zarr"), folder / "back"
    timed("writing the run folder", count, lambda: write_run(run, count, curve))
    print(f"{'run folder':44} {size(run)}")
    store = timed("export --format zarr", count, lambda: write_store(run, name))
    print(f"{'store':44} {size(Path(name))}")
    timed("export --format files", count, lambda: write_files(store, back))
    manifest = timed("opening the run folder", count, lambda: read_manifest(run))
    store = timed("opening the store", count, lambda: open_store(name))
    some = random.Random(0).sample(range(count), min(count, 500))
    codes, images = store.arrays["codes/f"], store.arrays["images"]
    timed("f and image, 500 at random: run folder", len(some), lambda: [
        (read_code(run, store.ids[i], manifest=manifest)["f"], read_image(run, store.ids[i], manifest=manifest))
        for i in some
    ])  # fmt: skip
    timed("f and image, 500 at random: store", len(some), lambda: [
        (codes[i].read().result(), images[i].read().result()) for i in some
    ])  # fmt: skip
    timed("every f: run folder", count, lambda: [read_code(run, id, manifest=manifest)["f"] for id in store.ids])
    timed("every f: store", count, lambda: codes.read().result())
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")
    return contents(run) == contents(back)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000, help="images")
    parser.add_argument("--curve", type=int, default=301, help="length of the loss curves: steps and one")
    parser.add_argument("--out", default="", help="keep the folders here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(args.out or temporary)
        os.makedirs(out, exist_ok=True)
        same = compare(out, args.count, args.curve)
    print("brought back: the same files byte for byte" if same else "brought back: FILES DIFFER")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
