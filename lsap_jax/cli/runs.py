"""What several commands do first: they open the named images and load a generator, and tell on stderr what goes on."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsap_jax.cli.arguments import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from absl.flags import FlagValues
    from ml_collections import ConfigDict

    from lsap_jax.cli.arguments import Arguments
    from lsap_jax.data import Source
    from lsap_jax.metrics.identity import IdentityMeter
    from lsap_jax.models.generator import Generator
    from lsap_jax.spaces.statistics import Report


def images_of(args: "Arguments", G: "Generator", fit: str, align: bool = False) -> "Source":
    """The images named on the command line at the generator's resolution, without those that lie where `--out` is.

    Args:
        align: cut every picture to its face, as `lsap-jax align` does by default.

    Raises:
        LsapError: no image was found.
    """
    return aligned(opened(args, G.img_resolution, G.img_channels, fit), align)


def aligned(source: "Source", align: bool) -> "Source":
    """The source with every picture cut to its face, where that is asked for."""
    from lsap_jax.faces import aligner

    return replace(source, align=aligner.aligner(source.resolution)) if align else source


def opened(args: "Arguments", resolution: int, channels: int, fit: str = "crop") -> "Source":
    """The images named on the command line, without those that lie where `--out` is; tells on stderr what was left out.

    Raises:
        LsapError: no image was found.
    """
    from lsap_jax.data import open_images

    out = args.flags.out
    source = open_images(args.positional, resolution=resolution, channels=channels, fit=fit, out=out)
    if source.skipped:
        print(f"{len(source.skipped)} files that are not images are left out", file=sys.stderr)
    if source.results:
        print(f"{len(source.results)} images in {out} are left out: the results go there", file=sys.stderr)
    return source


def statistics_counter() -> "Report":
    """Tells on stderr how far the latent statistics are, from their first samples on."""
    from lsap_jax.cli.progress import counter

    return counter("latent statistics of this generator, once", quiet=0)


def attached(G: "Generator", files: Any) -> "Generator":
    """`lsap_jax.runs.generators.attached` with progress on stderr."""
    from lsap_jax.runs import generators

    return generators.attached(G, files, statistics_counter())


def prepared(G: "Generator", config: "ConfigDict") -> "Generator":
    """`lsap_jax.runs.generators.prepared` with progress on stderr."""
    from lsap_jax.runs import generators

    return generators.prepared(G, config, statistics_counter())


def generator_of(folder: Path, run: "Mapping[str, Any]", other: str | None, weights: str | None = None) -> "Generator":
    """`lsap_jax.runs.generators.generator_of` with progress on stderr."""
    from lsap_jax.runs import generators

    return generators.generator_of(folder, run, other, statistics_counter(), weights)


def weights_flag(values: "FlagValues") -> None:
    """Defines `--weights` of commands on a refined run."""
    text(values, "weights", "file of the weights that the run was refined with, if it is not where run.json says")


def identity_flag(values: "FlagValues") -> None:
    """Defines `--identity` of commands that compare faces."""
    text(
        values, "identity", "for photographs of faces: dlib (bundled), or a face network that `lsap-jax convert` wrote"
    )


def meter(source: str | None) -> "IdentityMeter | None":
    """What identities are measured with, by `--identity`; tells on stderr if no face is looked for.

    Raises:
        LsapError: there is no such file, it is damaged, or holds something else.
    """
    from lsap_jax.metrics.identity import load_meter

    return load_meter(source, tell=lambda line: print(line, file=sys.stderr)) if source else None


def with_shown_statistics(G: "Generator") -> "Generator":
    """`lsap_jax.spaces.statistics.with_statistics` with progress on stderr."""
    from lsap_jax.spaces.statistics import with_statistics

    return with_statistics(G, statistics_counter())
