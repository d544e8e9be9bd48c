"""Fake CPU devices, strict numerics, a cache of the tests' own, and where the reference vectors are."""

import os
import tempfile

from lsap_jax.compilation import compile_quickly

# Before jax starts: two devices on one processor, so that every test crosses the device axis.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
compile_quickly()  # the switches of commands
# Nothing is written into, or found in, the cache of who runs the tests.
CACHE = tempfile.TemporaryDirectory(prefix="lsap-jax-tests-")
os.environ["XDG_CACHE_HOME"] = CACHE.name

import importlib.util  # noqa: E402
import json  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from jax._src import cache_key  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("suite")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """golden("nv_g32") -> arrays of that reference file; the test is skipped where the folder is absent."""

    def load(name: str) -> dict[str, np.ndarray]:
        path = SHARED / "golden" / f"{name}.npz"
        if not path.is_file():
            pytest.skip(f"reference vectors {path.name} are not here (they are not part of a user's checkout)")
        with np.load(path) as file:
            return {key: file[key] for key in file.files}

    return load


@pytest.fixture(scope="session")
def shared_file() -> Callable[[str], Path]:
    """shared_file("golden/x.pt") -> path; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.is_file():
            pytest.skip(f"{name} is not here (it is not part of a user's checkout)")
        return path

    return find


@pytest.fixture(scope="session")
def seeded(golden, shared_file):
    """(arrays of a reference file, label of a model -> its weights, drawn again)."""
    spec = importlib.util.spec_from_file_location("seeded_weights_enc", shared_file("golden/seeded_weights_enc.py"))
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)

    def load(name):
        file = golden(name)
        models = json.loads(bytes(file["meta_json"]))["models"]
        return file, lambda label: recipe.fill(models[label])

    return load


@pytest.fixture(scope="session")
def seeded_lpips(golden):
    """("vgg" or "alex", pixels a side at which it looks) to LPIPS with the reference's backbone, drawn again."""
    from lsap_jax.models.perceptual import lpips

    def load(name, resolution=256):
        file, lin = golden(f"lpips_{name}"), golden("lpips_lin_v0_1")
        meta, arrays = json.loads(bytes(file["meta_json"])), {}
        for i, (tensor, shape, kind) in enumerate(meta["tensors"]):
            draw = np.random.RandomState(meta["seed"] + i).randn(*shape)
            scale = 0.1 if kind == "b" else meta["gain"] / np.sqrt(np.prod(shape[1:]))
            arrays[tensor] = np.float32(draw * scale)
        taps = {f"lin{k}.weight": lin[f"{name}/lin{k}.model.1.weight"].ravel() for k in range(5)}
        return lpips({"vgg": "vgg16", "alex": "alexnet"}[name], arrays, taps, resolution)

    return load


@pytest.fixture(scope="module")
def colour_rows() -> Iterator[None]:
    """The method "colour" of `tests/colour.py`, and its kind of networks, as rows of their tables."""
    import colour

    with pytest.MonkeyPatch.context() as patch:
        colour.add_rows(patch)
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory) -> Iterator[None]:
    """Equal programs are compiled once per test process and the processes it starts, not once per test."""
    # Every xdist worker has its own folder: jax writes there in place. LSAP_JAX_TEST_CACHE is for one process.
    folder = os.environ.get("LSAP_JAX_TEST_CACHE") or str(tmp_path_factory.getbasetemp() / "compiled")
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"}
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    # Devices run equal programs; jax keeps one for all only on GPUs.
    of_options = cache_key._hash_serialized_compile_options
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_key, of_options.__name__, lambda found, options, **_: of_options(found, options, True))
        yield


@pytest.fixture(scope="module")
def quick_compilation() -> Iterator[None]:
    """For tests, and the processes they start, that take longer to compile than to run, however slow the code. Programs
    that compute the same in different places may then differ in their last digits.
    """
    with optimizations_left_out(True):
        yield


@pytest.fixture(scope="module")
def quick_whitening() -> Iterator[None]:
    """KID is whitened, and genuine images are judged, by a few of the samples that a real evaluation takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lsap_jax.runs.evaluation.WHITENING_SAMPLES", 64)
        patch.setattr("lsap_jax.experiments.edit_quality.quality.GENUINE_SAMPLES", 64)
        yield


@pytest.fixture
def full_compilation(quick_compilation) -> Iterator[None]:
    """For a test among those that is about what the compiler makes of the code."""
    with optimizations_left_out(False):
        yield


@contextmanager
def optimizations_left_out(value: bool) -> Iterator[None]:
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name.upper(), str(value))
        jax.config.update(name, value)
        # jax would take a program that was compiled the other way for the same, and its bits may differ.
        jax.clear_caches()
        yield
        jax.config.update(name, before)
        jax.clear_caches()


@pytest.fixture(scope="session")
def tiny():
    """The tiny generator with discriminator, base-code encoder and latent statistics."""
    from lsap_jax.spaces.statistics import with_statistics
    from lsap_jax.testing import tiny_generator

    return with_statistics(tiny_generator(basecode=True))


LONG = ("test_readme.py::test_commands", "test_wheel.py", "test_notebook.py", "test_ray.py", "test_training.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no process is left with it when the others are done."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in LONG))


def pytest_unconfigure() -> None:
    CACHE.cleanup()


def pytest_sessionfinish(session) -> None:
    """A process of xdist hands its deviations to the one that prints them."""
    from parity import deviations

    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["deviations"] = {group: list(worst) for group, worst in deviations.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    """Keeps the larger deviation of each group."""
    from parity import deviations

    for group, (deviation, name) in getattr(node, "workeroutput", {}).get("deviations", {}).items():
        if deviation >= deviations.get(group, (0.0, ""))[0]:
            deviations[group] = (deviation, name)


def pytest_terminal_summary(terminalreporter) -> None:
    """The largest deviation from each group of reference vectors, relative to the group's largest value."""
    from parity import deviations

    if deviations:
        terminalreporter.section("largest deviation from the reference vectors, relative to the largest value")
        for group, (deviation, name) in sorted(deviations.items()):
            terminalreporter.write_line(f"{group:24s} {deviation:.1e}  {name}")
