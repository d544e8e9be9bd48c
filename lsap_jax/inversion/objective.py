"""What an inversion minimises: eq. 1-4 of arXiv 2307.08995, one value per image."""

from typing import Any

import jax
from flax import struct
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.generator import Generator
from lsap_jax.inversion.rendering import synthesise
from lsap_jax.losses.base import base_code
from lsap_jax.losses.lpips_file import load_lpips
from lsap_jax.losses.perceptual import Perceptual, from_discriminator
from lsap_jax.losses.pixel import mse
from lsap_jax.spaces import Space

NO_PERCEPTUAL = "neither LPIPS weights nor a discriminator: the perceptual term is left out, MSE alone is minimised"


class Targets(struct.PyTreeNode, kw_only=True):
    """What the terms compare with, computed once per batch.

    Attributes:
        images: [B, R, R, C] in [-1, 1].
        features: of the targets, as `Perceptual.features` gives them; None without a perceptual term.
        f0: [B, s, s, C], the start of the base code; None outside F spaces.
        mask: [B, R, R] in [0, 1], or None.
    """

    images: jax.Array
    features: Any = None
    f0: jax.Array | None = None
    mask: jax.Array | None = None


def terms(
    G: Generator, perceptual: Perceptual | None, space: Space, codes: dict[str, jax.Array], targets: Targets
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Every unweighted loss term by name, each [B], and the image [B, R, R, C] they belong to."""
    # The barrier keeps the compiler from moving the factors of the loss into the generator, where they round otherwise.
    image = jax.lax.optimization_barrier(synthesise(G, space, codes))
    found = {"mse": mse(image, targets.images, targets.mask)}
    if perceptual is not None:
        found["perceptual"] = perceptual.distance(perceptual.features(image), targets.features, targets.mask)
    if space.has_base:
        assert targets.f0 is not None
        found["base"] = base_code(codes["f"], targets.f0)
    return found, image


def weighted(found: dict[str, jax.Array], weights: dict[str, float]) -> jax.Array:
    """Total loss [B] (eq. 1)."""
    return sum(weights[name] * value for name, value in found.items())  # type: ignore[return-value]


def loss_weights(config: ConfigDict) -> dict[str, float]:
    """Name of a term -> its weight.

    Raises:
        LsapError: a negative weight.
    """
    weights = {name: float(value) for name, value in config.loss.items()}
    for name, value in weights.items():
        if not value >= 0:
            raise LsapError(f"loss.{name}={value}: a weight is 0 or more")
    return weights


def make_perceptual(config: ConfigDict, G: Generator) -> tuple[Perceptual | None, dict[str, Any]]:
    """The perceptual distance of a configuration, and what results record about it.

    `config.perceptual.network`: "auto" takes LPIPS where `perceptual.weights` names a converted file, else the
    generator's discriminator, else nothing (noted under "warning"); "lpips", "discriminator" and "none" insist.

    Raises:
        LsapError: what was asked for is not there.
    """
    options = config.perceptual
    network = options.network
    if network not in ("auto", "lpips", "discriminator", "none"):
        raise LsapError(f"perceptual.network={network!r}: choose auto, lpips, discriminator or none")
    if network == "auto":
        network = "lpips" if options.weights else "discriminator" if G.discriminator is not None else "nothing"
    if network == "lpips":
        if not options.weights:
            raise LsapError("perceptual.network='lpips' needs perceptual.weights, a file that `lsap-jax convert` made")
        found = load_lpips(options.weights, options.resolution)
    elif network == "discriminator":
        found = from_discriminator(G)
    else:
        record: dict[str, Any] = {"network": "none"}
        return None, {**record, "warning": NO_PERCEPTUAL} if network == "nothing" else record
    return found, {"network": found.name, "resolution": found.resolution, "description": found.description}
