"""Independence: an image's result under other batch sizes and device counts, against batch size 1 on one device.

    python benchmarks/independence.py [--generator toonhead64] [--images FOLDER] [--steps 30] [--spaces f/z+ z+]
                                      [--methods pti sam dhr hfgi hyperstyle styleres]
                                      [--batch 1 3 8] [--devices 1 2 4] [--winograd 64] [--together 1]

Promise: after 30 steps the MSE of each image agrees within 1e-3 relative, and 99.9 % of the code within 1e-3 of its
largest value. Methods refine the codes of the generator's encoder, and their images are held to the same. Devices are
faked on the processor, one process per count. Exit status 1 where the promise is broken.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

LIMIT, SHARE = 1e-3, 0.999


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--images", default="", help="a folder; the bundled samples by default")
    parser.add_argument("--count", type=int, default=8, help="images")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--spaces", nargs="*", default=["f/z+", "z+"])
    parser.add_argument("--methods", nargs="*", default=[], help="of refinement")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 3, 8])
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--winograd", type=int, default=-1, help="compute.winograd of the configuration")
    parser.add_argument("--together", type=int, default=-1, help="compute.together of the configuration")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def work(args: argparse.Namespace) -> None:
    """All spaces, methods and batch sizes on the devices of this process; results go to one file."""
    import lsap_jax
    from lsap_jax.data import open_images
    from lsap_jax.data.bundled import sample_images
    from lsap_jax.refinement.methods import find_method

    G = lsap_jax.load_generator(args.generator)
    source = open_images(args.images or sample_images(), resolution=G.img_resolution, channels=G.img_channels)
    indices = range(min(args.count, len(source)))
    images, ids = np.stack([source.load(i).image for i in indices]), [source.ids[i] for i in indices]
    found = {}
    for space in args.spaces:
        for batch in args.batch:
            compute = {"compute.winograd": args.winograd, "compute.together": args.together}
            inv = lsap_jax.invert(G, images, space=space, steps=args.steps, ids=ids, batch_size=batch, **compute)
            found |= {f"{space}|{batch}|{name}": code for name, code in inv.codes.items()}
            found[f"{space}|{batch}|mse"] = inv.metrics["mse"]
    start = lsap_jax.invert(G, images, "e4e", ids=ids) if args.methods else None
    for method in args.methods:
        options = {"steps": args.steps} if "steps" in find_method(method).options else {}
        for batch in args.batch:
            refined = lsap_jax.refine(G, start, images, method, batch_size=batch, **options)
            found |= {f"{method}|{batch}|image": refined.images, f"{method}|{batch}|mse": refined.metrics["mse"]}
    np.savez(args.worker, **found)


def results(args: argparse.Namespace, folder: Path) -> dict[int, dict[str, np.ndarray]]:
    """Device count -> arrays by "space|batch|name", or "method|batch|name"."""
    found = {}
    for devices in args.devices:
        target = folder / f"{devices}.npz"
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        subprocess.run([sys.executable, *sys.argv, "--worker", str(target)], check=True, env=environment)
        with np.load(target) as file:
            found[devices] = {key: file[key] for key in file.files}
    return found


def compare(args: argparse.Namespace, found: dict[int, dict[str, np.ndarray]]) -> bool:
    """Prints a row per space or method, batch size and device count; returns whether all are within the promise."""
    first = found[args.devices[0]]
    kept = True
    print("| what | batch | devices | MSE, relative difference | array | share within 1e-3 | largest difference |")
    print("|---|---|---|---|---|---|---|")
    for what in (*args.spaces, *args.methods):
        base = f"{what}|{args.batch[0]}"
        for devices, arrays in found.items():
            for batch in args.batch:
                case = f"{what}|{batch}"
                mse = float(np.max(np.abs(arrays[f"{case}|mse"] / first[f"{base}|mse"] - 1)))
                for name in ("z", "f", "image"):
                    if f"{case}|{name}" not in arrays:
                        continue
                    share, largest = code_difference(arrays[f"{case}|{name}"], first[f"{base}|{name}"])
                    kept &= mse <= LIMIT and share >= SHARE
                    print(f"| {what} | {batch} | {devices} | {mse:.1e} | {name} | {share:.4%} | {largest:.1e} |")
    return kept


def code_difference(code: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """(least share of an image's array within 1e-3 of its maximum, largest difference by the maximum), over images."""
    axes = tuple(range(1, code.ndim))
    difference = np.abs(code - reference) / np.abs(reference).max(axis=axes, keepdims=True)
    return float((difference <= LIMIT).mean(axis=axes).min()), float(difference.max())


def main() -> int:
    args = arguments()
    if args.worker:
        work(args)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        kept = compare(args, results(args, Path(folder)))
    print("within the promise" if kept else "BROKEN: beyond the promise")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
