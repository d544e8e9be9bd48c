"""A share of a run for one of several processes that need no word from each other.

Batches are numbered over the whole list of images; shard i of n takes those whose number is i modulo n. So a batch has
the same images, and gives the same bytes, whatever n is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lsap_jax.errors import LsapError

# Launchers' names for (rank, count, the least rank); the first that is set wins. A Kubernetes indexed job does not tell
# its pods how many they are: set JOB_COMPLETIONS in its specification.
LAUNCHERS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("SLURM_PROCID", "SLURM_NTASKS", None),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", None),
    ("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES", None),
)


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
    """The shard of "i/n", or of "auto", which asks the launcher's environment.

    Raises:
        LsapError: neither, i is not from 0 to n - 1, or no launcher tells rank and count.
    """
    if text == "auto":
        return _of_launcher(environment)
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise LsapError(f"--shard={text}: give i/n, shares counted from 0 (0/8 to 7/8), or auto")
    return _shard(int(match[1]), int(match[2]), f"--shard={text}")


def _of_launcher(environment: Mapping[str, str]) -> Shard:
    for rank, count, least in LAUNCHERS:
        if rank not in environment:
            continue
        if count not in environment:
            raise LsapError(f"--shard=auto: {rank} is set and {count} is not; set it, or give --shard=i/n")
        number = environment[count]
        values = [environment[rank], str(len(number.split(","))) if "HOSTNAMES" in count else number]
        values.append(environment.get(least, "0") if least else "0")
        if not all(value.isdecimal() for value in values):
            raise LsapError(f"--shard=auto: {rank} and {count} are no numbers ({', '.join(values)}); give --shard=i/n")
        index, total, first = map(int, values)
        return _shard(index - first, total, f"--shard=auto ({rank}={index}, {count}={number})")
    known = ", ".join(rank for rank, _, _ in LAUNCHERS)
    raise LsapError(f"--shard=auto: no launcher's variable is set ({known}); give --shard=i/n")


def _shard(index: int, count: int, said: str) -> Shard:
    if not 0 <= index < count:
        raise LsapError(f"{said}: shares are counted from 0, the last of {count} is {count - 1}")
    return Shard(index=index, count=count)
