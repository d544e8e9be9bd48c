"""The terms of the loss (eq. 1 and 3 of arXiv 2307.08995, and the priors of others) as one table.

A new term is a function of a `Context` to one value per image and a row of `TERMS`, with its weight under `loss` in the
configurations. One that needs another network adds a row of `lsap_jax.losses.judges.JUDGES`, too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
from flax import struct

from lsap_jax.losses import prior
from lsap_jax.losses.alignment import alignment, nscd
from lsap_jax.losses.base import base_code
from lsap_jax.losses.judges import Networks, seen_under
from lsap_jax.losses.pixel import mse
from lsap_jax.models.generator import Generator
from lsap_jax.models.latent_statistics import LatentStatistics
from lsap_jax.networks.view import viewed
from lsap_jax.spaces import Space
from lsap_jax.spaces.decoded import Decoded
from lsap_jax.spaces.noise import maps_of

MASKED = " masked"


class Targets(struct.PyTreeNode, kw_only=True):
    """What the terms compare with, computed once per batch.

    Attributes:
        images: [B, R, R, C] in [-1, 1].
        seen: name of a judge -> its features of the targets; with `MASKED` at the end those under the mask, of judges
            that blacken what does not count.
        f0: [B, s, s, C], the start of the base code; None outside F spaces.
        mask: [B, R, R] in [0, 1], or None.
        rng: a key per image [B] for latent noise, or None.
    """

    images: jax.Array
    seen: Mapping[str, Any] = field(default_factory=dict)
    f0: jax.Array | None = None
    mask: jax.Array | None = None
    rng: jax.Array | None = None


@dataclass(frozen=True, kw_only=True)
class Options:
    """Details of the terms.

    Attributes:
        eigenvalue_floor: see `gaussian.whiten`.
        nscd_reduce, nscd_renormalise: see `alignment` and `nscd`.
    """

    eigenvalue_floor: float = 0.0
    nscd_reduce: str = "sum"
    nscd_renormalise: bool = False


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a term may look at.

    Attributes:
        image: of the codes [B, R, R, C], unclipped, with latent noise where the run uses it.
        codes: by name, [B, ...] each, without latent noise.
        decoded: the decoded codes, without latent noise.
        targets: of the batch.
        networks: with the `statistics`, the latent encoder or the judge that the term needs.
    """

    image: jax.Array
    codes: Mapping[str, jax.Array]
    decoded: Decoded
    targets: Targets
    networks: Networks
    space: Space
    options: Options

    @property
    def G(self) -> Generator:
        return self.networks.generator

    @property
    def ws(self) -> jax.Array:
        """[B, num_ws, w_dim]; for terms that fit spaces with ws alone."""
        assert self.decoded.ws is not None, "checked beforehand"
        return self.decoded.ws


@dataclass(frozen=True, kw_only=True)
class Term:
    """A term of the loss.

    Attributes:
        name: of the term, of its weight under `loss` in configurations, and of its curve.
        value: one value per image, [B].
        always: whether it is evaluated, and has a curve, even at weight 0; other terms need a weight above 0.
        judge: name of the judge that it needs. Without that judge the term is left out; whether that is an error, or
            worth a warning, is decided where the judge is made.
        needs_statistics: whether it needs the generator's latent statistics.
        needs_encoder: whether it needs the generator's latent encoder.
        fits: whether it applies to codes of a space.
        refusal: why a weight above 0 is refused in other spaces; follows "loss.NAME=WEIGHT" in the message. Where it is
            "", the term is left out there instead.
    """

    name: str
    value: Callable[[Context], jax.Array]
    always: bool = False
    judge: str | None = None
    needs_statistics: bool = False
    needs_encoder: bool = False
    fits: Callable[[Space], bool] = lambda space: True
    refusal: str = ""

    def is_evaluated(self, weight: float, space: Space, networks: Networks) -> bool:
        """Whether an objective with this weight evaluates it."""
        return (
            (self.always or weight > 0) and self.fits(space) and (self.judge is None or self.judge in networks.judges)
        )


def judged(name: str) -> Callable[[Context], jax.Array]:
    """The value of a term: the distance between image and target by the judge of this name."""

    def value(c: Context) -> jax.Array:
        judge, mask = c.networks.judges[name], c.targets.mask
        if mask is not None and judge.blackens:
            return judge.distance(judge.features(seen_under(mask, c.image)), c.targets.seen[name + MASKED], mask)
        return judge.distance(judge.features(c.image), c.targets.seen[name], mask)

    return value


def nscd_of(G: Generator, decoded: Decoded, renormalise: bool = False) -> jax.Array:
    """NSCD [B, L] over the layers that these codes' images are made from; `renormalise` see `nscd`."""
    statistics = G.given(decoded.c).statistics
    assert statistics is not None
    base = 0 if decoded.f is None else decoded.f.shape[1]

    def of(own: LatentStatistics, styles: Mapping[str, jax.Array]) -> jax.Array:
        return nscd(G.config, styles, own.anchors, base_resolution=base, renormalise=renormalise)

    return statistics.each(of, decoded.styles)  # type: ignore[no-any-return]


def _mse(c: Context) -> jax.Array:
    return mse(c.image, c.targets.images, c.targets.mask)


def _base(c: Context) -> jax.Array:
    assert c.targets.f0 is not None
    return base_code(c.codes["f"], c.targets.f0)


def _nscd(c: Context) -> jax.Array:
    return alignment(nscd_of(c.G, c.decoded, c.options.nscd_renormalise), c.options.nscd_reduce)


def _pn(c: Context) -> jax.Array:
    statistics = c.G.given(c.decoded.c).statistics
    assert statistics is not None
    return statistics.each(partial(prior.pn, floor=c.options.eigenvalue_floor), c.ws)  # type: ignore[no-any-return]


def _domain(c: Context) -> jax.Array:
    assert c.G.encoder is not None, "checked beforehand"
    return prior.domain(c.ws, c.G.encoder(viewed(c.image, c.G.encoder.view), c.G))


def _noise(c: Context) -> jax.Array:
    return prior.noise(maps_of(c.codes["noise"], c.space.noise_sides))


def _of_ws(name: str, value: Callable[[Context], jax.Array], **needs: Any) -> Term:
    """A term of ws, which codes that are styles do not have."""
    refusal = ": the term needs ws, and space {space} has only styles; set the weight to 0"
    return Term(name=name, value=value, fits=lambda space: space.has_ws, refusal=refusal, **needs)


# By name, in the order in which they are summed.
TERMS: dict[str, Term] = {
    term.name: term
    for term in (
        Term(name="mse", value=_mse, always=True),
        Term(name="perceptual", value=judged("perceptual"), always=True, judge="perceptual"),
        Term(name="base", value=_base, always=True, fits=lambda space: space.has_base),
        Term(name="nscd", value=_nscd, needs_statistics=True),
        _of_ws("pn", _pn, needs_statistics=True),
        _of_ws("delta", lambda c: prior.delta(c.ws)),
        _of_ws("w_norm", lambda c: prior.w_norm(c.ws, c.G.w_avg)),
        _of_ws("domain", _domain, needs_encoder=True),
        Term(
            name="noise",
            value=_noise,
            fits=lambda space: space.has_noise,
            refusal=": no noise is optimised; set noise_maps to true",
        ),
    )
}
