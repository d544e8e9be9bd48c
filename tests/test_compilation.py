"""The compiler's switches of commands."""

import os
import subprocess
import sys

import pytest

from lsap_jax import compilation
from lsap_jax.compilation import compile_quickly, switches

LOOPS = "--xla_backend_extra_options=xla_cpu_disable_loop_unrolling"
EMITTERS = "--xla_cpu_use_fusion_emitters=false"
LEVEL = "--xla_backend_optimization_level=1"


@pytest.mark.parametrize(
    "version, before, after",
    [
        ("0.10.2", "", f"{LOOPS} {EMITTERS} {LEVEL}"),
        ("0.11.0", "", LOOPS),  # a flag that is gone would end the process
        ("0.9.1", "", LOOPS),
        ("0.10.2", "--xla_cpu_max_isa=AVX2", f"--xla_cpu_max_isa=AVX2 {LOOPS} {EMITTERS} {LEVEL}"),
        ("0.10.2", "--xla_cpu_use_fusion_emitters=true", f"--xla_cpu_use_fusion_emitters=true {LOOPS} {LEVEL}"),
        ("0.10.2", f"--xla_backend_extra_options=a {EMITTERS}", f"--xla_backend_extra_options=a {EMITTERS} {LEVEL}"),
    ],
)
def test_switches_are_added_where_they_are_known_and_not_set(monkeypatch, version, before, after):
    monkeypatch.setattr(compilation, "version", lambda name: version)
    monkeypatch.setattr(compilation, "accelerated", lambda environment: False)
    environment = {"XLA_FLAGS": before} if before else {}
    compile_quickly(environment)
    assert environment == {"XLA_FLAGS": after}
    compile_quickly(environment)
    assert environment == {"XLA_FLAGS": after}


@pytest.mark.parametrize(
    "platforms, installed, level",
    [
        ("", "", True),
        ("cpu", "jax_plugins", True),
        ("", "jax_plugins", False),
        ("", "libtpu", False),
        ("cuda", "", False),
    ],
)
def test_the_level_of_optimisation_is_for_processors_alone(monkeypatch, platforms, installed, level):
    """Accelerators' compilers would obey it, too."""
    monkeypatch.setattr(compilation, "version", lambda name: "0.10.2")
    monkeypatch.setattr(compilation, "find_spec", lambda name: name if name == installed else None)
    monkeypatch.setattr(compilation, "entry_points", lambda group: ())
    environment = {"JAX_PLATFORMS": platforms} if platforms else {}
    compile_quickly(environment)
    assert (LEVEL in environment["XLA_FLAGS"]) is level


def test_plugins_register_themselves_as_entry_points(monkeypatch):
    monkeypatch.setattr(compilation, "find_spec", lambda name: None)
    monkeypatch.setattr(compilation, "entry_points", lambda group: ("metal",) if group == "jax_plugins" else ())
    assert compilation.accelerated({})


def test_switches_are_recorded_in_an_order_of_their_own():
    found = switches(
        {"XLA_FLAGS": f"{LEVEL} {EMITTERS} --xla_cpu_max_isa=AVX2 {LOOPS} --xla_force_host_platform_device_count=2"}
    )
    assert found == [LOOPS, LEVEL, EMITTERS]
    assert switches({}) == []


@pytest.mark.parametrize("started", [False, True])
def test_commands_set_them_before_jax_starts(started):
    """A program that has started jax and then calls a command keeps the compiler as it is."""
    first = "import jax; jax.devices()\n" if started else ""
    code = first + "import os\nfrom lsap_jax.cli import main\nmain(['models'])\nmain(['convert', 'a', 'b'])\n"
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}print(os.environ.get('XLA_FLAGS', ''))"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (LOOPS in done.stdout) is not started
