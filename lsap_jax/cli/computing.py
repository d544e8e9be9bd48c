"""The common parts of commands that compute image by image: shares, engines, signals, and the summary."""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from lsap_jax.cli import INCOMPLETE, INTERRUPTED, OK, TERMINATED, one_line
from lsap_jax.cli.arguments import Arguments, choice, number, text
from lsap_jax.errors import LsapError
from lsap_jax.storage.shards import Shard, joined_shard, parse_shard

if TYPE_CHECKING:
    from lsap_jax.runs.work import Summary

AUTO = "auto"
SHOWN_FAILURES = 5
FIRST = ("mse", "psnr", "ssim")


def share_flags(values: FlagValues) -> None:
    """Defines the flags of a share, of `choose_shard`."""
    text(
        values,
        "shard",
        "i/n: this process takes share i of n of the images, i from 0; auto asks SLURM, Kubernetes or the TPU pod",
    )


def engine_flags(values: FlagValues) -> None:
    """Defines the flags of a share and of an engine, of `choose_engine`."""
    share_flags(values)
    choice(
        values,
        "engine",
        ("local", "ray"),
        "local computes on the devices of this process; ray on those of a cluster (RAY_ADDRESS, or the one that this "
        "machine runs, else one of its own), every batch by an actor; this process then needs no accelerator",
        "local",
    )
    number(values, "actors", "of --engine ray (default: one per GPU of the cluster, without GPUs one per node)")


def refine_flag(values: FlagValues) -> None:
    """Defines `--refine`, of `choose_method`."""
    text(values, "refine", "refine the codes by this method, too; `lsap-jax refine` refines a run that is finished")


def choose_method(args: Arguments) -> str | None:
    """The method of `--refine`, if one is named.

    Raises:
        LsapError: this version has no such method.
    """
    from lsap_jax.refinement.methods import find_method

    if args.flags.refine:
        find_method(args.flags.refine)  # before anything is loaded
    return args.flags.refine  # type: ignore[no-any-return]


def choose_shard(args: Arguments) -> Shard | None:
    """The share of this process; None computes everything. On a TPU pod it first waits for all processes."""
    asked = args.flags.shard
    if asked is None:
        return None
    return (joined_shard(os.environ) if asked == AUTO else None) or parse_shard(asked, os.environ)


def choose_engine(args: Arguments) -> dict[str, Any]:
    """`engine` and `actors` of `lsap_jax.runs.run.run`; with Ray, this process leaves accelerators to actors.

    Raises:
        LsapError: the flags do not fit together.
    """
    engine, actors = args.flags.engine, args.flags.actors
    if engine == "local" and actors is not None:
        raise LsapError(f"--actors={actors}: is for --engine=ray")
    if engine == "ray":
        if args.flags.shard:
            raise LsapError(f"--shard={args.flags.shard}: --engine=ray distributes the images; leave --shard out")
        if args.flags.batch_size == AUTO:
            raise LsapError("--batch_size=auto: looks at the devices of this process; give --engine=ray a number")
        import jax

        jax.config.update("jax_platforms", "cpu")
    return {"engine": engine, "actors": actors}


def take_over_threads(out: Path) -> None:
    """Gives XLA the thread pool that the run in `out`, if there is one, was begun with; before a device is used."""
    from lsap_jax.runs.processor import adopt_threads
    from lsap_jax.storage.results import read_run

    if (out / "run.json").is_file():
        adopt_threads(read_run(out))


def computed(start: "Callable[..., Summary]", out: Path, images: int) -> int:
    """Runs with progress, writes the report, prints the summary; returns the exit status.

    Args:
        start: takes `progress`, `stop` and `conclude` of `lsap_jax.runs.work.work`.
        out: the run folder.
        images: how many there are.
    """
    from lsap_jax.cli.progress import reporter
    from lsap_jax.report.run_report import write_run_report
    from lsap_jax.storage.flight import Preempted
    from lsap_jax.storage.results import read_manifest

    try:
        with reporter() as progress, terminated() as stop:
            summary = start(progress=progress, stop=stop, conclude=write_run_report)
    except Preempted as error:
        print(f"SIGTERM: {error}; run the same command again to go on from there", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        done = len(read_manifest(out)) if (out / "run.json").exists() else 0
        print(
            f"interrupted: {done} of {images} images are finished in {out}; run the same command again to go on",
            file=sys.stderr,
        )
        return INTERRUPTED
    print_failures(out)
    print(summary_line(summary))
    print_report(summary)
    return INCOMPLETE if summary.failed else OK


def print_report(summary: Any) -> None:
    """Prints where the page is, or that another shard writes it, and how many images no shard has done so far."""
    if not summary.whole:
        print("other shards are still at work; the last one writes the report")
        return
    print(f"report: {summary.out / 'report.html'}")
    if summary.left:
        print(
            f"{summary.left} images are still to be done, and no shard is at work; run the missing shards, or "
            "the same command without --shard",
            file=sys.stderr,
        )


@contextmanager
def terminated() -> Iterator[Callable[[], bool]]:
    """A function that returns whether SIGTERM has come; a second SIGTERM ends the process at once."""
    seen = threading.Event()

    def note(*_: Any) -> None:
        seen.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield seen.is_set
        return
    before = signal.signal(signal.SIGTERM, note)
    try:
        yield seen.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def print_failures(out: Path) -> None:
    """Prints the first few images that have failed, and why."""
    from lsap_jax.storage.results import read_failures

    failures = read_failures(out)
    for record in list(failures.values())[:SHOWN_FAILURES]:
        print(f"failed: {one_line(record['input'])}: {one_line(record['reason'])}", file=sys.stderr)
    if len(failures) > SHOWN_FAILURES:
        print(f"... and {len(failures) - SHOWN_FAILURES} more, in {out / 'failures.jsonl'}", file=sys.stderr)


def summary_line(summary: "Summary") -> str:
    """The outcome of a run in one line, with the mean of every metric."""
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
