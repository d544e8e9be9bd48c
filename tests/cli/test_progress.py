"""Progress on stderr."""

import io

from lsap_jax.cli import progress


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
