"""Images per second of e4e's encoder, beside our PyTorch form of it, and how long the device waits during a run.

    python benchmarks/encode.py [--batch 1 32] [--rounds 5] [--resolution 256] [--rows 18] [--no-torch]
    python benchmarks/encode.py --idle [--images 64] [--batch 8] [--side 1024] [--generator-resolution 256]

The first form runs the encoder with the random weights of the true shapes, the same on both sides, in turns within one
process, so that whatever else the machine does meets both; their codes are compared. The second encodes a folder of
random PNG pictures as `lsap-jax encode` does, and prints the share of the run, from the first batch's start to the last
one's end, in which the device was not computing, and why: waiting for pictures, or for anything else of the host.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=5, help="turns per variant")
    parser.add_argument("--resolution", type=int, default=256, help="of the encoder's images")
    parser.add_argument("--rows", type=int, default=18, help="of ws")
    parser.add_argument("--torch", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--idle", action="store_true", help="measure the run of a command instead")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=1024, help="of the pictures in files")
    parser.add_argument("--generator-resolution", type=int, default=256)
    return parser.parse_args()


def encoder(rows: int, side: int):
    """e4e's encoder with random weights that keep the scale of features."""
    import jax
    import jax.numpy as jnp

    from lsap_jax.models.psp import PspEncoder
    from lsap_jax.networks.psp import PspConfig, param_shapes

    config = PspConfig(num_ws=rows, progressive=True, input_resolution=side, filter="bilinear")
    rng = np.random.default_rng(0)

    def drawn(path, leaf) -> np.ndarray:
        name = path[-1].key
        if name in ("running_var", "weight") and leaf.ndim == 1:
            return rng.uniform(0.5, 1.0, leaf.shape).astype(np.float32)
        scale = np.sqrt(1 / max(np.prod(leaf.shape[:-1]), 1)) if leaf.ndim > 2 else 0.1
        return (rng.standard_normal(leaf.shape, np.float32) * scale).astype(np.float32)

    params = jax.tree_util.tree_map_with_path(drawn, param_shapes(config))
    return PspEncoder(config=config, params={"encoder": params, "w_avg": jnp.zeros((rows, config.w_dim))})


def compare(args: argparse.Namespace) -> None:
    import jax
    import jax.numpy as jnp

    from lsap_jax.testing import tiny_generator

    E, G = encoder(args.rows, args.resolution), tiny_generator(discriminator=False)  # its images are not looked at
    run = jax.jit(lambda E, x: E(x, G))
    E = jax.tree.map(jnp.asarray, E)
    rows = []
    for batch in args.batch:
        shape = (batch, args.resolution, args.resolution, 3)
        images = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
        runners: dict[str, Callable[[], np.ndarray]] = {"jax": lambda images=images: np.asarray(run(E, images))}
        if args.torch:
            import torch_encoder as other

            for name, last in (("torch", False), ("torch, channels last", True)):
                network = other.Encoder(E.params["encoder"], E.config, last)
                runners[name] = lambda network=network, images=images: network(images).numpy()
        codes = {name: one() for name, one in runners.items()}  # warms up
        for name, found in codes.items():
            print(
                f"batch {batch}, {name}: off by {np.abs(found - codes['jax']).max() / np.abs(codes['jax']).max():.1e}"
            )
        rows += rows_of(batch, measured(runners, args.rounds))
    print_table(rows, args.rounds)


def rows_of(batch: int, times: dict[str, list[tuple[float, float]]]) -> list[tuple]:
    """A row of the table for each variant's turns."""
    best = np.min([np.median(times[name], axis=0) for name in times if name != "jax"] or [[np.nan] * 2], axis=0)
    rows = []
    for name, t in times.items():
        median, wall = np.median(t, axis=0), [one[0] for one in t]
        rates = batch / np.array([median[0], max(wall), min(wall)])
        rows.append((batch, name, *rates, median[1] / batch, *(best / median)))
    return rows


def print_table(rows: list[tuple], rounds: int) -> None:
    """The rows of all batches."""
    print(
        f"\n| batch | variant | images a second, median of {rounds} | least | most | processor seconds an image "
        "| against the better torch, by the clock | by processor seconds |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for batch, name, *numbers in rows:
        print(f"| {batch} | {name} | " + " | ".join(f"{number:.3g}" for number in numbers) + " |")


def measured(runners: dict[str, Callable[[], np.ndarray]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds by the clock and of all processors that each turn took. Other work on the machine lengthens the former
    more than the latter.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, one in runners.items():
            started, used = time.perf_counter(), time.process_time()
            one()
            times[name].append((time.perf_counter() - started, time.process_time() - used))
    return times


class Watch:
    """Seconds by what the main thread of a run was at, each batch after the first, which compiles."""

    def __init__(self) -> None:
        self.spent = {"computing": 0.0, "waiting for pictures": 0.0}
        self.started = 0.0

    def timed(self, what: str, started: float) -> None:
        if self.started:
            self.spent[what] += time.perf_counter() - started

    def shares(self) -> dict[str, float]:
        """Share of the time since the first batch's end: each of those, and the rest (saving, forming batches)."""
        whole = time.perf_counter() - self.started
        found = {what: seconds / whole for what, seconds in self.spent.items()}
        return found | {"other work of the host": 1 - sum(found.values())}


class Watched:
    """A source whose stream is timed where it is waited for."""

    def __init__(self, source, watch: Watch) -> None:
        self.source, self.watch = source, watch

    def __getattr__(self, name: str):
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def stream(self, *args, **options) -> Iterator:
        found = self.source.stream(*args, **options)
        while True:
            started = time.perf_counter()
            one = next(found, None)
            self.watch.timed("waiting for pictures", started)
            if one is None:
                return
            yield one


def idle(args: argparse.Namespace) -> None:
    import step
    from PIL import Image

    from lsap_jax.configuration import load_config
    from lsap_jax.data import open_images
    from lsap_jax.runs import run as runs

    G = step.networks(args.generator_resolution, 16384)[0]
    E = encoder(G.num_ws, args.resolution)
    watch, call = Watch(), runs.InversionWorker.__call__

    def timed(worker, *rest, **options):
        started = time.perf_counter()
        found = call(worker, *rest, **options)
        watch.timed("computing", started)
        watch.started = watch.started or time.perf_counter()
        return found

    runs.InversionWorker.__call__ = timed
    config = load_config("encode", {"batch_size": args.batch[0]})
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        rng = np.random.default_rng(0)
        for k in range(args.images):
            levels = rng.integers(0, 256, (args.side // 4, args.side // 4, 3), np.uint8)
            Image.fromarray(levels).resize((args.side, args.side)).save(pictures / f"{k}.png")
        source = open_images(pictures, resolution=G.img_resolution, channels=3)
        named = runs.NamedEncoder("random", E)
        runs.run(G, Watched(source, watch), config, Path(folder) / "run", generator_name="random", encoder=named)
        shares = watch.shares()
    print(
        f"{args.images} PNG of {args.side} px, generator of {G.img_resolution} px, batches of {args.batch[0]}: "
        + ", ".join(f"{what} {share:.1%}" for what, share in shares.items())
        + f"; {(args.images - args.batch[0]) / (time.perf_counter() - watch.started):.2f} images a second"
    )


def versions(args: argparse.Namespace) -> str:
    """What is compared; `args.torch` becomes False where torch is not installed."""
    import jax

    found = f"jax {jax.__version__} on {jax.devices()[0].device_kind}"
    if args.torch:
        try:
            import torch

            found += f", torch {torch.__version__} with {torch.get_num_threads()} threads"
        except ImportError:
            args.torch = False
            print("torch is not installed: the JAX side alone")
    return found


def main() -> None:
    args = arguments()
    args.torch = args.torch and not args.idle
    print(f"{versions(args)}; load of the machine {os.getloadavg()[0]:.1f}")
    (idle if args.idle else compare)(args)


if __name__ == "__main__":
    main()
