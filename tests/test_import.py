"""What importing costs, and which way imports go."""

import ast
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Level of every sub-package and top-level module: a module imports from its own or lower ones only. `__init__` and
# `__main__` are the front doors: they may name everything, and load it when it is asked for.
LEVELS = [
    {"errors"},
    {"networks", "configs", "configuration", "cache", "compilation", "pixels"},
    {"data", "storage"},
    {"models"},
    {"losses", "spaces"},
    {"rendering", "metrics", "faces"},
    {"inversion", "refinement", "encoding", "testing"},
    {"runs"},
    {"editing", "training"},
    {"experiments"},
    {"report", "live"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
FRONT_DOORS = {"lsap_jax", "lsap_jax.__main__"}


def sources() -> dict[str, Path]:
    """Module name -> file, of lsap_jax, its configurations and convert_weights."""
    found = {}
    for folder, package in (("lsap_jax", "lsap_jax"), ("configs", "lsap_jax.configs"), ("convert_weights",) * 2):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *(p for p in parts if p != "__init__")])] = path
    return found


SOURCES = sources()


def imports(name: str) -> set[str]:
    """Modules of this project that a module imports, at its top, inside functions or for type checkers."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in SOURCES}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}, line {node.lineno}: imports are absolute in this project"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found |= {module for module in [inner if inner in SOURCES else node.module] if module in SOURCES}
    return found - {name}


def test_imports_go_down():
    wrong = []
    for name in SOURCES.keys() - FRONT_DOORS:
        if not name.startswith("lsap_jax."):
            continue
        part = name.split(".")[1]
        assert part in LEVEL, f"{part}: give it a level in this test"
        for other in imports(name):
            if other == "lsap_jax":  # its lazy front door, for the version
                continue
            if other.startswith("lsap_jax.") and LEVEL[other.split(".")[1]] > LEVEL[part]:
                wrong.append(f"{name} imports {other}, which stands above it")
    assert not wrong, "\n".join(sorted(wrong))


def test_convert_weights_is_the_ground_floor():
    for name in SOURCES:
        if not name.startswith("convert_weights"):
            continue
        if name != "convert_weights.__main__":
            assert not {other for other in imports(name) if other.startswith("lsap_jax")}, name
        for node in ast.walk(ast.parse(SOURCES[name].read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            roots = {module.split(".")[0] for module in modules} - {"lsap_jax", "convert_weights", "numpy"}
            assert roots <= sys.stdlib_module_names, f"{name} imports {roots - sys.stdlib_module_names}"


def test_no_circles():
    graph = {name: imports(name) for name in SOURCES.keys() - FRONT_DOORS}
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done or name not in graph:
            return
        for other in sorted(graph[name]):
            walk(other, (*path, name))
        done.add(name)

    for name in sorted(graph):
        walk(name, ())


def python(code: str, **environment: str) -> str:
    """Output of code in an interpreter of its own."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_touches_nothing():
    """No jax, no numpy, no file but Python's own, no socket."""
    code = """
import sys
seen = []
def watch(event, args):
    if event.startswith("socket.") or event == "open" and not str(args[0]).endswith((".py", ".pyc", ".pth")):
        seen.append((event, str(args[0])))
sys.addaudithook(watch)
import lsap_jax
dir(lsap_jax), lsap_jax.__version__
touched = list(seen)
print(sorted({"jax", "jaxlib", "flax", "optax", "orbax", "numpy", "PIL", "rich"} & sys.modules.keys()), touched)
"""
    assert python(code).strip() == "[] []"


def test_convert_weights_needs_numpy_alone():
    code = (
        "import sys, convert_weights.__main__; print(sorted({'jax', 'flax', 'lsap_jax', 'torch'} & sys.modules.keys()))"
    )
    assert python(code).strip() == "[]"


def test_no_module_starts_a_device():
    """Every module imports where jax has no usable platform: a device asked for at import time would raise."""
    names = [name for name in SOURCES if not name.endswith("__main__")]
    code = f"""
import importlib
for name in {names!r}:
    importlib.import_module(name)
import jax
try:
    jax.devices()
except RuntimeError:
    print("no device was there")
"""
    assert python(code, JAX_PLATFORMS="no_such_platform").strip() == "no device was there"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["invert", "--help"]])
def test_help_answers_at_once(arguments):
    """Under a second of processor time, which does not depend on what else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, "-m", "lsap_jax", *arguments], capture_output=True, text=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0 and "lsap-jax" in result.stdout, result.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_every_export_is_there():
    import lsap_jax

    for name in lsap_jax.__all__:
        assert getattr(lsap_jax, name) is not None
    assert set(lsap_jax.__all__) <= set(dir(lsap_jax))
    with pytest.raises(AttributeError, match="no attribute 'inverse'"):
        _ = lsap_jax.inverse
