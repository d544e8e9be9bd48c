"""The device axis: every function of a batch runs over the local devices, through `pmap` on accelerators. Images are
independent, so no device waits for another.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding


def padded_size(batch_size: int, devices: Sequence[jax.Device]) -> int:
    """The smallest multiple of the number of devices that holds `batch_size` images."""
    return -(-batch_size // len(devices)) * len(devices)


def shard(tree: Any, devices: int) -> Any:
    """Leaves [B, ...] as [devices, B / devices, ...]."""
    return jax.tree.map(lambda a: a.reshape(devices, a.shape[0] // devices, *a.shape[1:]), tree)


def merge(tree: Any) -> Any:
    """The inverse of `shard`, on the host: leaves [devices, b, ...] as numpy arrays [devices · b, ...]."""
    return jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:]), tree)


def device_rows(devices: Sequence[jax.Device]) -> NamedSharding:
    """The sharding of arrays [devices, ...], one row per device."""
    return NamedSharding(Mesh(np.array(devices), ("devices",)), PartitionSpec("devices"))


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """A copy of every leaf on every device, with a leading device axis; done once per run, without a program."""
    rows = device_rows(devices)

    def copies(leaf: jax.Array | np.ndarray) -> jax.Array:
        whole = np.asarray(leaf)
        return jax.device_put(np.broadcast_to(whole, (len(devices), *whole.shape)), rows)

    return jax.tree.map(copies, tree)


def over_devices(
    function: Callable[..., Any], devices: Sequence[jax.Device], donate: tuple[int, ...] = ()
) -> Callable[..., Any]:
    """`function` of sharded and replicated arguments, run on all devices at once; buffers of the donated arguments
    are reused.
    """
    mapped = on_processors if devices[0].platform == "cpu" else on_accelerators
    return mapped(function, devices, donate)


def on_accelerators(
    function: Callable[..., Any], devices: Sequence[jax.Device], donate: tuple[int, ...] = ()
) -> Callable[..., Any]:
    """One program for all devices."""
    return jax.pmap(function, devices=devices, donate_argnums=donate)


def on_processors(
    function: Callable[..., Any], devices: Sequence[jax.Device], donate: tuple[int, ...] = ()
) -> Callable[..., Any]:
    """The program of one device, on each of them.

    XLA simplifies a program for several devices in other passes than one for one. What it fuses differs then, and with
    it the rounding, which steps amplify; so results would depend on the number of devices. Every device compiles the
    program for itself, as jax loads one only where it was compiled.
    """
    rows = device_rows(devices)

    def own(*arguments: Any) -> Any:
        return jax.tree.map(lambda a: jnp.expand_dims(a, 0), function(*jax.tree.map(lambda a: a[0], arguments)))

    places = [SingleDeviceSharding(device) for device in devices]
    programs = [jax.jit(own, donate_argnums=donate, in_shardings=at, out_shardings=at) for at in places]
    # Taking an array apart takes as long as starting a program on it. The weights are the same array in every call, and
    # the codes are what the call before returned, so the rows of both are known.
    known: dict[int, tuple[weakref.ref, Sequence[jax.Array]]] = {}

    def remember(whole: jax.Array, each: Sequence[jax.Array]) -> jax.Array:
        key = id(whole)
        known[key] = weakref.ref(whole, lambda _: known.pop(key, None)), each
        return whole

    def rows_of(leaf: Any) -> Sequence[jax.Array]:
        if (found := known.get(id(leaf))) is not None and found[0]() is leaf:
            return found[1]
        parts = {shard.device: shard.data for shard in jax.device_put(leaf, rows).addressable_shards}
        each = [parts[device] for device in devices]
        if isinstance(leaf, jax.Array) and leaf.sharding == rows:  # else these are copies, which may be donated
            remember(leaf, each)
        return each

    def run(*arguments: Any) -> Any:
        leaves, tree = jax.tree.flatten(arguments)
        each = list(zip(*map(rows_of, leaves), strict=True)) or [()] * len(devices)
        found = [program(*jax.tree.unflatten(tree, own)) for program, own in zip(programs, each, strict=True)]
        return jax.tree.map(lambda *parts: remember(_joined(parts, rows), parts), *found)

    return run


def _joined(parts: Sequence[jax.Array], rows: NamedSharding) -> jax.Array:
    """Parts [1, ...], one on each device, as one array [devices, ...]."""
    return jax.make_array_from_single_device_arrays((len(parts), *parts[0].shape[1:]), rows, list(parts))
