"""Edited images per second: codes moved along a direction and rendered, one picture at a time and many.

    python benchmarks/edits.py [--generator toonhead64] [--spaces f/z+ w+] [--batch 1 32] [--rounds 5]
    python benchmarks/edits.py --run RUN     # the whole command on a run, with reading, PNG, codes, strips and saving

Every round times all batch sizes, so that they share whatever else the machine does; medians are printed.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from lsap_jax.editing.edit_run import edit_run
from lsap_jax.editing.moves import move
from lsap_jax.editing.random import random_direction
from lsap_jax.editing.series import along
from lsap_jax.models.generator import Generator
from lsap_jax.models.generator_file import load_generator
from lsap_jax.rendering.render import renderer, space_of
from lsap_jax.spaces import Space, parse_space
from lsap_jax.spaces.feature import own_feature
from lsap_jax.storage.results import read_run

STRENGTHS = (-3.0, -1.5, 1.5, 3.0)
LEAST = 64  # edits in a timing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--spaces", nargs="+", default=["f/z+", "w+"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--run", help="time `lsap-jax edit` on this run instead")
    args = parser.parse_args()
    G = load_generator(args.generator)
    if args.run:
        whole_command(G, Path(args.run), args.batch)
        return
    for name in args.spaces:
        space = space_with_base(G, name)
        sides = {size: prepared(G, space, size) for size in args.batch}
        times: dict[int, list[float]] = {size: [] for size in args.batch}
        for _ in range(args.rounds):
            for size, side in sides.items():
                started = time.perf_counter()
                count = side()
                times[size].append((time.perf_counter() - started) / count)
        for size, seconds in times.items():
            print(f"{name:6} batch {size:3}: {1 / np.median(seconds):8.1f} edited images per second")


def space_with_base(G: Generator, name: str) -> Space:
    """The space, with the base resolution of the generator's encoder where it has f."""
    return parse_space(name, base_resolution=G.basecode.config.base_resolution if G.basecode else 16)


def prepared(G: Generator, space: Space, size: int) -> Callable[[], int]:
    """A function that edits a batch of `size` codes by every strength and returns how many edits that were."""
    rng = np.random.default_rng(0)
    codes = {space.detail.key: rng.standard_normal((size, *space.detail.shape(G)), dtype=np.float32)}
    if space.has_base:
        codes["f"] = np.repeat(np.asarray(own_feature(G, space.base_resolution)), size, axis=0)
    direction, draw = random_direction(G, space), renderer(G, space, size, jax.local_devices())
    repeats = max(1, LEAST // (size * len(STRENGTHS)))

    def once() -> int:
        for _ in range(repeats):
            for strength in STRENGTHS:
                draw(move(G, space, codes, direction, strength))
        return repeats * size * len(STRENGTHS)

    once()  # compiles
    return once


def whole_command(G: Generator, run: Path, batches: list[int]) -> None:
    """Edits of a run into a folder, with everything that the command does but its page."""
    space = space_of(read_run(run), G)
    series = [along(G, space, random_direction(G, space), (*STRENGTHS, 0.0))]
    for size in batches:
        with tempfile.TemporaryDirectory() as folder:
            edit_run(G, run, Path(folder) / "warm", series, batch_size=size)
            started = time.perf_counter()
            done = edit_run(G, run, Path(folder) / "out", series, batch_size=size).done
            seconds = time.perf_counter() - started
        edits = done * len(STRENGTHS)
        print(f"{space.name}, batch {size}: {edits / seconds:.1f} edited images per second, {edits} edits of {run}")


if __name__ == "__main__":
    main()
