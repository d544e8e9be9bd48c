"""The device axis."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsap_jax.rendering.devices import merge, on_accelerators, on_processors, over_devices, replicate, shard


@contextmanager
def compilations() -> Iterator[list[str]]:
    """One event for every program that is compiled meanwhile."""
    made: list[str] = []

    def listen(event, _, **__):
        if "backend_compile" in event:
            made.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield made
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_replicating_compiles_nothing():
    """A run copies its networks to the devices; a program for that would be compiled again by every call."""
    devices = jax.local_devices()[:2]
    tree = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "scale": jax.numpy.float32(2)}
    with compilations() as made:
        copies = replicate(tree, devices)
    assert not made
    assert copies["weight"].shape == (len(devices), 2, 3) and copies["weight"].sharding.device_set == set(devices)
    scaled = over_devices(lambda own, x: own["scale"] * x + own["weight"].sum(), devices)
    found = merge(scaled(copies, shard(np.arange(2.0, dtype=np.float32), len(devices))))
    np.testing.assert_array_equal(found, [15, 17])


@pytest.mark.parametrize("mapped", [on_processors, on_accelerators])
def test_every_device_computes_its_part(mapped):
    """Trees, numbers, several shapes, and buffers that may be reused."""
    devices = jax.local_devices()[:2]
    compute = mapped(lambda own, x, n: {"y": own * x + n, "n": (n, x.sum())}, devices, donate=(1,))
    own = replicate(np.float32(3), devices)
    for width in (2, 5, 2):
        x = np.arange(2.0 * width, dtype=np.float32).reshape(2, width)
        given = replicate(np.zeros(width, np.float32), devices) + x
        found = compute(own, given, np.array([1, 10], np.int32))
        np.testing.assert_array_equal(found["y"], 3 * x + [[1], [10]])
        np.testing.assert_array_equal(found["n"][0], [1, 10])
        np.testing.assert_array_equal(found["n"][1], x.sum(1))
        assert found["y"].sharding.device_set == set(devices)
        assert given.is_deleted()


def test_processors_run_the_program_of_one():
    """Each compiles its own, and has the bits that it has alone."""
    both = jax.local_devices()[:2]

    def function(x):
        return jax.lax.fori_loop(0, 30, lambda _, x: jnp.sin(3 * x @ x.T) @ x / 7, x)

    x = np.random.default_rng(0).standard_normal((2, 9, 9), np.float32)
    with compilations() as made:
        together = np.asarray(on_processors(function, both)(x))
    assert len(made) == len(both)
    for i, device in enumerate(both):
        np.testing.assert_array_equal(on_processors(function, [device])(x[i : i + 1])[0], together[i])


def test_programs_go_when_jax_clears_its_caches():
    """A process has room for so many programs: each takes mappings of memory, whose number the system limits."""
    both = jax.local_devices()[:2]
    compute, x = on_processors(lambda x: 2 * x, both), np.ones((2, 3), np.float32)
    for cleared, count in ((False, 2), (False, 0), (True, 2)):
        if cleared:
            jax.clear_caches()
        with compilations() as made:
            compute(x)
        assert len(made) == count


def test_arrays_are_taken_apart_once():
    """The weights and what a call returned keep their rows for the next one, and nothing longer than they live."""
    both = jax.local_devices()[:2]
    compute = on_processors(lambda own, x: own + x, both, donate=(1,))
    own, x = replicate(np.float32(3), both), shard(np.arange(4, dtype=np.float32), 2)
    taken = []
    rows = type(own).addressable_shards

    def counted(array):
        taken.append(array)
        return rows.fget(array)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(own), "addressable_shards", property(counted))
        for _ in range(3):
            x = compute(own, x)
    assert len(taken) == 2  # the weights, and the first x
    np.testing.assert_array_equal(x, [[9, 10], [11, 12]])
    again = compute(own, x)
    with pytest.raises((RuntimeError, ValueError), match="deleted|donated"):
        compute(own, x)
    np.testing.assert_array_equal(again, [[12, 13], [14, 15]])
    elsewhere = jnp.arange(4.0).reshape(2, 2)  # on one device: copies of it are donated, not itself
    for _ in range(2):
        np.testing.assert_array_equal(compute(own, elsewhere), [[3, 4], [5, 6]])
    taken.clear()
    before = len(jax.live_arrays())
    del own, x, again
    assert len(jax.live_arrays()) <= before - 2
