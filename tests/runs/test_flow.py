"""Converged images leave their batch and others take their places; each comes out as if it were alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsap_jax import invert
from lsap_jax.configuration import load_config
from lsap_jax.data import from_arrays
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Job
from lsap_jax.runs.flow import flow, is_done
from lsap_jax.runs.run import run
from lsap_jax.storage.flight import Preempted
from lsap_jax.storage.results import read_arrays, read_manifest
from lsap_jax.testing import tiny_images

JOBS = [Job(id=str(i), image=image) for i, image in enumerate(tiny_images(9))]
STEPS, CHUNK = 24, 5
LENGTHS = {5, 10, 15, 20, 25}  # of curves: 24 steps and the evaluation of the last codes, in five chunks


def make(G, batch_size, **overrides):
    config = load_config(
        "z+", {"steps": STEPS, "chunk": CHUNK, "batch_size": batch_size, "optimizer.lr": 0.05, **overrides}
    )
    return Inverter(G, config)


@pytest.fixture(scope="module")
def together(tiny):
    inverter = make(tiny, 9)
    return dict(zip([job.id for job in JOBS], inverter(JOBS), strict=True))


def assert_same(found, expected):
    assert found.metrics["mse"] == pytest.approx(expected.metrics["mse"], rel=1e-3)
    np.testing.assert_allclose(found.codes["z"], expected.codes["z"], atol=1e-3 * np.abs(expected.codes["z"]).max())


def test_a_flow_of_many_batches_is_those_batches(tiny, together):
    results = {job.id: result for job, result in flow(make(tiny, 4), JOBS)}
    assert results.keys() == together.keys()
    for id, result in results.items():
        assert len(result.curve["loss"]) == STEPS + 1
        assert_same(result, together[id])


@pytest.mark.slow
def test_early_leavers_end_where_they_would_alone(tiny, together):
    """Curves are beginnings of the whole ones, codes those of the best step on them, whoever was beside them."""
    patient = make(tiny, 4, **{"converge.patience": 5, "converge.tolerance": 0.1})
    told = []
    results = {job.id: result for job, result in flow(patient, JOBS, lambda *report: told.append(report))}
    lengths = {id: len(result.curve["loss"]) for id, result in results.items()}
    assert set(lengths.values()) <= LENGTHS and len(set(lengths.values())) > 1, lengths
    for id, result in results.items():
        whole = together[id].curve["loss"]
        np.testing.assert_allclose(result.curve["loss"], whole[: lengths[id]], rtol=1e-3)
        early = [is_done(whole[:n], STEPS, patient.config.converge) for n in sorted(LENGTHS)]
        assert sorted(LENGTHS)[early.index(True)] == lengths[id]
    alone = {
        job.id: result
        for job, result in flow(make(tiny, 1, **{"converge.patience": 5, "converge.tolerance": 0.1}), JOBS[:5])
    }
    for id, result in alone.items():
        assert len(result.curve["loss"]) == lengths[id]
        assert_same(results[id], result)
    chunks = sum(lengths.values()) / CHUNK
    assert len(told) < 9 / 4 * 5 + 1 and len(told) >= chunks / 4  # chunks run, against those of lock step and the least
    assert all(0 < step <= STEPS and steps == STEPS and np.isfinite(loss) for step, steps, loss in told)


def test_fewer_jobs_than_slots_and_none(tiny):
    inverter = make(tiny, 4)
    assert [job.id for job, _ in flow(inverter, JOBS[:1])] == ["0"]
    assert list(flow(inverter, [])) == []


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=30), st.integers(0, 12), st.floats(0, 0.5))
def test_when_an_image_is_done(losses, patience, tolerance):
    done = is_done(losses, 29, {"patience": patience, "tolerance": tolerance})
    if len(losses) == 30:
        assert done
    elif patience == 0 or len(losses) <= patience:
        assert not done
    else:
        assert done == (min(losses) >= (1 - tolerance) * min(losses[:-patience]))


def test_a_frozen_image_does_not_stay_for_ever():
    assert is_done([1.0, np.nan, np.nan, np.nan], 100, {"patience": 2, "tolerance": 0.0})
    assert not is_done([np.nan, np.nan, 3.0], 100, {"patience": 2, "tolerance": 0.0})


@pytest.mark.parametrize("options", [{"converge.patience": -1}, {"converge.tolerance": 1.0}, {"compute.together": -2}])
def test_impossible_options_are_refused(tiny, options):
    with pytest.raises(LsapError, match=r"converge|compute"):
        make(tiny, 1, **options)


def test_a_run_whose_images_leave_early(tiny, tmp_path, together):
    """The run folder of a flow has every image once, with the curves as far as they went, also after a stop."""
    options = {"steps": STEPS, "chunk": CHUNK, "batch_size": 2, "optimizer.lr": 0.05}
    config = load_config("z+", {**options, "converge.patience": 5, "converge.tolerance": 0.1})
    source = from_arrays(tiny_images(9), resolution=16, channels=3)
    told = []

    def go(stop=lambda: False):
        return run(tiny, source, config, tmp_path / "run", generator_name="tiny", progress=told.append, stop=stop)

    with pytest.raises(Preempted):
        go(lambda: any(p.done for p in told))
    first = read_manifest(tmp_path / "run")
    assert 0 < len(first) < 9
    summary = go()
    assert (summary.done, summary.failed, summary.skipped) == (9, 0, len(first))
    manifest = read_manifest(tmp_path / "run")
    assert manifest.keys() == together.keys() and told[-1].done == 9
    assert {id: manifest[id] for id in first} == first
    for id in manifest:
        curve = read_arrays(tmp_path / "run", id, "curves", manifest=manifest)["loss"]
        assert len(curve) in LENGTHS
        np.testing.assert_allclose(curve, together[id].curve["loss"][: len(curve)], rtol=1e-3)
    with pytest.raises(LsapError, match=r"converge.patience"):
        run(tiny, source, config, tmp_path / "ray", generator_name="tiny", engine="ray")


def test_arrays_whose_images_leave_early(tiny):
    options = {"optimizer.lr": 0.05, "chunk": CHUNK, "converge.patience": 5, "converge.tolerance": 0.1}
    found = invert(tiny, tiny_images(5), space="z+", steps=STEPS, batch_size=2, **options)
    assert found.ids == tuple("01234") and found.curves["loss"].shape == (5, STEPS + 1)
    ended = np.isnan(found.curves["loss"]).sum(axis=1)
    assert set(STEPS + 1 - ended) <= LENGTHS and ended.any()
