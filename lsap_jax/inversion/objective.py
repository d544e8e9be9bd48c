"""What an inversion minimises: the weighted sum of the terms of `lsap_jax.losses.terms` (eq. 4 of arXiv 2307.08995)."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Networks
from lsap_jax.losses.terms import TERMS, Context, Options, Targets
from lsap_jax.rendering.render import synthesise
from lsap_jax.spaces import Space

Codes = dict[str, jax.Array]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Which terms there are and how they are weighted; hashable.

    Attributes:
        weights: (name, weight) of terms; those that are not named weigh 0.
        options: of the terms.
    """

    weights: tuple[tuple[str, float], ...]
    options: Options = Options()

    @property
    def weight(self) -> dict[str, float]:
        """Name of a term -> its weight."""
        return {name: 0.0 for name in TERMS} | dict(self.weights)

    @property
    def needs_statistics(self) -> bool:
        """Whether a term needs the generator's latent statistics."""
        return any(TERMS[name].needs_statistics for name, weight in self.weights if weight > 0)

    @property
    def needs_encoder(self) -> bool:
        """Whether a term needs the generator's latent encoder."""
        return any(TERMS[name].needs_encoder for name, weight in self.weights if weight > 0)


def terms(
    objective: Objective,
    networks: Networks,
    space: Space,
    codes: Codes,
    targets: Targets,
    shown: Codes | None = None,
) -> dict[str, jax.Array]:
    """Every unweighted term by name, each [B].

    Args:
        shown: the codes that make the image, where latent noise makes them differ from `codes`; the priors are computed
            from `codes`.
    """
    G = networks.generator
    decoded = space.decode(G, codes)
    # The barrier keeps the compiler from moving the factors of the loss into the generator, which changes rounding.
    image = jax.lax.optimization_barrier(synthesise(G, decoded if shown is None else space.decode(G, shown)))
    context = Context(
        image=image,
        codes=codes,
        decoded=decoded,
        targets=targets,
        networks=networks,
        space=space,
        options=objective.options,
    )
    weight = objective.weight
    evaluated = [term for term in TERMS.values() if term.is_evaluated(weight[term.name], space, networks)]
    return {term.name: term.value(context) for term in evaluated}


def weighted(found: Mapping[str, jax.Array], weights: Mapping[str, float]) -> jax.Array:
    """Total loss [B] (eq. 4)."""
    return sum(weights[name] * value for name, value in found.items())  # type: ignore[return-value]


def objective_from_config(config: ConfigDict, space: Space) -> Objective:
    """The objective of a configuration.

    Raises:
        LsapError: a negative weight, an unknown term, or a term that this space has no use for.
    """
    weights = {name: float(value) for name, value in config.loss.items()}
    for name, value in weights.items():
        if name not in TERMS:
            raise LsapError(f"loss.{name}={value}: there is no such term; the terms are {', '.join(TERMS)}")
        if not value >= 0:
            raise LsapError(f"loss.{name}={value}: a weight has to be 0 or more")
        term = TERMS[name]
        if value > 0 and term.refusal and not term.fits(space):
            raise LsapError(f"loss.{name}={value}{term.refusal.format(space=space.name)}")
    options = config.nscd
    if options.reduce not in ("sum", "mean"):
        raise LsapError(f"nscd.reduce={options.reduce!r}: choose sum or mean")
    return Objective(
        weights=tuple(weights.items()),
        options=Options(
            eigenvalue_floor=config.eigenvalue_floor,
            nscd_reduce=options.reduce,
            nscd_renormalise=options.renormalise,
        ),
    )
