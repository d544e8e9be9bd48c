"""The device axis: every function of a batch runs through `pmap` over the local devices. Images are independent, so
no device waits for another.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def padded_size(batch_size: int, devices: Sequence[jax.Device]) -> int:
    """The smallest multiple of the number of devices that holds `batch_size` images."""
    return -(-batch_size // len(devices)) * len(devices)


def shard(tree: Any, devices: int) -> Any:
    """Leaves [B, ...] as [devices, B / devices, ...]."""
    return jax.tree.map(lambda a: a.reshape(devices, a.shape[0] // devices, *a.shape[1:]), tree)


def merge(tree: Any) -> Any:
    """The inverse of `shard`, on the host: leaves [devices, b, ...] as numpy arrays [devices · b, ...]."""
    return jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:]), tree)


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """A copy of every leaf on every device, with a leading device axis; done once per run, without a program."""
    over = NamedSharding(Mesh(np.array(devices), ("devices",)), PartitionSpec("devices"))

    def copies(leaf: jax.Array | np.ndarray) -> jax.Array:
        whole = np.asarray(leaf)
        return jax.device_put(np.broadcast_to(whole, (len(devices), *whole.shape)), over)

    return jax.tree.map(copies, tree)


def over_devices(
    function: Callable[..., Any], devices: Sequence[jax.Device], donate: tuple[int, ...] = ()
) -> Callable[..., Any]:
    """`function` of sharded and replicated arguments, run on all devices at once; buffers of the donated arguments
    are reused.
    """
    return jax.pmap(function, devices=devices, donate_argnums=donate)
