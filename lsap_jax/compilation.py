"""How commands have XLA compile programs for processors. Compilation is most of the time to a command's first step;
three switches take half off it, and steps are as fast as without them (`benchmarks/compile.py`).
"""

import os
import re
from collections.abc import Mapping, MutableMapping
from importlib.metadata import entry_points, version
from importlib.util import find_spec

# Bodies of loops are not copied to be run several at a time. XLA ignores a name here that it does not know.
_LOOPS = "--xla_backend_extra_options=xla_cpu_disable_loop_unrolling"
# Fused loops are made by LLVM alone, without MLIR. A flag that XLA does not know ends the process, so this one is for
# versions that have been tried.
_EMITTERS = "--xla_cpu_use_fusion_emitters=false"
# LLVM takes fewer turns over each loop, which it vectorises all the same. Accelerators' compilers obey this flag, too.
_LEVEL = "--xla_backend_optimization_level=1"
_KNOWN = "0.10."


def compile_quickly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Adds the switches to XLA_FLAGS; those that are set there stay as they are. Call it before a device is used."""
    flags = environment.get("XLA_FLAGS", "").split()
    named = {flag.split("=")[0] for flag in flags}
    wanted = {_LOOPS: True, _EMITTERS: tried(), _LEVEL: tried() and not accelerated(environment)}
    flags += [flag for flag, useful in wanted.items() if useful and flag.split("=")[0] not in named]
    environment["XLA_FLAGS"] = " ".join(flags)


def tried() -> bool:
    """Whether all switches have been tried with this version of XLA; others do with `_LOOPS` alone."""
    return version("jaxlib").startswith(_KNOWN)


def accelerated(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether jax may find an accelerator: JAX_PLATFORMS names one, or does not exclude those installed."""
    if named := environment.get("JAX_PLATFORMS"):
        return named != "cpu"
    plugins = any(find_spec(name) for name in ("jax_plugins", "libtpu"))
    return plugins or bool(entry_points(group="jax_plugins"))


def switches(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The flags in XLA_FLAGS that decide what programs for processors compute, apart from instruction sets; sorted."""
    flags = environment.get("XLA_FLAGS", "").split()
    wanted = re.compile(r"--xla_(cpu|backend|llvm)_(?!max_isa)")
    return sorted(set(filter(wanted.match, flags)))
