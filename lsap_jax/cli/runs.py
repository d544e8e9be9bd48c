"""What commands share: images, and a generator with what is used beside it."""

import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from lsap_jax.cli.arguments import Arguments
    from lsap_jax.data import Source
    from lsap_jax.data.source import Align
    from lsap_jax.models.generator import Generator


def images_of(args: "Arguments", G: "Generator", fit: str, align: bool = False) -> "Source":
    """The images named on the command line at the generator's resolution, without those that lie where `--out` is.

    Args:
        align: cut every picture to its face, as `lsap-jax align` does by default.

    Raises:
        LsapError: there are none.
    """
    source = opened(args, G.img_resolution, G.img_channels, fit)
    return replace(source, align=aligner(G.img_resolution)) if align else source


def opened(args: "Arguments", resolution: int, channels: int, fit: str = "crop") -> "Source":
    """The images named on the command line, without those that lie where `--out` is; tells on stderr what was left out.

    Raises:
        LsapError: there are none.
    """
    from lsap_jax.data import open_images

    out = args.flags.out
    source = open_images(args.positional, resolution=resolution, channels=channels, fit=fit, out=out)
    if source.skipped:
        print(f"{len(source.skipped)} other files beside the images are left out", file=sys.stderr)
    if source.results:
        print(f"{len(source.results)} images in {out} are left out: the results go there", file=sys.stderr)
    return source


def aligner(resolution: int) -> "Align":
    """For `Source.align`: the picture's one face by the detector of the package, upright at this resolution.

    Threads may share it; they look for faces one after another, since each search has the device to itself.
    """
    from PIL import Image

    from lsap_jax.data import ImageError
    from lsap_jax.faces.align import align
    from lsap_jax.faces.choose import FaceError, remarks
    from lsap_jax.faces.detect import load_detector, shrunk
    from lsap_jax.faces.upright import Small, find_meant

    detector, turn = load_detector(), threading.Lock()

    def aligned(picture: Image.Image) -> tuple[Image.Image, list[str]]:
        small = Small(shrunk(picture), picture.size)
        with turn:
            (found,) = find_meant(detector, [small], resolution)
        if isinstance(found, FaceError):
            raise ImageError(str(found))
        faces, chosen = found
        cut = align(picture, faces.landmarks[chosen], resolution)
        return Image.fromarray(cut), ["aligned to its face", *remarks(faces, chosen, picture.size, resolution)]

    return aligned


def attached(G: "Generator", files: Mapping[str, Any]) -> "Generator":
    """G with the base-code encoder and the P_N statistics of files in place of its own, where they are named.

    Args:
        files: a configuration's `init`, with "basecode" and "pnorm".
    """
    if files.get("basecode"):
        from lsap_jax.models.basecode_file import attach_basecode, load_basecode

        G = attach_basecode(G, load_basecode(files["basecode"]))
    if files.get("pnorm"):
        from lsap_jax.spaces.statistics import with_pnorm

        G = with_pnorm(with_shown_statistics(G), files["pnorm"])
    return G


def prepared(G: "Generator", config: "ConfigDict") -> "Generator":
    """G with its latent statistics where this configuration needs them."""
    from lsap_jax.inversion.settings import make_problem
    from lsap_jax.spaces import space_from_config

    return with_shown_statistics(G) if make_problem(config, space_from_config(config, G)).statistics else G


def with_shown_statistics(G: "Generator") -> "Generator":
    """`with_statistics`, telling on stderr how far it is where they have to be computed."""
    from lsap_jax.cli.progress import counter
    from lsap_jax.spaces.statistics import with_statistics

    return with_statistics(G, counter("latent statistics of this generator, once", quiet=0))


def generator_of(folder: Path, run: dict[str, Any], other: str | None) -> "Generator":
    """The generator that a run was made with, from where run.json says or from `other`.

    Raises:
        LsapError: there is none, or its weights are not those of the run.
    """
    from lsap_jax.models.generator_file import bundled, load_generator

    recorded = run.get("generator", {})
    name = other or recorded.get("name", "")
    if not other and name not in bundled() and not Path(name).is_file():
        raise LsapError(f"{folder}: its generator {name!r} is not there; name the file with --generator")
    G = attached(load_generator(name), run.get("config", {}).get("init", {}))
    if G.sha256 != recorded.get("sha256"):
        raise LsapError(
            f"{name}: has SHA-256 {G.sha256[:16]}…, the run {folder} had {str(recorded.get('sha256'))[:16]}…; name the "
            "right file with --generator"
        )
    return G
