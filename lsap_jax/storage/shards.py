"""Shards of a run for several processes that do not communicate.

Batches are numbered over the whole list of images; shard i of n takes the batches whose number is i modulo n. So a
batch has the same images, and gives the same bytes, whatever n is.

If the platform demands it (a TPU pod, or JAX_COORDINATOR_ADDRESS is set), the processes join `jax.distributed` and take
rank and count from there. Each process still computes on its own devices alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsap_jax.errors import LsapError

# Launchers' variables for (rank, count, smallest rank); the first that is set wins. A Kubernetes indexed job does not
# tell its pods how many they are: set JOB_COMPLETIONS in its specification.
LAUNCHERS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("SLURM_PROCID", "SLURM_NTASKS", None),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", None),
    ("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES", None),
)
COORDINATOR = "JAX_COORDINATOR_ADDRESS"
JOINED = ("JAX_PROCESS_ID", "JAX_NUM_PROCESSES", None)
LAST_ONE = 7 * 24 * 3600  # seconds that a finished process waits for the others, as jax ends all together


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Share `index` of `count`, counted from 0."""

    index: int
    count: int

    @property
    def name(self) -> str:
        """For file names: "0-of-8"."""
        return f"{self.index}-of-{self.count}"

    def owns(self, batch: int) -> bool:
        """Whether batch number `batch` of the whole run is of this share."""
        return batch % self.count == self.index


def parse_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """The shard of "i/n", or of "auto", which reads the launcher's variables.

    Raises:
        LsapError: the text is neither, i is not from 0 to n - 1, or no launcher states rank and count.
    """
    if text == "auto":
        return _of_launcher(environment)
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise LsapError(f"--shard={text}: give i/n, shares counted from 0 (0/8 to 7/8), or auto")
    return _shard(int(match[1]), int(match[2]), f"--shard={text}")


def joined_shard(environment: Mapping[str, str]) -> Shard | None:
    """Joins `jax.distributed` if this process has to, and returns its shard; None if it does not have to.

    Call it before anything touches a device.

    Raises:
        LsapError: rank and count are unknown, or the other processes do not answer.
    """
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "").split(",")
    if COORDINATOR not in environment and len(hosts) < 2:
        return None
    import jax

    told: dict[str, Any] = {}
    if COORDINATOR in environment:
        known = _read(environment, [JOINED, *LAUNCHERS])
        if known is not None:
            told = {"num_processes": known.count, "process_id": known.index}
    try:
        jax.distributed.initialize(shutdown_timeout_seconds=LAST_ONE, **told)
        return Shard(index=jax.process_index(), count=jax.process_count())
    except (RuntimeError, ValueError) as error:
        raise LsapError(
            f"--shard=auto: jax.distributed did not start ({error}); set {COORDINATOR}, {JOINED[1]} and {JOINED[0]} of "
            "every process, start all of them, or give --shard=i/n"
        ) from error


def _of_launcher(environment: Mapping[str, str]) -> Shard:
    shard = _read(environment, LAUNCHERS)
    if shard is None:
        known = ", ".join(rank for rank, _, _ in LAUNCHERS)
        raise LsapError(f"--shard=auto: no launcher's variable is set ({known}); give --shard=i/n")
    return shard


def _read(environment: Mapping[str, str], launchers: Sequence[tuple[str, str, str | None]]) -> Shard | None:
    for rank, count, least in launchers:
        if rank not in environment:
            continue
        if count not in environment:
            raise LsapError(f"--shard=auto: {rank} is set and {count} is not; set {count}, or give --shard=i/n")
        number = environment[count]
        values = [environment[rank], str(len(number.split(","))) if "HOSTNAMES" in count else number]
        values.append(environment.get(least, "0") if least else "0")
        if not all(value.isdecimal() for value in values):
            raise LsapError(f"--shard=auto: {rank} and {count} are not numbers ({', '.join(values)}); give --shard=i/n")
        index, total, first = map(int, values)
        return _shard(index - first, total, f"--shard=auto ({rank}={index}, {count}={number})")
    return None


def _shard(index: int, count: int, said: str) -> Shard:
    if not 0 <= index < count:
        raise LsapError(f"{said}: shares are counted from 0, the last of {count} is {count - 1}")
    return Shard(index=index, count=count)
