"""The generator of a run, with the files that the run's configuration puts in place of its own parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lsap_jax.configuration import recorded
from lsap_jax.errors import LsapError
from lsap_jax.inversion.settings import make_problem
from lsap_jax.models.generator import Generator
from lsap_jax.models.generator_file import bundled, load_generator
from lsap_jax.models.network_file import attach, load
from lsap_jax.runs.classes import labels_of
from lsap_jax.spaces import space_from_config
from lsap_jax.spaces.statistics import Report, with_pnorm, with_statistics
from lsap_jax.storage.matching import check_fields
from lsap_jax.storage.results import RUN

GENERATOR = {"generator": dict, "generator.name": str, "generator.sha256": str}


def attached(G: Generator, files: Mapping[str, Any], report: Report | None = None) -> Generator:
    """G with the base-code encoder and the P_N statistics of the named files in place of its own.

    Args:
        files: a configuration's `init`, with "basecode" and "pnorm"; an empty name leaves the generator's own.
        report: called with (samples done, samples in all) while latent statistics are computed.
    """
    if files.get("basecode"):
        G = attach(G, load(files["basecode"], "basecode"))
    if files.get("pnorm"):
        G = with_pnorm(with_statistics(G, report), files["pnorm"])
    return G


def prepared(G: Generator, config: ConfigDict, report: Report | None = None) -> Generator:
    """G with its latent statistics if the problem that a configuration poses needs them."""
    return with_statistics(G, report) if make_problem(config, space_from_config(config, G)).needs_statistics else G


def generator_of(folder: Path, run: Mapping[str, Any], other: str | None, report: Report | None = None) -> Generator:
    """The generator that a run was made with, for the classes of its images, loaded from where run.json says or from
    `other`.

    Raises:
        LsapError: the file is missing, its weights are not those of the run, or run.json names none.
    """
    check_fields(folder / RUN.file, run, GENERATOR)
    known = run["generator"]
    name = other or known["name"]
    if not other and name not in bundled() and not Path(name).is_file():
        raise LsapError(f"{folder}: its generator {name!r} was not found; name the file with --generator")
    G = load_generator(name)
    if "classes" in run:
        G = G.for_classes(labels_of(run["classes"], G.c_dim))
    G = attached(G, recorded(run.get("config")).init, report)
    if G.sha256 != known["sha256"]:
        raise LsapError(
            f"{name}: has SHA-256 {G.sha256[:16]}…, the run {folder} had {known['sha256'][:16]}…; name the "
            "right file with --generator"
        )
    return G
