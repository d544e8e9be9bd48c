"""The device axis."""

import jax
import numpy as np

from lsap_jax.rendering.devices import merge, over_devices, replicate, shard


def test_replicating_compiles_nothing():
    """A run copies its networks to the devices; a program for that would be compiled again by every call."""
    devices = jax.local_devices()[:2]
    tree = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "scale": jax.numpy.float32(2)}
    made = []

    def listen(event, _, **__):
        made.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        copies = replicate(tree, devices)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert not [event for event in made if "backend_compile" in event]
    assert copies["weight"].shape == (len(devices), 2, 3) and copies["weight"].sharding.device_set == set(devices)
    scaled = over_devices(lambda own, x: own["scale"] * x + own["weight"].sum(), devices)
    found = merge(scaled(copies, shard(np.arange(2.0, dtype=np.float32), len(devices))))
    np.testing.assert_array_equal(found, [15, 17])
