"""Batches of the size that there is work for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lsap_jax
from lsap_jax.configuration import load_config
from lsap_jax.data import from_arrays
from lsap_jax.inversion import inverter as batching
from lsap_jax.inversion.jobs import batches_of, even_size
from lsap_jax.runs.run import run
from lsap_jax.storage.results import read_run
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")


@given(st.integers(1, 100), st.integers(1, 5000))
def test_batches_are_as_few_and_as_even_as_they_can_be(size, count):
    even = even_size(size, count)
    before, after = (list(batches_of(count, n)) for n in (size, even))
    assert even <= min(size, count) and len(after) == len(before)
    assert [i for batch in after for i in batch] == list(range(count))
    assert len(after) * even - count < len(after), "fewer places are empty than there are batches"
    assert even_size(even, count) == even, "a run that goes on has the same batches"
    assert even == 1 or len(list(batches_of(count, even - 1))) > len(after)


def test_what_is_no_size_is_left_to_the_checks():
    assert even_size(0, 3) == 0 and even_size(-1, 3) == -1 and even_size(4, 0) == 4


@pytest.mark.parametrize(("count", "size", "places"), [(1, 16, [2]), (9, 8, [6, 6])])
def test_accelerators_compute_hardly_more_than_there_is_to_do(tmp_path, monkeypatch, count, size, places):
    """Whole batches, as there, over two devices; every place of a batch costs a step. One program does them all."""
    computed, traced = [], []

    def step(*arguments, **options):
        traced.append(1)
        return chunk(*arguments, **options)

    def advance(self, jobs, state, targets):
        computed.append(state.step.size)
        return taken(self, jobs, state, targets)

    chunk, taken = batching.loop.chunk, batching.Inverter.advance
    monkeypatch.setattr(batching.loop, "chunk", step)
    monkeypatch.setattr(batching.Inverter, "advance", advance)
    options = {"steps": 2, "batch_size": size, "compute.together": 0, "perceptual.network": "none"}
    G, images = tiny_generator(discriminator=False), tiny_images(count)
    batching.compiled.cache_clear()
    config = load_config("w", options)
    summary = run(G, from_arrays(images, None, resolution=16, channels=3), config, tmp_path, generator_name="tiny")
    batching.compiled.cache_clear()
    assert summary.done == count and computed == places and len(traced) == 1
    assert read_run(tmp_path)["config"]["batch_size"] == -(-count // len(places)) and config.batch_size == size
    computed.clear()
    inv = lsap_jax.invert(G, images, "w", **options)
    batching.compiled.cache_clear()
    assert computed == places and np.isfinite(inv.metrics["mse"]).all()
