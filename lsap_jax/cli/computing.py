"""The common parts of commands that compute image by image: shares, engines, signals, and the summary."""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from absl.flags import FlagValues

from lsap_jax.cli import INCOMPLETE, INTERRUPTED, OK, TERMINATED, one_line
from lsap_jax.cli.arguments import Arguments, choice, literal, number, text
from lsap_jax.errors import LsapError
from lsap_jax.storage.shards import Shard, joined_shard, parse_shard

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from lsap_jax.runs.work import Summary
    from lsap_jax.storage.run_folder import Conclude

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
        "local computes on this process's devices; ray on those of a cluster (RAY_ADDRESS, else one that runs on this "
        "machine, else a new one), each batch in an actor; this process then needs no accelerator",
        "local",
    )
    number(values, "actors", "actors of --engine ray (default: one per GPU of the cluster; without GPUs, one per node)")


def refine_flag(values: FlagValues) -> None:
    """Defines `--refine`, of `choose_method`, and `--masks`."""
    text(values, "refine", "also refine the codes by this method; `lsap-jax refine` refines a finished run")
    text(values, "masks", "folder of masks, ID.png, as for `lsap-jax refine`: for --refine, else for the loss")


class Chosen(NamedTuple):
    """A method of refinement, and those of its options that are given."""

    method: str
    options: dict[str, Any]


def without_method(args: Arguments) -> Arguments:
    """The arguments without `--config.refine.KEY=value`."""
    return replace(args, config={key: value for key, value in args.config.items() if not key.startswith("refine.")})


def second_stage(config: "ConfigDict") -> dict[str, Any]:
    """The method of refinement that a preset names, and its options, taken out of the configuration; {} if none."""
    if "refine" not in config:
        return {}
    found: dict[str, Any] = config.refine.to_dict()
    with config.unlocked():
        del config["refine"]
    return found


def choose_method(
    args: Arguments, flag: str = "refine", preset: Mapping[str, Any] | None = None
) -> tuple[Arguments, Chosen | None]:
    """The arguments without `--config.refine.KEY=value`, and the method that a flag or a preset names, if one does.

    Args:
        preset: of `second_stage`; the flag comes before it.

    Raises:
        LsapError: this version has no such method or option, an option has a wrong type, or there is no method for it.
    """
    from lsap_jax.refinement.methods import checked_options, find_method

    own = dict(preset or {})
    method = own.pop("method", None)
    name = args.flags[flag].value or method
    rest = without_method(args)
    given = {key: value for key, value in args.config.items() if key not in rest.config}
    if not name:
        for key in given:
            raise LsapError(f"--config.{key}: is an option of a method of refinement; name the method with --{flag}")
        return rest, None
    known = find_method(name).options
    texts = {key.removeprefix("refine."): value for key, value in given.items()}
    options = {
        key: literal(f"refine.{key}", value, known[key]) if key in known else value for key, value in texts.items()
    }
    return rest, Chosen(name, checked_options(name, {**(own if name == method else {}), **options}))


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


def take_over_threads(out: Path, file: str = "run.json") -> None:
    """Gives XLA the thread pool that the work in `out`, if there is any, was begun with; before a device is used.

    Args:
        file: in which the folder records its settings.
    """
    from lsap_jax.runs.processor import adopt_threads
    from lsap_jax.storage.checked_json import unsealed
    from lsap_jax.storage.inside import read_inside

    if (out / file).is_file():
        with suppress(ValueError, OSError, LsapError):  # a damaged record is told when the folder is opened
            adopt_threads(unsealed(read_inside(out, file))[0])


def computed(
    start: "Callable[..., Summary]",
    out: Path,
    images: int,
    *,
    page: "Conclude | None" = None,
    line: "Callable[[Summary], str] | None" = None,
    finished: "Callable[[Path], Sized] | None" = None,
    last: str = "the report",
) -> int:
    """Runs with progress, writes the report, prints the summary; returns the exit status.

    Args:
        start: takes `progress`, `stop` and `conclude` of `lsap_jax.runs.work.work`.
        out: the folder of results.
        images: how many there are.
        page: writes the report, if there is one.
        line: the outcome in one line; that of a run by default.
        finished: the images that are done, from the folder; those of its manifest by default.
        last: what the last of several shards writes.
    """
    from lsap_jax.cli.progress import reporter
    from lsap_jax.storage.flight import Preempted
    from lsap_jax.storage.results import read_manifest

    try:
        with reporter() as progress, terminated() as stop:
            summary = start(progress=progress, stop=stop, conclude=page)
    except Preempted as error:
        print(f"SIGTERM: {error}; run the same command again to go on from there", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        done = len((finished or read_manifest)(out))
        print(
            f"interrupted: {done} of {images} images are finished in {out}; run the same command again to go on",
            file=sys.stderr,
        )
        return INTERRUPTED
    print_failures(out)
    print((line or summary_line)(summary))
    if not summary.whole:
        print(f"other shards are still at work; the last one writes {last}")
    elif page is not None:
        print(f"report: {out / 'report.html'}")
    if summary.left:
        print(
            f"{summary.left} images are still to be done, and no shard is at work; run the missing shards, or "
            "the same command without --shard",
            file=sys.stderr,
        )
    return INCOMPLETE if summary.failed else OK


def beside_done(summary: "Summary") -> str:
    """How many of the images were done earlier and how many failed, to come after the number of those that are done."""
    earlier = f", {summary.skipped} of them earlier" if summary.skipped else ""
    return earlier + (f", {summary.failed} failed" if summary.failed else "")


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
    return f"{summary.done} images done{beside_done(summary)}; means: {means or 'none'}"
