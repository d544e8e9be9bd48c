"""What it gains that converged images leave their batch, and what it costs in quality.

    python benchmarks/refill.py [IMAGES] [--space f/z+] [--steps 600] [--patience 50 100] [--tolerance 0.01 0.03]

All images once in lock step, then once per criterion with refilled slots, and the numbers of steps that they took.
Printed per criterion: the steps that images take (quartiles), the part of all image-steps that is computed, what
leaving without refilling would have computed (a batch ends with its last image), seconds against lock step, and what
becomes of the least loss and the MSE.
"""

import argparse
import time

import numpy as np

from lsap_jax.configuration import load_config
from lsap_jax.data import open_images
from lsap_jax.data.bundled import sample_images
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Inverted, Job
from lsap_jax.models.generator_file import load_generator
from lsap_jax.runs.flow import flow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", default=sample_images(), help="the bundled samples by default")
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--space", default="f/z+")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--chunk", type=int, default=25)
    parser.add_argument("--patience", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--tolerance", type=float, nargs="+", default=[0.01, 0.03])
    args = parser.parse_args()
    G = load_generator(args.generator)
    source = open_images(args.images, resolution=G.img_resolution, channels=G.img_channels)
    jobs = [Job(id=id, image=source.load(i).image) for i, id in enumerate(source.ids)]

    def go(patience: int, tolerance: float) -> tuple[list[Inverted], float, int]:
        """Results in the order of the jobs, seconds without compilation, and chunks computed."""
        options = {"steps": args.steps, "batch_size": args.batch_size, "chunk": args.chunk}
        more = {"converge.patience": patience, "converge.tolerance": tolerance}
        inverter = Inverter(G, load_config(args.space, options | more))
        list(
            flow(
                Inverter(G, load_config(args.space, options | {"converge.patience": 1, "converge.tolerance": 0.999})),
                jobs,
            )
        )
        chunks: list[int] = []
        started = time.perf_counter()
        found = {job.id: result for job, result in flow(inverter, jobs, lambda *_: chunks.append(inverter.length))}
        results = [found[job.id] for job in jobs]
        assert all(result is not None for result in results)
        return results, time.perf_counter() - started, sum(chunks) * inverter.batch_size  # type: ignore[return-value]

    whole, seconds, computed = go(0, 0.0)
    loss, mse = least(whole), np.array([result.metrics["mse"] for result in whole])
    print(
        f"{len(jobs)} images, {args.space}, {args.steps} steps, batches of {args.batch_size}; lock step {seconds:.1f} s"
    )
    print("| patience, tolerance | steps of an image | computed | without refilling | seconds | loss | MSE |")
    print("|---|---|---|---|---|---|---|")
    for patience in args.patience:
        for tolerance in args.tolerance:
            some, spent, done = go(patience, tolerance)
            taken = np.array([len(result.curve["loss"]) for result in some])
            batches = [taken[i : i + args.batch_size] for i in range(0, len(taken), args.batch_size)]
            lock = sum(batch.max() * args.batch_size for batch in batches)
            quartiles = ", ".join(f"{q:.0f}" for q in np.quantile(taken, (0, 0.25, 0.5, 0.75, 1)))
            worse = least(some).mean() / loss.mean()
            error = np.mean([result.metrics["mse"] for result in some]) / mse.mean()
            print(
                f"| {patience}, {tolerance} | {quartiles} | {done / computed:.2f} | {lock / computed:.2f} "
                f"| {spent / seconds:.2f} | {worse:.3f} | {error:.3f} |",
                flush=True,
            )


def least(results: list[Inverted]) -> np.ndarray:
    """Least loss of each image."""
    return np.array([np.nanmin(result.curve["loss"]) for result in results])


if __name__ == "__main__":
    main()
