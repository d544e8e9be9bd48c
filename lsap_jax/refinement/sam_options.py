"""The options of SAM: defaults, ranges, and the refiner that they make."""

import warnings
from collections.abc import Mapping
from typing import Any

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.models.invertibility import InvertibilityNetwork
from lsap_jax.models.network_file import load
from lsap_jax.networks.arithmetic import PRECISIONS
from lsap_jax.refinement.options import check_ranges, needed_judge
from lsap_jax.refinement.parsing import load_parser
from lsap_jax.refinement.sam import Sam
from lsap_jax.refinement.segments import KINDS, chosen
from lsap_jax.spaces.statistics import with_statistics

OPTIONS: dict[str, Any] = {
    "variant": "original",
    "layers": "",
    "segments": "auto",
    "count": 200,
    "parser": "",
    "maps": "auto",
    "tau": 0.225,
    "steps": 1001,
    "map_steps": 501,
    "lr": 0.05,
    "lr_z": 0.01,
    "mse": 1.0,
    "perceptual": 1.0,
    "mvg": 1e-8,
    "delta": 1e-3,
    "offset": 5.0,
    "network": "auto",
    "lpips": "",
    "resolution": 256,
    "edit": "paste",
    "keep": "last",
    "dtype": "float16",
    "precision": "high",
}
LEAST = {"count": 1, "steps": 0, "map_steps": 0, "mse": 0, "perceptual": 0, "mvg": 0, "delta": 0, "offset": 0}
POSITIVE = ("lr", "lr_z", "tau", "resolution")
CHOICES = {
    "variant": ("original", "ganinverter"),
    "segments": ("auto", "parser", *KINDS),
    "maps": ("auto", "network", "measured"),
    "edit": ("paste", "add"),
    "keep": ("last", "best"),
    "dtype": ("float16", "float32"),
    "precision": tuple(PRECISIONS),
}
LAYERS = {"original": (16, 32, 64, 128), "ganinverter": (16, 32, 128)}


def resolved(G: Generator, weights: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with what their defaults are for a generator, its networks, and what is installed.

    Raises:
        LsapError: a value is out of its range.
    """
    check_ranges(options, least=LEAST, positive=POSITIVE, choices=CHOICES)
    found = dict(options)
    found["segments"] = segments_kind(options)
    if options["maps"] == "auto":
        there = weights is not None or InvertibilityNetwork.kind in G.parts
        found["maps"] = "network" if there else "measured"
        if not there:
            said = "no network says where codes fail, so each latent is fitted alone first, which takes longer"
            warnings.warn(f"method 'sam': {said}; `lsap-jax train-refiner --config train_sam` makes one", stacklevel=2)
    found["layers"] = options["layers"] or layers_for(G, options["variant"])
    return found


def segments_kind(options: Mapping[str, Any]) -> str:
    """What segments are: by the parser, where one is given.

    Raises:
        LsapError: a parser and segments without it are asked for, or the other way round.
    """
    kind, parser = options["segments"], options["parser"]
    if kind == "parser" and not parser:
        raise LsapError("refine.segments='parser': needs a converted parser of faces; name it with refine.parser")
    if kind not in ("auto", "parser") and parser:
        raise LsapError(f"refine.segments={kind!r}: has no use for refine.parser={parser!r}; leave one of both out")
    return "parser" if parser else chosen("sam", kind)


def layers_for(G: Generator, variant: str) -> str:
    """The resolutions of the original's blocks that lie below that of the images, as an option; at least one."""
    below = [r for r in LAYERS[variant] if r < G.img_resolution] or [G.img_resolution // 2]
    return ",".join(map(str, below))


def resolutions_of(G: Generator, layers: str) -> tuple[int, ...]:
    """The resolutions that an option lists, as "16,32", ascending.

    Raises:
        LsapError: one is no number, or no block below that of the image.
    """
    words = [word.strip().removeprefix("b") for word in layers.split(",") if word.strip()]
    known = [str(r) for r in G.config.resolutions[:-1] if r > G.config.resolutions[0]]
    if not words or (wrong := [word for word in words if word not in known]):
        raise LsapError(
            f"refine.layers={layers!r}: {wrong[0] if words else 'nothing'} is not the resolution of a block whose "
            f"features can be offset; there are {', '.join(known)}"
        )
    return tuple(sorted({int(word) for word in words}))


def make(G: Generator, weights: str | None, **options: Any) -> Sam:
    """SAM with these options, all of `OPTIONS` as `resolved` has them.

    Raises:
        LsapError: a value is out of range, or there is no perceptual distance.
    """
    options = resolved(G, weights, options)
    resolutions = resolutions_of(G, options["layers"])
    network = network_for(G, weights, resolutions) if options["maps"] == "network" else None
    if options["mvg"] and G.c_dim:
        raise LsapError("refine.mvg: statistics of a conditional generator are those of a class; set refine.mvg=0")
    statistics = with_statistics(G).statistics if options["mvg"] else None
    plain = {key: options[key] for key in OPTIONS if key not in ("layers", "maps", "network", "lpips", "parser")}
    parser = load_parser(options["parser"]) if options["parser"] else None
    judge = needed_judge("sam", G, options)
    return Sam(parser=parser, network=network, judge=judge, statistics=statistics, resolutions=resolutions, **plain)


def network_for(G: Generator, weights: str | None, resolutions: tuple[int, ...]) -> InvertibilityNetwork:
    """The network of a file, else the one that comes with the generator.

    Raises:
        LsapError: there is none, it does not fit the generator, or it does not judge one of these layers.
    """
    kind = InvertibilityNetwork.kind
    network: InvertibilityNetwork | None = G.parts.get(kind) if weights is None else load(weights, kind)
    if network is None:
        raise LsapError(
            "method 'sam': this generator comes without SAM's network; name a converted file of one with --weights, "
            "train one with `lsap-jax train-refiner --config train_sam`, or set refine.maps=measured"
        )
    network.check_fits(G.config)
    if missing := [r for r in resolutions if r not in network.config.resolutions]:
        raise LsapError(
            f"method 'sam': its network does not judge offsets at {missing[0]} px, only at "
            f"{', '.join(map(str, network.config.resolutions))} px; set refine.layers to some of these"
        )
    return network
