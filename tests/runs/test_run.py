"""A run between who computes and what is written: results in any order, writes beside the computing, errors of both."""

import threading
from dataclasses import replace

import pytest

from lsap_jax.configuration import load_config
from lsap_jax.data import ImageError, from_arrays
from lsap_jax.errors import LsapError
from lsap_jax.runs.run import run
from lsap_jax.runs.stream import Computed, Engine
from lsap_jax.storage.flight import Preempted
from lsap_jax.storage.results import read_failures, read_manifest
from lsap_jax.storage.run_folder import RunFolder
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
COUNT = 7
DEADLINE = 60.0  # seconds after which something hangs


@pytest.fixture(scope="module")
def problem(quick_compilation):
    """A generator, a source with one image that cannot be used, and a configuration: four batches."""
    source = from_arrays(tiny_images(COUNT), None, resolution=16, channels=3)

    def read(index):
        if index == 3:
            raise ImageError("broken")
        return whole(index)

    whole, source = source.read, replace(source, read=read)
    return tiny_generator(discriminator=False), source, load_config("z+", {"steps": 2, "batch_size": 2})


@pytest.fixture(scope="module")
def alone(problem, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    assert invert(problem, out).done == COUNT - 1
    return out


def invert(problem, out, **options):
    G, source, config = problem
    return run(G, source, config, out, generator_name="tiny", **options)


def tree(folder):
    files = (p for part in ("codes", "images", "targets", "curves") for p in (folder / part).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in [*files, folder / "metrics.csv"]}


def engine(patch, compute):
    """Runs are computed by `compute(worker, batches, run, report, stop)`."""

    def build(worker):
        return Engine(worker=worker, compute=lambda *arguments: compute(worker, *arguments))

    patch.setattr("lsap_jax.runs.work.local", build)


def test_results_come_in_any_order_and_in_any_part(problem, alone, tmp_path, monkeypatch):
    heard = []

    def backwards(worker, batches, run, report, stop):
        whole = [(batch, worker(batch.jobs)) for batch in batches]
        for batch, results in reversed(whole):
            for i in reversed(range(len(results))):
                yield Computed(batch=batch.pick([i]), results=[results[i]])
        yield Computed(batch=whole[0][0], results=whole[0][1])  # once more changes nothing

    engine(monkeypatch, backwards)
    summary = invert(problem, tmp_path / "run", progress=heard.append)
    assert (summary.done, summary.failed) == (COUNT - 1, 1)
    assert tree(tmp_path / "run") == tree(alone) and set(read_failures(tmp_path / "run")) == {"3"}
    assert (heard[-1].done, heard[-1].failed, heard[-1].total) == (COUNT - 1, 1, COUNT)
    assert [p.done for p in heard] == sorted(p.done for p in heard)


def test_a_batch_is_written_while_the_next_one_is_computed(problem, alone, tmp_path, monkeypatch):
    """The write of the first batch ends no sooner than the second is computed; its flight stays until then."""
    second, original = threading.Event(), RunFolder.write
    flights = [tmp_path / f"flight{i}" for i in range(4)]

    def write(folder, id, **parts):
        if id in "01":
            assert second.wait(DEADLINE)
        original(folder, id, **parts)

    def compute(worker, batches, run, report, stop):
        for k, batch in enumerate(batches):
            if k == 1:
                assert flights[0].is_dir() and not (run / "manifest.jsonl").exists()
                second.set()
            if k == 2:  # one batch at most is waiting
                assert set(read_manifest(run)) >= {"0", "1"} and not flights[0].exists()
            flights[k].mkdir()
            yield Computed(batch=batch, results=worker(batch.jobs), flight=flights[k])

    monkeypatch.setattr(RunFolder, "write", write)
    engine(monkeypatch, compute)
    assert invert(problem, tmp_path / "run").done == COUNT - 1
    assert tree(tmp_path / "run") == tree(alone) and not any(flight.exists() for flight in flights)


def test_a_failed_write_is_told_while_the_next_batch_is_computed(problem, alone, tmp_path, monkeypatch):
    told, original = threading.Event(), RunFolder.write
    flight = tmp_path / "flight"
    flight.mkdir()

    def write(folder, id, **parts):
        if id == "0":
            told.set()
            raise LsapError("no space left")
        original(folder, id, **parts)

    def compute(worker, batches, run, report, stop):
        first = next(batches)
        yield Computed(batch=first, results=worker(first.jobs), flight=flight)
        assert told.wait(DEADLINE)
        next(batches)
        for _ in range(1000):  # the future is done a moment after the write
            report(1, 2, 0.0)
            told.clear()
            told.wait(0.01)
        pytest.fail("the run goes on")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write", write)
        engine(patch, compute)
        with pytest.raises(LsapError, match="no space left"):
            invert(problem, tmp_path / "run")
    assert set(read_manifest(tmp_path / "run")) == {"1"} and flight.exists()
    assert invert(problem, tmp_path / "run").skipped == 1
    assert tree(tmp_path / "run") == tree(alone)


@pytest.mark.parametrize("error", [Preempted("stopped"), RuntimeError("broken")])
def test_what_is_computed_is_saved_whatever_ends_the_run(problem, tmp_path, monkeypatch, error):
    def compute(worker, batches, run, report, stop):
        batch = next(batches)
        yield Computed(batch=batch, results=worker(batch.jobs))
        raise error

    engine(monkeypatch, compute)
    with pytest.raises(type(error), match=str(error)):
        invert(problem, tmp_path / "run")
    assert set(read_manifest(tmp_path / "run")) == {"0", "1"}

    def write(folder, id, **parts):
        raise LsapError("no space left")

    monkeypatch.setattr(RunFolder, "write", write)
    with pytest.raises(LsapError, match="no space left"):  # is told before what else went wrong
        invert(problem, tmp_path / "other")
