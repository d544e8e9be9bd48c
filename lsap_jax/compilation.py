"""How commands have XLA compile programs for processors. Compilation is most of the time to a command's first step; two
switches take two fifths off it, and steps are as fast as without them (`benchmarks/compile.py`).
"""

import os
import re
from collections.abc import Mapping, MutableMapping
from importlib.metadata import version

# Bodies of loops are not copied to be run several at a time. XLA ignores a name here that it does not know.
_LOOPS = "--xla_backend_extra_options=xla_cpu_disable_loop_unrolling"
# Fused loops are made by LLVM alone, without MLIR. A flag that XLA does not know ends the process, so this one is for
# versions that have been tried.
_EMITTERS = "--xla_cpu_use_fusion_emitters=false"
_KNOWN = "0.10."


def compile_quickly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Adds the switches to XLA_FLAGS; those that are set there stay as they are. Call it before a device is used."""
    flags = environment.get("XLA_FLAGS", "").split()
    named = {flag.split("=")[0] for flag in flags}
    for flag in (_LOOPS, *([_EMITTERS] if tried() else [])):
        if flag.split("=")[0] not in named:
            flags.append(flag)
    environment["XLA_FLAGS"] = " ".join(flags)


def tried() -> bool:
    """Whether all switches have been tried with this version of XLA; others do without `_EMITTERS`."""
    return version("jaxlib").startswith(_KNOWN)


def switches(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The flags in XLA_FLAGS that decide what programs for processors compute, apart from instruction sets; sorted."""
    flags = environment.get("XLA_FLAGS", "").split()
    wanted = re.compile(r"--xla_(cpu|backend|llvm)_(?!max_isa)")
    return sorted(set(filter(wanted.match, flags)))
