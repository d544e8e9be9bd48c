"""What an inversion minimises: eq. 1-4 of arXiv 2307.08995, one value per image."""

from dataclasses import dataclass
from typing import Any

import jax
from flax import struct
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.losses import prior
from lsap_jax.losses.alignment import alignment, nscd
from lsap_jax.losses.base import base_code
from lsap_jax.losses.pixel import mse
from lsap_jax.models.generator import Generator
from lsap_jax.models.lpips_file import load_lpips
from lsap_jax.models.perceptual import Perceptual, from_discriminator
from lsap_jax.networks.pixel_maps import lanczos
from lsap_jax.rendering.render import Decoded, decode, synthesise
from lsap_jax.spaces import Space
from lsap_jax.spaces.noise import maps_of

Codes = dict[str, jax.Array]

NO_PERCEPTUAL = "neither LPIPS weights nor a discriminator: the perceptual term is left out, MSE alone is minimised"


PRIORS = ("pn", "delta", "w_norm", "domain")  # of ws


class Targets(struct.PyTreeNode, kw_only=True):
    """What the terms compare with, computed once per batch.

    Attributes:
        images: [B, R, R, C] in [-1, 1].
        features: of the targets, as `Perceptual.features` gives them; None without a perceptual term.
        f0: [B, s, s, C], the start of the base code; None outside F spaces.
        mask: [B, R, R] in [0, 1], or None.
        rng: a key per image [B] for latent noise, or None.
    """

    images: jax.Array
    features: Any = None
    f0: jax.Array | None = None
    mask: jax.Array | None = None
    rng: jax.Array | None = None


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Which terms there are and how they are weighted; hashable.

    Attributes:
        weights: (name, weight) of mse, perceptual, base, pn, nscd, delta, w_norm, domain, noise.
        nscd_reduce, nscd_renormalise: see `alignment` and `nscd`.
        eigenvalue_floor: see `gaussian.whiten`.
    """

    weights: tuple[tuple[str, float], ...]
    eigenvalue_floor: float = 0.0
    nscd_reduce: str = "sum"
    nscd_renormalise: bool = False

    @property
    def weight(self) -> dict[str, float]:
        """Name of a term -> its weight."""
        return dict(self.weights)

    @property
    def statistics(self) -> bool:
        """Whether a term needs the generator's latent statistics."""
        return self.weight["pn"] > 0 or self.weight["nscd"] > 0


def terms(
    options: Terms,
    G: Generator,
    perceptual: Perceptual | None,
    space: Space,
    codes: Codes,
    targets: Targets,
    shown: Codes | None = None,
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Every unweighted loss term by name, each [B], and the image [B, R, R, C] they belong to.

    Args:
        shown: the codes that make the image where they differ from `codes`, which the priors are taken of (latent
            noise).
    """
    decoded = decode(G, space, codes)
    # The barrier keeps the compiler from moving the factors of the loss into the generator, where they round otherwise.
    image = jax.lax.optimization_barrier(synthesise(G, decoded if shown is None else decode(G, space, shown)))
    found = {"mse": mse(image, targets.images, targets.mask)}
    if perceptual is not None:
        found["perceptual"] = perceptual.distance(perceptual.features(image), targets.features, targets.mask)
    if space.has_base:
        assert targets.f0 is not None
        found["base"] = base_code(codes["f"], targets.f0)
    return found | priors(options, G, space, codes, decoded, image), image


def priors(
    options: Terms, G: Generator, space: Space, codes: Codes, decoded: Decoded, image: jax.Array
) -> dict[str, jax.Array]:
    """The terms that do not look at the target, where their weight is above 0."""
    wanted = {name for name, weight in options.weights if weight > 0}
    found = {}
    if "nscd" in wanted:
        found["nscd"] = alignment(nscd_of(options, G, decoded), options.nscd_reduce)
    if wanted.intersection(PRIORS):
        assert decoded.ws is not None, "checked beforehand"
        if "pn" in wanted:
            assert G.statistics is not None
            found["pn"] = prior.pn(G.statistics, decoded.ws, options.eigenvalue_floor)
        if "delta" in wanted:
            found["delta"] = prior.delta(decoded.ws)
        if "w_norm" in wanted:
            found["w_norm"] = prior.w_norm(decoded.ws, G.w_avg)
        if "domain" in wanted:
            assert G.encoder is not None, "checked beforehand"
            seen = lanczos(image, G.encoder.config.input_resolution)
            found["domain"] = prior.domain(decoded.ws, G.encoder(seen))
    if "noise" in wanted:
        found["noise"] = prior.noise(maps_of(codes["noise"], space.noise_sides))
    return found


def nscd_of(options: Terms, G: Generator, decoded: Decoded) -> jax.Array:
    """NSCD [B, L] over the layers that these codes' images are made from."""
    assert G.statistics is not None
    return nscd(
        G.config,
        decoded.styles,
        G.statistics.anchors,
        base_resolution=0 if decoded.f is None else decoded.f.shape[1],
        renormalise=options.nscd_renormalise,
    )


def weighted(found: dict[str, jax.Array], weights: dict[str, float]) -> jax.Array:
    """Total loss [B] (eq. 1)."""
    return sum(weights[name] * value for name, value in found.items())  # type: ignore[return-value]


def terms_from_config(config: ConfigDict, space: Space) -> Terms:
    """The terms of a configuration.

    Raises:
        LsapError: a negative weight, or a term that this space has no use for.
    """
    weights = {name: float(value) for name, value in config.loss.items()}
    for name, value in weights.items():
        if not value >= 0:
            raise LsapError(f"loss.{name}={value}: a weight is 0 or more")
        if value > 0 and name in PRIORS and space.detail.key == "s":
            raise LsapError(
                f"loss.{name}={value}: is a term of ws, and space {space.name} has only styles; set it to 0"
            )
    if weights["noise"] > 0 and not space.has_noise:
        raise LsapError(f"loss.noise={weights['noise']}: no noise is optimised; set noise_maps to true")
    options = config.nscd
    if options.reduce not in ("sum", "mean"):
        raise LsapError(f"nscd.reduce={options.reduce!r}: choose sum or mean")
    return Terms(
        weights=tuple(weights.items()),
        eigenvalue_floor=config.eigenvalue_floor,
        nscd_reduce=options.reduce,
        nscd_renormalise=options.renormalise,
    )


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
