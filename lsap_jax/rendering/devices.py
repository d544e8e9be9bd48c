"""The device axis: every function of a batch runs through `pmap` over the local devices. Images are independent, so
no device waits for another.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np


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
    """A copy of every leaf on every device, with a leading device axis; done once per run."""
    copies = jax.pmap(lambda _, t: t, in_axes=(0, None), devices=devices)
    return copies(np.zeros(len(devices), np.float32), tree)


def over_devices(
    function: Callable[..., Any], devices: Sequence[jax.Device], donate: tuple[int, ...] = ()
) -> Callable[..., Any]:
    """`function` of sharded and replicated arguments, run on all devices at once; buffers of the donated arguments
    are reused.
    """
    return jax.pmap(function, devices=devices, donate_argnums=donate)
