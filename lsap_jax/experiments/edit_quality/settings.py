"""What `lsap-jax edit-quality` is asked for: its settings checked, and its runs."""

import math
from collections.abc import Iterable
from pathlib import Path

from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison.runs import read_comparison
from lsap_jax.experiments.edit_quality.protocol import VARIANTS

GREATEST = 3.4e38  # the largest number of 32 bits


def check_settings(config: ConfigDict) -> None:
    """Checks a configuration such as configs/edit_quality.py, whose header explains the keys.

    Raises:
        LsapError: a value is outside of its range, an unknown variant, or one variant twice.
    """
    given = ",".join(config.variants)
    if unknown := [v for v in config.variants if v not in VARIANTS] or ([] if config.variants else [""]):
        raise LsapError(f"--config.variants={given}: {unknown[0]!r} is not one of {', '.join(VARIANTS)}")
    if len(set(config.variants)) < len(config.variants):
        raise LsapError(f"--config.variants={given}: name each once")
    for name, least in (("batch_size", 1), ("shown", 0), ("lec_steps", -1), ("most_real", 0)):
        if config[name] < least:
            raise LsapError(f"--config.{name}={config[name]}: must be {least} or more")
    if not all(0 < level < 1 for level in config.levels):
        raise LsapError(f"--config.levels={config.levels}: levels of success are between 0 and 1")
    strengths = list(config.strengths)
    finite = all(math.isfinite(s) and abs(s) <= GREATEST for s in strengths)
    if not finite or strengths != sorted(set(strengths)) or not strengths:
        raise LsapError(f"--config.strengths={strengths}: give finite numbers, the smallest first, each once")
    if config.toggle and strengths[0] < 0:
        raise LsapError(
            f"--config.strengths={strengths}: with toggle, strengths must be 0 or more; each image decides the sign"
        )
    if bool(config.candidate) != bool(config.baseline):
        raise LsapError("--config.candidate and --config.baseline belong together; give both, or none")


def run_folders(given: Iterable[str]) -> list[tuple[str, Path]]:
    """(name, folder) of every run; a comparison stands for its runs, which are called by their presets.

    Raises:
        LsapError: a comparison cannot be read.
    """
    found = []
    for one in map(Path, given):
        if (one / "comparison.json").is_file():
            found += [(p["preset"], one / p["folder"]) for p in read_comparison(one)["presets"]]
        else:
            found.append((one.resolve().name, one))
    return found
