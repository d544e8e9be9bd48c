"""Images to latent codes.

usage: lsap-jax invert IMAGES ... --generator G --space f/z+ --out DIR [--config NAME|FILE] [--config.key=value ...]
                       [--align] [--engine local|ray]

IMAGES is a folder (searched through), a glob, files, @FILE (a list of them), or tfds:NAME/SPLIT. G is a bundled name, a
converted file, or an official checkpoint. DIR gets codes, pictures, curves, metrics.csv and report.html. Run the same
command again to finish an interrupted run.

Exit status: 0 all done, 1 some images failed (failures.jsonl says why), 2 unusable arguments, 130 after Ctrl-C, 143
after SIGTERM, which saves the batch under way when its chunk of steps is over.
"""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl.flags import FlagValues

from lsap_jax.cli import INCOMPLETE, INTERRUPTED, OK, TERMINATED, one_line
from lsap_jax.cli.arguments import Arguments, choice, configuration, literal, new_flags, number, switch, text
from lsap_jax.errors import LsapError
from lsap_jax.storage.shards import Shard, joined_shard, parse_shard

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from lsap_jax.data import Source
    from lsap_jax.models.generator import Generator
    from lsap_jax.runs.run import Summary

SHOWN_FAILURES = 5
AUTO = "auto"
EXACT = 1e-4  # rounding alone
FIRST = ("mse", "psnr", "ssim")


def flags() -> FlagValues:
    values = new_flags()
    text(values, "generator", "a bundled name, a converted file or an official checkpoint")
    text(
        values,
        "space",
        "z, z+, w, w+, s, p, pn, pn+, f/z, f/z+, f/w, f/w+, f/s, or a preset as f/z+:code (default: that of --config, "
        "else f/z+)",
    )
    text(values, "out", "folder of the run")
    text(values, "config", "name or file of a configuration (default: that of --space)")
    number(values, "steps", "short for --config.steps")
    text(
        values,
        "batch_size",
        "short for --config.batch_size, over all devices; auto is the largest that fits into their memory",
    )
    number(values, "seed", "short for --config.seed")
    text(
        values,
        "shard",
        "i/n: this process takes share i of n of the images, from 0; auto asks SLURM, Kubernetes or the TPU pod",
    )
    choice(
        values,
        "engine",
        ("local", "ray"),
        "local computes on the devices of this process; ray on those of a cluster (RAY_ADDRESS, or the one that this "
        "machine runs, else one of its own), every batch by an actor; this process then needs no accelerator",
        "local",
    )
    switch(values, "align", "short for --config.align: cut each picture to its face, as `lsap-jax align` does")
    number(values, "actors", "of --engine ray (default: one per GPU of the cluster, without GPUs one per node)")
    text(
        values,
        "init",
        "codes to start from: a file (.npy, .npz, .pt) in the order of the ids, a folder with a file per id, or a run",
    )
    choice(
        values, "init_kind", ("auto", "z", "w"), "what the codes of --init are; auto goes by the array's name", "auto"
    )
    text(values, "perceptual", "LPIPS weights that `lsap-jax convert` wrote")
    text(values, "basecode", "base-code encoder to use instead of the generator's own")
    text(values, "pnorm", "BDInvert's folder pnorm/NAME, to use instead of the generator's own statistics of P_N")
    return values


def run(args: Arguments) -> int:
    args.some("images")
    out, name = Path(args.required("out")), args.required("generator")
    config = choose_config(args)
    engine = choose_engine(args)
    shard = choose_shard(args)
    from lsap_jax.cli.runs import attached, images_of, prepared
    from lsap_jax.models.generator_file import load_generator

    G = prepared(attached(load_generator(name), config.init), config)
    source = images_of(args, G, config.fit, config.align)
    if args.flags.batch_size == AUTO:
        config.batch_size = fitting_batch(G, config, out, -(-len(source) // (shard.count if shard else 1)))
        print(f"batch size {config.batch_size}", file=sys.stderr)
    start = starts(args, G, source, config) if args.flags.init else None
    return invert(G, source, config, out, generator_name=name, start=start, shard=shard, **engine)


def choose_shard(args: Arguments) -> Shard | None:
    """The share of this process, if it has only one; on a TPU pod, all of them have met then."""
    asked = args.flags.shard
    if asked is None:
        return None
    return (joined_shard(os.environ) if asked == AUTO else None) or parse_shard(asked, os.environ)


def choose_engine(args: Arguments) -> dict[str, Any]:
    """`engine` and `actors` of `lsap_jax.runs.run.run`; with Ray, this process leaves accelerators to actors.

    Raises:
        LsapError: flags that do not go together.
    """
    engine, actors = args.flags.engine, args.flags.actors
    if engine == "local" and actors is not None:
        raise LsapError(f"--actors={actors}: is for --engine=ray")
    if engine == "ray":
        if args.flags.shard:
            raise LsapError(f"--shard={args.flags.shard}: --engine=ray shares the images out by itself; leave it away")
        if args.flags.batch_size == AUTO:
            raise LsapError("--batch_size=auto: looks at the devices of this process; give --engine=ray a number")
        import jax

        jax.config.update("jax_platforms", "cpu")
    return {"engine": engine, "actors": actors}


def choose_config(args: Arguments) -> "ConfigDict":
    """The configuration of `--config` or `--space`, with shorthands and the files named beside it.

    Raises:
        LsapError: a preset and a configuration at once, an unknown space, key or file.
    """
    space = args.flags.space
    shorthands: dict[str, Any] = {name: args.flags[name].value for name in ("steps", "seed")}
    if args.flags.batch_size != AUTO:
        shorthands["batch_size"] = args.flags.batch_size and literal("batch_size", args.flags.batch_size, 1)
    shorthands["perceptual.weights"] = args.flags.perceptual
    shorthands["align"] = args.flags.align if args.flags["align"].present else None
    if args.flags.config is not None and space is not None:
        if ":" in space:
            raise LsapError(f"--space={space} is a preset of its own; give it or --config")
        shorthands["space"] = space
    elif space is not None:
        from lsap_jax.spaces import parse_space

        parse_space(space)  # an unknown one is told by the spaces there are, not by the configurations
    config = configuration(args, space or "f/z+", shorthands, key="space")
    for name in ("basecode", "pnorm"):
        if args.flags[name].value:
            config.init[name] = args.flags[name].value
    return config


def fitting_batch(G: "Generator", config: "ConfigDict", out: Path, images: int) -> int:
    """The batch size that a run in `out` was begun with, so that its batches are formed again; else the largest that
    fits.
    """
    from lsap_jax.inversion.inverter import Inverter
    from lsap_jax.inversion.memory import largest_batch
    from lsap_jax.storage.results import read_run

    if (out / "run.json").is_file():
        return read_run(out)["config"]["batch_size"]
    return largest_batch(Inverter(G, config), images)


def starts(args: Arguments, G: "Generator", source: "Source", config: "ConfigDict") -> dict[str, dict[str, np.ndarray]]:
    """Codes of `--init` by id; their digest goes into the configuration, so that a resumed run starts from the same."""
    from lsap_jax.inversion.start import read_start, starting_codes
    from lsap_jax.rendering.render import space_of
    from lsap_jax.spaces import space_from_config
    from lsap_jax.storage.results import read_run
    from lsap_jax.storage.weights_file import digest

    space = space_from_config(config, G)
    kind, given = read_start(args.flags.init, source.ids, args.flags.init_kind)
    found_in = space_of(read_run(args.flags.init), G) if kind == "run" else None
    start, residuals = starting_codes(G, space, kind, given, found_in)
    config.init.codes = digest({f"{id}/{key}": a for id, code in given.items() for key, a in code.items()})
    if len(start) < len(source):
        print(
            f"{len(source) - len(start)} of {len(source)} images have no code in {args.flags.init} and start as usual",
            file=sys.stderr,
        )
    if residuals is not None and residuals.max() > EXACT:
        print(
            f"the codes are fitted by {space.name}: |ws - ws given| / |ws given - w_avg| is {residuals.mean():.3g} on "
            f"average, {residuals.max():.3g} at most",
            file=sys.stderr,
        )
    return start


def invert(
    G: "Generator",
    source: "Source",
    config: "ConfigDict",
    out: Path,
    *,
    generator_name: str,
    start: dict[str, dict[str, np.ndarray]] | None = None,
    shard: Shard | None = None,
    engine: str = "local",
    actors: int | None = None,
) -> int:
    """Runs with progress, writes the report, prints the summary; returns the exit status."""
    from lsap_jax.cli.progress import reporter
    from lsap_jax.inversion.inverter import Inverter
    from lsap_jax.inversion.memory import explained
    from lsap_jax.report.run_report import write_run_report
    from lsap_jax.runs.run import run as run_inversion
    from lsap_jax.storage.flight import Preempted
    from lsap_jax.storage.results import read_manifest

    options: dict[str, Any] = {"generator_name": generator_name, "start": start, "shard": shard}
    options |= {"engine": engine, "actors": actors}
    try:
        with reporter() as progress, terminated() as stop:
            options |= {"progress": progress, "stop": stop, "conclude": write_run_report}
            summary = run_inversion(G, source, config, out, **options)
    except Preempted as error:
        print(f"SIGTERM: {error}; run the same command again to go on from there", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        done = len(read_manifest(out)) if (out / "run.json").exists() else 0
        print(
            f"interrupted: {done} of {len(source)} images are finished in {out}; run the same command again to go on",
            file=sys.stderr,
        )
        return INTERRUPTED
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error) or config.batch_size == 1:
            raise
        raise explained(error, Inverter(G, config)) from error
    print_failures(out)
    print(summary_line(summary))
    print_report(summary)
    return INCOMPLETE if summary.failed else OK


def print_report(summary: Any) -> None:
    """Where the page is, or who writes it, and what no shard has done so far."""
    if not summary.whole:
        print("other shards are still at work; the last one writes the report")
        return
    print(f"report: {summary.out / 'report.html'}")
    if summary.left:
        print(
            f"{summary.left} images are still to be done, and no shard is at work; run the shards that are missing, or "
            "the same command without --shard",
            file=sys.stderr,
        )


@contextmanager
def terminated() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come meanwhile; a second one ends the process at once."""
    seen = threading.Event()

    def note(*_: Any) -> None:
        seen.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may listen
        yield seen.is_set
        return
    before = signal.signal(signal.SIGTERM, note)
    try:
        yield seen.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def print_failures(out: Path) -> None:
    """The first few images that could not be done, and why."""
    from lsap_jax.storage.results import read_failures

    failures = read_failures(out)
    for record in list(failures.values())[:SHOWN_FAILURES]:
        print(f"failed: {one_line(record['input'])}: {one_line(record['reason'])}", file=sys.stderr)
    if len(failures) > SHOWN_FAILURES:
        print(f"... and {len(failures) - SHOWN_FAILURES} more, in {out / 'failures.jsonl'}", file=sys.stderr)


def summary_line(summary: "Summary") -> str:
    """What came of a run, with the mean of every metric."""
    from lsap_jax.storage.results import read_manifest

    records = read_manifest(summary.out).values()
    sums, counts = Counter[str](), Counter[str]()
    for record in records:
        for name, value in record["metrics"].items():
            sums[name] += value  # type: ignore[assignment]
            counts[name] += 1
    names = sorted(counts, key=lambda name: (name not in FIRST, name))
    means = "  ".join(f"{name} {sums[name] / counts[name]:.4g}" for name in names)
    earlier = f", {summary.skipped} of them earlier" if summary.skipped else ""
    failed = f", {summary.failed} failed" if summary.failed else ""
    return f"{summary.done} images done{earlier}{failed}; means: {means or 'none'}"
