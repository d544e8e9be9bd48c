"""What a bug report should say about the machine: versions, devices, cache, free disk space, known problems.

usage: lsap-jax doctor

Paste the text into the report. It does not name the user: paths in the home folder begin with ~. Nothing is sent.

Exit status: 0 no known problem, 1 a known problem, and the last lines say what to do.
"""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lsap_jax.cache import user_folder
from lsap_jax.cli import INCOMPLETE, OK, one_line
from lsap_jax.cli.arguments import Arguments
from lsap_jax.cli.arguments import new_flags as flags
from lsap_jax.errors import LsapError

__all__ = ["flags", "run"]

# Package -> the oldest version that is tested, as setup.py has it.
NEEDED = {
    "absl-py": "2", "flax": "0.12", "jax": "0.8", "jaxlib": "0.8", "ml-collections": "1", "numpy": "2",
    "optax": "0.2.5", "orbax-checkpoint": "0.11.20", "pillow": "11", "rich": "13", "safetensors": "0.5",
    "scipy": "1.11", "tensorstore": "0.1.74",
}  # fmt: skip
EXTRAS = (
    "anywidget", "imageio-ffmpeg", "jax-cuda12-plugin", "libtpu", "pillow-heif", "ray", "scikit-image", "scikit-learn",
    "starlette", "tensorflow-datasets", "uvicorn",
)  # fmt: skip
ENVIRONMENT = ("CUDA_VISIBLE_DEVICES", "JAX_", "LSAP_JAX_", "RAY_ADDRESS", "TPU_", "XDG_CACHE_HOME", "XLA_")
NVIDIA = Path("/proc/driver/nvidia/version")
LEAST_FREE = 2e9  # bytes; an official checkpoint and its conversion take about as much


def run(args: Arguments) -> int:
    args.no_config()
    args.only()
    found = facts()
    known = list(problems(found["devices"]))
    for name, value in {**found, "problems": "; ".join(known) or "none known"}.items():
        print(f"{name:12} {hidden(one_line(value))}")
    return INCOMPLETE if known else OK


def facts() -> dict[str, str]:
    """What there is, a line each."""
    import lsap_jax

    versions = {name: installed(name) or "missing" for name in NEEDED}
    extras = {name: found for name in EXTRAS if (found := installed(name))}
    told = {key: value for key, value in sorted(os.environ.items()) if key.startswith(ENVIRONMENT)}
    return {
        "lsap_jax": f"{lsap_jax.__version__} in {Path(lsap_jax.__file__).parent}",
        "python": f"{platform.python_version()} on {platform.platform()}",
        "packages": listed(versions),
        "extras": listed(extras) or "none",
        "processor": processor(),
        "devices": devices(),
        "environment": listed(told, "=") or "nothing set",
        "bundled": bundled(),
        "cache": cache(),
        "disk": f"{gigabytes(free(user_folder()))} free where the cache is, {gigabytes(free(Path.cwd()))} here",
    }


def problems(found: str) -> Iterator[str]:
    """Known problems of this machine and what to do; `found` is the line of devices."""
    from lsap_jax.compilation import tried

    for name, least in NEEDED.items():
        if (own := installed(name)) is None or numbers(own) < numbers(least):
            yield f"{name} {own or 'is missing'}: {least} or newer is needed, pip install -U {name}"
    if not tried():
        yield f"jaxlib {installed('jaxlib')} was not tried: programs compile without two of the switches, more slowly"
    if "cannot" in found:
        yield "jax starts no device: look at its message in the line of devices, and at JAX_PLATFORMS"
    elif NVIDIA.is_file() and "cuda" not in found.lower() and "gpu" not in found.lower():
        yield "an NVIDIA driver is there and jax does not use it: pip install '.[cuda]' in lsap_jax's checkout"
    if sys.platform == "win32":
        yield "Windows has no locks of folders: do not run two commands into one folder"
    if "whole" not in bundled():
        yield "the bundled generator cannot be read: install the package again (with git, its large files, too)"
    place = existing(user_folder())
    if not os.access(place, os.W_OK):
        yield f"{place} cannot be written: nothing is kept between commands, set XDG_CACHE_HOME"
    for where in (user_folder(), Path.cwd()):
        if free(where) < LEAST_FREE:
            yield f"{gigabytes(free(where))} are free at {where}: make room, or set XDG_CACHE_HOME and --out elsewhere"


def devices() -> str:
    """The devices of jax by platform and kind, or why there are none."""
    import jax

    try:
        names = [f"{one.platform} {one.device_kind}" for one in jax.local_devices()]
    except RuntimeError as error:
        return f"jax cannot start one: {one_line(error)[:200]}"
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))


def processor() -> str:
    """Architecture, processors that this process may use, and memory."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f", {gigabytes(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))} of memory"
    return f"{platform.machine()}, {usable} of {os.cpu_count()} processors{memory}"


def bundled() -> str:
    """Whether the bundled generators are whole."""
    from lsap_jax.models.generator_file import bundled as files
    from lsap_jax.storage.weights_file import read_weights

    lines = []
    for name, path in files().items():
        try:
            read_weights(path)
            lines.append(f"{name} is whole")
        except LsapError as error:
            lines.append(f"{name} is damaged ({error})")
    return ", ".join(lines) or "no generator"


def cache() -> str:
    """The cache folder and what each part of it takes."""
    folder = user_folder()
    parts = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    sizes = {path.name: gigabytes(sum(p.lstat().st_size for p in path.rglob("*") if p.is_file())) for path in parts}
    return f"{folder}: {listed(sizes) or 'empty'}"


def installed(name: str) -> str | None:
    """Version of a package; None if it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def numbers(text: str) -> tuple[int, ...]:
    """(0, 10, 2) of "0.10.2" and of "0.10.2.dev1"."""
    start = re.match(r"[\d.]*", text)
    return tuple(int(part) for part in re.findall(r"\d+", start[0] if start else ""))


def free(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    return shutil.disk_usage(existing(folder)).free


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def gigabytes(size: float) -> str:
    """12345678 as "0.01 GB"."""
    return f"{size / 1e9:.3g} GB"


def listed(values: Mapping[str, str], sign: str = " ") -> str:
    """Names with their values in one line."""
    return ", ".join(f"{name}{sign}{value}" for name, value in values.items())


def hidden(text: str) -> str:
    """Text with ~ in place of the home folder, whose name is often the user's."""
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text
