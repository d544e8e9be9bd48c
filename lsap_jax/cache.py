"""The user's cache folder: latent statistics of generators whose own folder is read-only, directions that were found,
and compiled programs.
"""

import hashlib
import os
import platform
from pathlib import Path

PROCESSOR_FILE = Path("/proc/cpuinfo")
LEAST_SECONDS = "0.1"  # of compilation that are worth a file


def user_folder() -> Path:
    """`lsap_jax` in XDG_CACHE_HOME, ~/.cache by default; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lsap_jax"


def keep_compilations() -> None:
    """Makes jax keep compiled programs in `user_folder()/compiled` for later processes; call it before importing jax.

    JAX_COMPILATION_CACHE_DIR names another folder; if it is empty, nothing is kept.
    """
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(user_folder() / "compiled" / _processor()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", LEAST_SECONDS)


def keep_compiled(folder: str | None = None) -> str:
    """Makes jax keep compiled programs for later processes, as commands do; call it at any time, best at the start.

    Args:
        folder: where; by default what jax was told already (JAX_COMPILATION_CACHE_DIR, `jax_compilation_cache_dir`),
            else the folder of the commands, `user_folder()/compiled`.

    Returns:
        The folder; "" if JAX_COMPILATION_CACHE_DIR is empty, and nothing is kept.
    """
    keep_compilations()
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    told: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    kept = folder or told or os.environ["JAX_COMPILATION_CACHE_DIR"]
    least = float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])
    jax.config.update("jax_compilation_cache_dir", kept)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
    reset_cache()  # jax decides at its first compilation whether there is a cache
    return kept


def _processor() -> str:
    """Name of this kind of processor: programs compiled for one must not be found by another that shares the folder."""
    try:
        lines = PROCESSOR_FILE.read_text().splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
