"""The generator of a run, with the files that the run's configuration puts in place of its own parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from lsap_jax.configuration import recorded
from lsap_jax.errors import LsapError
from lsap_jax.inversion.settings import make_problem
from lsap_jax.models.generator import Generator
from lsap_jax.models.generator_file import bundled, load_generator
from lsap_jax.models.network_file import Contents, attach, load, read
from lsap_jax.rendering.transforms import parts
from lsap_jax.runs.classes import labels_of
from lsap_jax.spaces import space_from_config
from lsap_jax.spaces.statistics import Report, with_pnorm, with_statistics
from lsap_jax.storage.matching import check_fields
from lsap_jax.storage.results import RUN, mapping
from lsap_jax.storage.weights_file import digest

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


class Weights(NamedTuple):
    """A file of weights of a method of refinement."""

    contents: Contents

    @property
    def sha256(self) -> str:
        """SHA-256 of all tensors in it."""
        named = [(f"{kind}/{name}", a) for kind, part in self.contents.parts.items() for name, a in part.arrays.items()]
        return digest(dict(named))

    def attached(self, G: Generator) -> Generator:
        """G with those of its networks that a refinement may read whenever an image is rendered."""
        for kind in parts():
            if kind in self.contents.parts:
                G = attach(G, self.contents.build(kind))
        return G


def with_weights(G: Generator, file: str | Path | None) -> Generator:
    """`Weights.attached` of a converted file or an original checkpoint; G itself without a file.

    Raises:
        LsapError, ConversionError: there is no such file, it is damaged, or a network in it does not fit G.
    """
    return G if file is None else Weights(read(file)).attached(G)


def generator_of(
    folder: Path,
    run: Mapping[str, Any],
    other: str | None,
    report: Report | None = None,
    weights: str | None = None,
) -> Generator:
    """The generator that a run was made with, for the classes of its images, loaded from where run.json says or from
    `other`; of a run that was refined with a file of weights, with the networks of that file, from where run.json says
    or from `weights`.

    Raises:
        LsapError: a file is missing, its weights are not those of the run, or run.json names no generator.
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
    return _refined_with(G, folder, mapping(run.get("refinement")), weights)


def _refined_with(G: Generator, folder: Path, refinement: Mapping[str, Any], other: str | None) -> Generator:
    file = refinement.get("weights")
    if not isinstance(file, str):
        if other is not None:
            raise LsapError(f"--weights={other}: {folder} was not refined with a file of weights; leave it out")
        return G
    file, wanted = other or file, refinement.get("weights_sha256")
    if not Path(file).is_file():
        raise LsapError(
            f"{folder}: {file}, the weights that it was refined with, was not found; name it with --weights"
        )
    weights = Weights(read(file))
    if weights.sha256 != wanted:
        raise LsapError(
            f"{file}: has SHA-256 {weights.sha256[:16]}…, the weights that {folder} was refined with had "
            f"{str(wanted)[:16]}…; name the right file with --weights"
        )
    return weights.attached(G)
