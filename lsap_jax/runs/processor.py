"""The processor of a run: its instruction sets and the size of its thread pool decide the last digits of results."""

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsap_jax.compilation import switches

CPUINFO = Path("/proc/cpuinfo")
MOST_THREADS = 4096  # that a record from elsewhere can ask for
# Names of XLA's --xla_cpu_max_isa, from the narrowest, and the flag of Linux that a processor with them has.
INSTRUCTIONS = {
    "SSE4_2": "sse4_2",
    "AVX": "avx",
    "AVX2": "avx2",
    "AVX512": "avx512f",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX": "amx_tile",
    "AMX_FP16": "amx_fp16",
}


def processor(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What run.json records: {"architecture", "instructions", "threads", "flags"}.

    `instructions` are the widest that XLA compiles for: the processor's, or those that `--xla_cpu_max_isa` in XLA_FLAGS
    allows; "" where the system does not name them. `threads` is the size of XLA's thread pool: NPROC, or the number of
    processors of this process. `flags` are the `switches` of XLA.
    """
    text = CPUINFO.read_text("utf-8", "replace") if CPUINFO.is_file() else ""
    line = re.search(r"^flags\s*:(.*)$", text, re.M)
    flags = set(line[1].split()) if line else set()
    found = [name for name, flag in INSTRUCTIONS.items() if flag in flags]
    limit = re.search(r"--xla_cpu_max_isa=(\w+)", environment.get("XLA_FLAGS", ""))
    if limit and limit[1].upper() in INSTRUCTIONS:
        order = list(INSTRUCTIONS)
        found = [name for name in found if order.index(name) <= order.index(limit[1].upper())]
    asked = environment.get("NPROC", "")
    threads = int(asked) if asked.isdigit() and int(asked) else len(_affinity())
    return {
        "architecture": platform.machine(),
        "instructions": found[-1] if found else "",
        "threads": threads,
        "flags": switches(environment),
    }


def _affinity() -> Any:
    """The processors that this process may use; all of them where the system does not say."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def difference(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """How another processor differs from that of a run, in words; "" where it does not, or the run records none."""
    names = [name for name in here if recorded and recorded.get(name) != here[name]]
    return ", ".join(f"{name} {recorded.get(name)!r} then, {here[name]!r} now" for name in names)


def adopt_threads(record: Mapping[str, Any]) -> None:
    """Gives XLA a thread pool of the size that a run was begun with, unless NPROC is set; before a device is used."""
    known = record.get("processor")
    threads = known.get("threads") if isinstance(known, Mapping) else None
    if type(threads) is int and 0 < threads <= MOST_THREADS and threads != processor()["threads"]:
        os.environ.setdefault("NPROC", str(threads))
