"""Where the time of a run goes, and how runs scale over devices and processes.

    python benchmarks/throughput.py [IMAGES] [--steps 99] [--batch_size 8] [--devices 1 2 8] [--processes 1 2]

Every row is a run of `lsap_jax.runs.run` into a fresh folder, after one that compiles. Rows with several devices
divide the processor into so many (XLA_FLAGS), rows with several processes are shards at once. Printed: images per
second; the part of the time in which devices compute, and of that the part outside the steps (start and end of a
batch), per image against the 1200 steps of the paper; the time that the host needs to start a chunk, against the
chunk; how long a batch waits for images and for the disk.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lsap_jax.data.bundled import sample_images

PAPER_STEPS = 1200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", default=sample_images(), help="the bundled samples by default")
    parser.add_argument("--generator", default="toonhead64")
    parser.add_argument("--space", default="f/z+")
    parser.add_argument("--steps", type=int, default=99)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--processes", type=int, nargs="+", default=[2])
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measured(args, *map(int, args.child.split("/")))))
        return
    rows = [(1, n) for n in args.devices] + [(n, 1) for n in args.processes]
    print(
        "| processes | devices each | images per s | devices compute | outside the steps | start of a chunk | waits |"
    )
    print("|---|---|---|---|---|---|---|")
    for processes, devices in rows:
        found = run_children(processes, devices)
        rate = sum(f["images"] for f in found) / max(f["wall"] for f in found)
        total = {key: sum(f[key] for f in found) for key in found[0]}
        outside = (total["begin"] + total["end"]) / (total["advance"] * PAPER_STEPS / (args.steps + 1))
        print(
            f"| {processes} | {devices} | {rate:.3f} | {busy(total):.1%} | {outside:.2%} "
            f"| {total['dispatch'] / total['advance']:.2%} | {total['waits'] / total['wall']:.2%} |",
            flush=True,
        )


def busy(total: dict[str, float]) -> float:
    return (total["begin"] + total["advance"] + total["end"]) / total["wall"]


def run_children(processes: int, devices: int) -> list[dict[str, float]]:
    """What each of so many processes at once measured."""
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, *sys.argv]
    children = [
        subprocess.Popen([*command, f"--child={i}/{processes}"], env=environment, stdout=subprocess.PIPE, text=True)
        for i in range(processes)
    ]
    outputs = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise SystemExit("a run failed")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def measured(args: argparse.Namespace, index: int, count: int) -> dict[str, float]:
    """Seconds of one process's share, by where they go."""
    import jax

    from lsap_jax.configuration import load_config
    from lsap_jax.data import Source, open_images
    from lsap_jax.inversion.inverter import Inverter
    from lsap_jax.models.generator_file import load_generator
    from lsap_jax.runs.run import run
    from lsap_jax.runs.saving import Saver

    spent = dict.fromkeys(("begin", "advance", "end", "dispatch", "waits"), 0.0)

    def timed(owner: type, name: str, key: str) -> None:
        function = getattr(owner, name)

        def wrapper(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            found = function(*arguments, **options)
            if name == "advance":
                spent["dispatch"] += time.perf_counter() - started
            if owner is Inverter:
                jax.block_until_ready(jax.tree.leaves(found) if name != "end" else [])
            spent[key] += time.perf_counter() - started
            return found

        setattr(owner, name, wrapper)

    for name in ("begin", "advance", "end"):
        timed(Inverter, name, name)
    for name in ("collect", "settle"):
        timed(Saver, name, "waits")
    stream = Source.stream

    def waited(*arguments: Any, **options: Any) -> Any:
        items = stream(*arguments, **options)
        while True:
            started = time.perf_counter()
            item = next(items, None)
            spent["waits"] += time.perf_counter() - started
            if item is None:
                return
            yield item

    Source.stream = waited  # type: ignore[method-assign]
    G = load_generator(args.generator)
    config = load_config(args.space, {"steps": args.steps, "batch_size": args.batch_size})
    source = open_images(args.images, resolution=G.img_resolution, channels=G.img_channels)
    share = source.select([i for i in range(len(source)) if i // args.batch_size % count == index])
    with tempfile.TemporaryDirectory() as folder:
        # a batch is no larger than what there is to do, so one image would compile another program
        first = share.select(range(min(len(share), args.batch_size)))
        run(G, first, config, Path(folder) / "warm", generator_name=args.generator)
        spent.update(dict.fromkeys(spent, 0.0))
        started = time.perf_counter()
        run(G, share, config, Path(folder) / "run", generator_name=args.generator)
        return {"wall": time.perf_counter() - started, "images": len(share), **spent}


if __name__ == "__main__":
    main()
