"""Searches for directions in several spaces at once: the methods of `lsap-jax find-directions`."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from flax.traverse_util import flatten_dict

from lsap_jax.editing import interfacegan as method
from lsap_jax.editing import styleclip
from lsap_jax.editing.direction import Direction, near
from lsap_jax.editing.named import cached, ganspace_directions, sefa_directions
from lsap_jax.editing.random import random_direction
from lsap_jax.errors import LsapError
from lsap_jax.models.attributes import attribute_scores
from lsap_jax.models.attributes_file import load_attributes
from lsap_jax.models.generator import Generator
from lsap_jax.spaces.statistics import Report, check_one_class
from lsap_jax.storage.weights_file import digest

COMPONENTS = 10


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched for, and how it is reported.

    Attributes:
        components: how many directions per space, of ganspace, sefa and random.
        samples: of the generator, of ganspace and interfacegan; None is the method's own number.
        seed: of the samples, and of the first random direction.
        layers: the range that the directions are meant for; sefa reads the weights of these layers alone.
        regression: of ganspace in z, "closed" or "joint".
        attributes: file of a classifier; None is the one bundled with the generator.
        names: attributes to find; empty for all of the classifier's.
        condition: attributes that the directions leave as they are.
        relevance, text, statistics: files of styleclip; without statistics, samples give the deviations.
        beta: of styleclip, least relevance of a channel that moves; None is the usual one.
        batch_size: images at a time.
        counter: from a text that says what is counted to a report, called with (done, total).
        tell: called with a line about each attribute that is left out.
    """

    components: int = COMPONENTS
    samples: int | None = None
    seed: int = 0
    layers: str | None = None
    regression: str = "closed"
    attributes: str | None = None
    names: Sequence[str] = ()
    condition: Sequence[str] = ()
    relevance: str | None = None
    text: str | None = None
    statistics: str | None = None
    beta: float | None = None
    batch_size: int = 16
    counter: Callable[[str], Report | None] = lambda what: None
    tell: Callable[[str], object] = lambda line: None


Finder = Callable[[Generator, Sequence[str], Search], list[Direction]]


def by_ganspace(G: Generator, spaces: Sequence[str], search: Search) -> list[Direction]:
    """The first principal components of w, for families z, w and s (`ganspace_directions`)."""
    found: list[Direction] = []
    for space in spaces:
        found += ganspace_directions(
            G,
            space,
            search.components,
            samples=search.samples,
            seed=search.seed,
            regression=search.regression,
            report=search.counter("principal components of w"),
        )
    return with_layers(found, search.layers)


def by_sefa(G: Generator, spaces: Sequence[str], search: Search) -> list[Direction]:
    """The first eigenvectors of the weights that read w, for families w and s (`sefa_directions`)."""
    return [one for space in spaces for one in sefa_directions(G, space, search.components, search.layers)]


def by_random(G: Generator, spaces: Sequence[str], search: Search) -> list[Direction]:
    """Random directions of seeds `seed`, `seed + 1`, … for every family (`random_direction`)."""
    seeds = range(search.seed, search.seed + search.components)
    return with_layers([random_direction(G, space, seed) for space in spaces for seed in seeds], search.layers)


def by_interfacegan(G: Generator, spaces: Sequence[str], search: Search) -> list[Direction]:
    """A direction per attribute for families z, w and s; the samples are drawn and scored once for all of them.

    Each attribute is cached by itself. Attributes that too few samples have are left out, unless they were asked for
    by name.

    Raises:
        LsapError: another family, an unknown attribute, or no attribute that enough samples have.
    """
    for space in spaces:
        method.checked_space(space)
    method.support_vector_machine()
    check_one_class(G, "InterFaceGAN")
    scorer, known, scorer_digest = attribute_scorer(G, search.attributes)
    if unknown := [name for name in (*search.names, *search.condition) if name not in known]:
        raise LsapError(f"attribute {unknown[0]!r}{near(unknown[0], known)}")
    samples, seed = search.samples or method.SAMPLES, search.seed

    @cache
    def scored() -> method.Scored:
        report = search.counter("samples drawn and scored")
        return method.sample(G, scorer, samples, seed, batch_size=search.batch_size, report=report)

    def found(space: str, name: str) -> Direction:
        settings = {"space": space, "attribute": name, "scorer": scorer_digest, "samples": samples, "seed": seed}
        settings |= {"ratio": method.RATIO, "validation": method.VALIDATION}
        return cached(G, "interfacegan", settings, lambda: method.interfacegan(G, space, scored(), [name], seed=seed))[
            0
        ]

    directions: list[Direction] = []
    for space in spaces:
        away = [found(space, name) for name in search.condition]
        ones = []
        for name in search.names or known:
            try:
                one = found(space, name)
            except LsapError as error:
                if search.names:
                    raise
                search.tell(f"left out: {error}")
                continue
            ones.append(method.condition(one, [other for other in away if other.name != name]))
        directions += method.in_deviations(G, ones, method.drawn(G, samples, seed)) if away else ones
    if not directions:
        raise LsapError(f"none of {', '.join(known)} can be found in {samples} samples; give more --samples")
    return with_layers(directions, search.layers)


def by_styleclip(G: Generator, spaces: Sequence[str], search: Search) -> list[Direction]:
    """StyleCLIP's global directions of S from files (`styleclip.global_directions`).

    Raises:
        LsapError: another family, or a file is not given or not of this generator.
    """
    if list(spaces) != ["s"]:
        raise LsapError(f"StyleCLIP's global directions are of s, not of {', '.join(spaces)}; give --space s")
    if search.relevance is None or search.text is None:
        raise LsapError("StyleCLIP's global directions need the files --relevance and --text; see --help")
    if search.statistics is None:
        check_one_class(G, "StyleCLIP")
        deviations = styleclip.drawn_deviations(G, search.samples or styleclip.SAMPLES, search.seed)
    else:
        deviations = styleclip.read_deviations(G, search.statistics)
    beta = styleclip.BETA if search.beta is None else search.beta
    found = styleclip.global_directions(G, search.relevance, search.text, deviations, beta)
    return with_layers(found, search.layers)


FINDERS: dict[str, Finder] = {
    "ganspace": by_ganspace,
    "sefa": by_sefa,
    "interfacegan": by_interfacegan,
    "random": by_random,
    "styleclip": by_styleclip,
}


def attribute_scorer(G: Generator, source: str | None) -> tuple[method.Scorer, list[str], str]:
    """(scorer, its attributes, a digest of both) of a classifier's file; None is the one bundled with this generator.

    Raises:
        LsapError: see `load_attributes`.
    """
    attributes = load_attributes(source, G)
    weights = digest({"/".join(path): leaf for path, leaf in flatten_dict(dict(attributes.params)).items()})
    meaning = repr((weights, sorted((name, tuple(sides)) for name, sides in attributes.binary.items())))
    names = list(attributes.binary)
    return lambda images: attribute_scores(attributes, images), names, hashlib.sha256(meaning.encode()).hexdigest()


def with_layers(directions: Sequence[Direction], layers: str | None) -> list[Direction]:
    """The directions, meant for a range of layers where one is given."""
    return [one if layers is None else replace(one, layers=layers) for one in directions]
