"""The methods of result refinement: name -> how it is made. A new method is a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lsap_jax.configuration import nearest
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.refinement import dhr, hfgi, hyperstyle, pti_options, sam_options, styleres
from lsap_jax.refinement.refiner import Refiner


@dataclass(frozen=True, kw_only=True)
class Method:
    """How the refiner of a method is made.

    Attributes:
        make: (G, weights, **options) to the refiner; weights is the path of a file of networks, or None for those that
            come with G, if the method uses networks.
        options: names and defaults of its options.
        shared: options that are those of the inversion where they have their defaults: name -> key of its
            configuration.
        resolve: (G, weights, options) to the options as they are recorded: those among them that depend on the
            generator, on its networks and on what is installed.
        normalised: why it is refused for generators that normalise the features which they style (StyleGAN1); "" if it
            is not.
        moves: whether its steps, where it takes any, move the codes.
    """

    make: Callable[..., Refiner]
    options: Mapping[str, Any] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)
    resolve: Callable[..., dict[str, Any]] = lambda G, weights, options: dict(options)
    normalised: str = ""
    moves: bool = False


LOST = "what it adds to features of a convolution loses its mean and scale there"

REFINERS: dict[str, Method] = {
    "pti": Method(make=pti_options.make, options=pti_options.OPTIONS, shared={"lpips": "perceptual.weights"}),
    "styleres": Method(
        make=styleres.make,
        options=styleres.OPTIONS,
        shared={"lpips": "perceptual.weights"},
        normalised=LOST,
        moves=True,
    ),
    "hfgi": Method(make=hfgi.make, normalised=LOST),
    "hyperstyle": Method(
        make=hyperstyle.make,
        options=hyperstyle.OPTIONS,
        normalised="it predicts changes of kernels that are modulated by styles, which are not there",
    ),
    "sam": Method(
        make=sam_options.make,
        options=sam_options.OPTIONS,
        shared={"lpips": "perceptual.weights"},
        resolve=sam_options.resolved,
        moves=True,
    ),
    "dhr": Method(make=dhr.make, options=dhr.OPTIONS, shared={"lpips": "perceptual.weights"}, resolve=dhr.resolved),
}


def find_method(name: str) -> Method:
    """The method of a name.

    Raises:
        LsapError: this version has no such method; the message lists the methods that it has.
    """
    if name not in REFINERS:
        raise LsapError(f"method {name!r}: this version of lsap_jax does not have it; it has {', '.join(REFINERS)}")
    return REFINERS[name]


def check_family(name: str, G: Generator) -> None:
    """Raises LsapError where the networks of a method cannot refine generators of this family."""
    reason = find_method(name).normalised
    if reason and any(layer.styles_features for layer in G.config.layers):
        raise LsapError(
            f"method {name!r}: StyleGAN1 normalises features before it styles them, and {reason}; use pti, dhr or sam"
        )


def checked_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a method, an integer for a number being a number; None may stand for and be replaced by anything.

    Raises:
        LsapError: no such method or option, or one of another type than its default.
    """
    known, found = find_method(name).options, dict(options)
    for key, value in options.items():
        if key not in known:
            near = nearest(key, known)
            hint = f"did you mean {near}? " if near else ""
            raise LsapError(f"method {name!r}: has no option {key!r}; {hint}its options: {', '.join(known) or 'none'}")
        old = known[key]
        if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
            found[key] = float(value)
        elif old is not None and value is not None and not isinstance(value, type(old)):
            raise LsapError(
                f"method {name!r}: {key}={value!r} is of type {type(value).__name__}; it needs {type(old).__name__}, "
                f"as in {old!r}"
            )
    return found


def make_refiner(
    name: str, G: Generator, weights: str | None = None, options: Mapping[str, Any] | None = None
) -> tuple[Refiner, dict[str, Any]]:
    """The refiner of a method, and all its options.

    Args:
        weights: file of its networks; None takes those that come with G.
        options: those that differ from the defaults.

    Raises:
        LsapError: no such method or option, or its networks are missing or belong to another generator.
    """
    method = find_method(name)
    check_family(name, G)
    chosen = method.resolve(G, weights, {**method.options, **checked_options(name, options or {})})
    return method.make(G, weights, **chosen), chosen
