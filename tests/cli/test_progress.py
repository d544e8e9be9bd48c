"""Progress on stderr."""

import io

from lsap_jax.cli import progress
from lsap_jax.runs import saving


def test_progress_is_shown_once_it_takes_time(monkeypatch):
    now, screen = [0.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.sys, "stderr", screen)
    tell = progress.counter("samples")
    for now[0], done in ((1.0, 10), (5.0, 20), (11.0, 1500), (12.0, 1600), (13.0, 2000)):
        tell(done, 2000)
    assert screen.getvalue() == "samples: 1,500 of 2,000\nsamples: 2,000 of 2,000\n"
    screen.isatty = lambda: True
    tell(1700, 2000)
    assert screen.getvalue().endswith("\rsamples: 1,700 of 2,000")
    quick = progress.counter("samples")
    quick(2000, 2000)
    assert screen.getvalue().count("2,000 of") == 1


def test_transfers_are_told_in_megabytes(monkeypatch):
    now, screen = [0.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.sys, "stderr", screen)
    known, unknown = progress.transfer("fetching x.pt"), progress.transfer("fetching y.pt")
    for now[0], done in ((1.0, 10**6), (11.0, 150 * 10**6), (12.0, 381_000_000)):
        known(done, 381_000_000)
    now[0] = 30.0
    unknown(5_500_000, None)
    assert screen.getvalue().splitlines() == [
        "fetching x.pt, MB: 150 of 381", "fetching x.pt, MB: 381 of 381", "fetching y.pt, MB: 5",
    ]  # fmt: skip


def test_time_left_leaves_compilation_out(monkeypatch):
    """Two batches of two images, each in two chunks: 40 s of compilation, then 5 s for half of a batch."""
    now, told = [0.0], []
    monkeypatch.setattr(saving.time, "monotonic", lambda: now[0])
    clock = saving.Clock(total=4, done=0, report=told.append)
    clock.begin(2)
    assert progress.line(told[-1]) == "0/4 images  compiling" and told[-1].eta_seconds is None
    for now[0], step in ((40.0, 50), (45.0, 100)):
        clock.chunk(step, 100, 1.0)
    assert told[-2].eta_seconds is None and told[-1].eta_seconds == 10.0  # two images are left, at 0.2 a second
