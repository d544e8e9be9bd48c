"""Networks that compare two images, by name, made from a configuration in one place.

A new judge (an identity network, say) is an object that keeps the contract of `Judge` and a row of `JUDGES`; its term
is a row of `lsap_jax.losses.terms.TERMS`. Functions that compute take `Networks` as a whole, so that no signature
changes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
from flax import struct
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.models.network_file import load
from lsap_jax.models.perceptual import Perceptual, from_discriminator
from lsap_jax.models.vgg_features import VGG16, VggFeatures
from lsap_jax.networks.pixel_maps import area

NO_PERCEPTUAL = "neither LPIPS weights nor a discriminator: the perceptual term is left out, MSE alone is minimised"


class Judge(Protocol):
    """A distance between the features of two images. It is a pytree: its weights are arguments of `jit`."""

    @property
    def name(self) -> str:
        """Name of the network in results; `column` names the column of its distance."""

    @property
    def resolution(self) -> int:
        """Larger targets are reduced to this many pixels a side before features are computed; 0 keeps their size."""

    @property
    def blackens(self) -> bool:
        """Whether a mask multiplies images before their features are computed (`seen_under`), instead of weighting
        what the features tell.
        """

    @property
    def description(self) -> str:
        """One line for results that specifies the distance."""

    def features(self, images: jax.Array) -> Any:
        """Features of images [B, H, W, C] in [-1, 1]: a tree of arrays [B, ...]."""

    def distance(self, a: Any, b: Any, mask: jax.Array | None = None) -> jax.Array:
        """Distance [B] between the features of two batches; mask [B, H, W] in [0, 1] weights pixels."""

    def freeze(self, side: int, winograd: int = 0) -> "Judge":
        """The judge for images of `side` pixels and steps that do not change its weights; see `Generator.freeze`."""


def seen_under(mask: jax.Array | None, images: jax.Array) -> jax.Array:
    """Images [B, h, w, C] as a judge that `blackens` sees them: times the mask [B, H, W], averaged to their size."""
    return images if mask is None else images * area(mask[..., None], (images.shape[1], images.shape[2]))


class Networks(struct.PyTreeNode, kw_only=True):
    """All networks that a batch needs: the generator with its companion networks, and the judges by name."""

    generator: Generator
    judges: Mapping[str, Judge] = field(default_factory=dict)

    def freeze(self, winograd: int = 0, half_blocks: int = 0, changed: tuple[str, ...] = ()) -> "Networks":
        """The networks in the form that steps use; pictures and metrics are computed with the original weights."""
        side = self.generator.img_resolution
        return Networks(
            generator=self.generator.freeze(winograd, half_blocks, changed),
            judges={name: judge.freeze(side, winograd) for name, judge in self.judges.items()},
        )


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A judge made from a configuration.

    Attributes:
        judge: None where it is left out.
        record: entry of run.json under the judge's name.
        files: configuration key -> file of the judge's weights; Ray ships these files to the actors.
    """

    judge: Judge | None
    record: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)


def perceptual(config: ConfigDict, G: Generator) -> Judged:
    """The perceptual distance of a configuration.

    `config.perceptual.network`: "auto" takes LPIPS where `perceptual.weights` names a converted file, else the
    generator's discriminator, else nothing (noted under "warning"); "lpips", "discriminator" and "none" take just that;
    "vgg" is IDInvert's distance, with the backbone of a file of LPIPS-VGG.

    Raises:
        LsapError: the network that the configuration names is not available.
    """
    options = config.perceptual
    network, files = options.network, {}
    if network not in ("auto", "lpips", "vgg", "discriminator", "none"):
        raise LsapError(f"perceptual.network={network!r}: choose auto, lpips, vgg, discriminator or none")
    if network == "auto":
        network = "lpips" if options.weights else "discriminator" if G.discriminator is not None else "nothing"
    if network in ("lpips", "vgg"):
        if not options.weights:
            raise LsapError(
                f"perceptual.network={network!r} needs perceptual.weights, a file that `lsap-jax convert` made"
            )
        found = load(options.weights, "lpips").replace(resolution=options.resolution)
        found = vgg_of(found, options.weights) if network == "vgg" else found
        files = {"perceptual.weights": str(options.weights)}
    elif network == "discriminator":
        found = from_discriminator(G)
    else:
        warning = {"warning": NO_PERCEPTUAL} if network == "nothing" else {}
        return Judged(judge=None, record={"network": "none", **warning})
    record = {"network": found.name, "resolution": found.resolution, "description": found.description}
    return Judged(judge=found, record=record, files=files)


def vgg_of(lpips: Perceptual, file: str) -> VggFeatures:
    """IDInvert's distance with the backbone of LPIPS; raises LsapError unless that is VGG16."""
    if lpips.backbone != VGG16:
        raise LsapError(f"perceptual.network='vgg' needs LPIPS-VGG; {file} has {lpips.backbone}")
    return VggFeatures(network=lpips.network, resolution=lpips.resolution)


# Name -> function that makes a judge from a configuration and a generator; it returns None where the configuration asks
# for no such judge.
JUDGES: dict[str, Callable[[ConfigDict, Generator], Judged | None]] = {"perceptual": perceptual}


def make_judges(config: ConfigDict, G: Generator) -> dict[str, Judged]:
    """The judges of a configuration by name.

    Raises:
        LsapError: a network that the configuration names is not available.
    """
    made = {name: make(config, G) for name, make in JUDGES.items()}
    return {name: judged for name, judged in made.items() if judged is not None}


def column(judge: Judge) -> str:
    """Column of a judge's distance in results."""
    return "discriminator_distance" if judge.name == "discriminator" else judge.name
