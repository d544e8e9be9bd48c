"""Workers by their contract: what they describe, that another process makes the same one, and what they refuse."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from lsap_jax.configuration import load_config
from lsap_jax.data import from_arrays
from lsap_jax.errors import LsapError
from lsap_jax.inversion import memory
from lsap_jax.inversion.jobs import Job
from lsap_jax.runs.ray_engine import WorkerActor
from lsap_jax.runs.refining import Refining, RefiningWorker
from lsap_jax.runs.run import InversionWorker, NamedEncoder, describe_statistics, run
from lsap_jax.runs.shipping import sha256_of
from lsap_jax.runs.worker import Failed, Result
from lsap_jax.spaces import space_from_config
from lsap_jax.spaces.statistics import with_statistics
from lsap_jax.testing import ColourRefiner, colour_encoder, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
HOW = Refining(refiner=ColourRefiner(), record={"method": "colour"})
JOBS = [Job(id="a", image=tiny_images(3)[0]), None, Job(id="c", image=tiny_images(3)[2])]


@pytest.fixture(scope="module")
def worker(quick_compilation):
    """An encoder's worker, and a refiner's after it."""
    G = tiny_generator()
    config = load_config("encode", {"batch_size": 3})
    first = InversionWorker(G, config, encoder=NamedEncoder("e.safetensors", colour_encoder(G)), generator_name="tiny")
    return RefiningWorker(G, first.inverter.space, config, HOW, first=first)


@pytest.fixture(scope="module")
def outcomes(worker):
    return worker(JOBS)


def test_batches_are_filled_up_to_the_devices(worker):
    assert (worker.batch_size, len(worker.devices)) == (4, 2)  # three were asked for
    assert [list(batch) for batch in worker.batches(7)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_outcomes_are_in_the_order_of_the_jobs(outcomes):
    a, none, c = outcomes
    assert none is None and isinstance(a, Result) and isinstance(c, Result)
    assert set(a.parts) == {"codes", "images", "curves", "refined"} and np.isfinite(a.loss)
    assert not np.array_equal(a.parts["images"], c.parts["images"])


def test_a_refined_result_is_described_by_both(worker):
    described = worker.describe()
    assert described["refinement"] == {"method": "colour"} and described["steps"] == 0
    assert described["encoder"] == {"name": "e.safetensors", "sha256": sha256_of(worker.first.encoder.encoder)}
    assert described["generator"]["name"] == "tiny" and described["batch_size"] == 4


def test_another_process_makes_the_same_worker(worker, outcomes):
    actor, shipment = WorkerActor(), pickle.loads(pickle.dumps(worker.shipment()))
    assert actor.ready(shipment)["batch_size"] == worker.batch_size
    for found, expected in zip(actor.compute(shipment, JOBS), outcomes, strict=True):
        assert (found is None) == (expected is None)
        if expected is not None:
            assert found.metrics == expected.metrics
            for part in ("codes", "refined"):
                for name, array in expected.parts[part].items():
                    np.testing.assert_array_equal(found.parts[part][name], array)


def test_one_generator_goes_to_another_process_with_its_statistics(worker):
    assert worker.shipment().cargo.G is not None and worker.first is not None
    whole, first = (len(pickle.dumps(one.shipment())) for one in (worker, worker.first))
    assert whole < 1.1 * first
    G = with_statistics(tiny_generator(discriminator=False))
    config = load_config("pn+", {"batch_size": 2, "steps": 0})
    refining = RefiningWorker(G.without("statistics"), space_from_config(config, G), config, HOW)
    shipped = pickle.loads(pickle.dumps(refining.shipment())).cargo.G.statistics
    assert describe_statistics(shipped) == describe_statistics(G.statistics)


def test_what_is_not_finite_fails_alone(worker):
    refiner = replace(worker.how, refiner=ColourRefiner(share=float("inf")))
    broken = RefiningWorker(worker.G, worker.space, worker.config, refiner, first=worker.first)
    found = broken(JOBS)
    assert found[1] is None and all(isinstance(found[i], Failed) for i in (0, 2))


def test_images_that_leave_early_are_not_refined(tmp_path):
    source = from_arrays(tiny_images(2), resolution=16, channels=3)
    config = load_config("z+", {"steps": 2, "converge.patience": 5})
    with pytest.raises(LsapError, match="refinement computes whole batches: set converge.patience to 0"):
        run(tiny_generator(), source, config, tmp_path / "run", generator_name="tiny", how=HOW)
    assert not (tmp_path / "run").exists()


def test_the_program_of_a_refinement_reports_its_memory(worker):
    one, four = (memory.program_bytes(worker.program(count)) for count in (1, 4))
    assert 16 * 16 * 3 * 4 < one < four
