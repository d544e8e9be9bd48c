"""Where a run stands: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from lsap_jax.runs.saving import Progress

SECONDS = 10.0  # between plain lines
QUIET = 3.0  # seconds that need no report


@contextmanager
def reporter(stream: TextIO | None = None) -> Iterator[Callable[["Progress"], None]]:
    """A listener for `run(progress=...)`; writes to stderr, so that the results can be piped elsewhere."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield Plain(stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.fields[text]}"), BarColumn(bar_width=None), TextColumn("{task.percentage:.0f} %"))
    with Bar(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("", total=1.0, text="starting")
        yield lambda p: bar.update(task, completed=fraction(p), text=line(p))


class Plain:
    """A line every ten seconds and one at the end, without control characters."""

    def __init__(self, stream: TextIO, seconds: float = SECONDS) -> None:
        self.stream, self.seconds, self.last = stream, seconds, -seconds

    def __call__(self, p: "Progress") -> None:
        now = time.monotonic()
        if now - self.last >= self.seconds or p.done + p.failed == p.total:
            self.last = now
            print(line(p), file=self.stream, flush=True)


def counter(what: str, quiet: float = QUIET, seconds: float = SECONDS) -> Callable[[int, int | None], None]:
    """A report, called with (done, total), that writes progress to stderr once the work takes longer than `quiet`
    seconds; a total of None is not known.
    """
    began = last = time.monotonic()

    def tell(done: int, total: int | None) -> None:
        nonlocal last
        now, line = time.monotonic(), f"{what}: {done:,}" + ("" if total is None else f" of {total:,}")
        if now - began < quiet:
            return
        if sys.stderr.isatty():
            print(f"\r{line}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done == total or now - last >= seconds:
            last = now
            print(line, file=sys.stderr, flush=True)

    return tell


def transfer(what: str) -> Callable[[int, int | None], None]:
    """A report, called with (bytes so far, bytes in all or None), that writes megabytes to stderr as `counter` does."""
    tell = counter(f"{what}, MB")
    return lambda done, total: tell(done // 10**6, None if total is None else total // 10**6)


def fraction(p: "Progress") -> float:
    """Share of the images that are over, 0 to 1."""
    return (p.done + p.failed) / max(p.total, 1)


def line(p: "Progress") -> str:
    """A progress report as text."""
    failed = f", {p.failed} failed" if p.failed else ""
    parts = [f"{p.done}/{p.total} images{failed}"]
    if not p.step and not p.done + p.failed:
        parts.append("compiling")
    if p.steps and p.done + p.failed < p.total:
        parts.append(f"step {p.step}/{p.steps}")
    if p.loss == p.loss:
        parts.append(f"loss {p.loss:.4g}")
    if p.images_per_second > 0:
        parts.append(f"{p.images_per_second:.3g} images/s")
    if p.eta_seconds is not None and p.done + p.failed < p.total:
        parts.append(f"{duration(p.eta_seconds)} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """90 as "1:30", 4000 as "1:06:40"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
