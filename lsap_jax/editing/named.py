"""Directions by name, and the cache of those that took time to find.

| text                         | directions                                                                           |
|------------------------------|--------------------------------------------------------------------------------------|
| random:SEED, random:SEED:code| of the paper's variance, or that of its code (`random`)                              |
| ganspace:3, ganspace:0-4     | components; in z spaces those of eq. 6, else those of W                              |
| sefa:3, sefa:0-4             | eigenvectors, in W                                                                   |
| gradient:NAME                | the gradient of an attribute; also gradient:FILE:NAME, and :STEPS behind (`gradient`)|
| ganspace-3, sefa-3, random-7 | the names that these get: the same as ganspace:3, sefa:3, random:7                   |
| FILE, FILE:NAME              | all of a file that suit the space, or one (`load_directions`)                        |
| NAME                         | of those bundled with the generator, else the last one that was found and cached     |

FILE@SPACE and NAME@SPACE choose the space (z, w, s, p, pn) if there are several, or if nothing else gives it.
Directions of W serve s spaces too, where the same step is taken in styles (`in_styles`).

The cache is `directions/DIGEST` in the user's cache folder, DIGEST the first 16 digits of the SHA-256 of mapping and
synthesis: a file for each method and its settings.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from lsap_jax.cache import user_folder
from lsap_jax.editing import ganspace, gradient
from lsap_jax.editing.direction import FAMILIES, Direction, family, near
from lsap_jax.editing.direction_file import read_directions, save_directions
from lsap_jax.editing.imported import load_directions
from lsap_jax.editing.random import DEVIATIONS, random_direction
from lsap_jax.editing.sefa import sefa
from lsap_jax.editing.styles import in_styles
from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.spaces import Space, parse_space
from lsap_jax.spaces.space import NAMES
from lsap_jax.spaces.statistics import Report, check_one_class, class_suffix
from lsap_jax.storage.weights_file import Unwritable

COMPONENTS = 80  # found at once, as GANSpace's authors do
NUMBERED = re.compile(r"([a-z]+)-(\d+)(-code)?")
FORMULAS = 1  # raised whenever a method gives something else than before
SHOWN = 12  # names in a message


class Method(NamedTuple):
    """A way to find directions: METHOD:TEXT on the command line.

    Attributes:
        find: from the generator, the family that is wanted, the text behind the colon and a report to directions.
        families: those that it has directions of.
        text: how it is written.
    """

    find: Callable[[Generator, str, str, Report | None], list[Direction]]
    families: tuple[str, ...]
    text: str


def find(
    G: Generator,
    space: str | Space,
    text: str,
    report: Report | None = None,
    note: Callable[[str], object] | None = None,
) -> list[Direction]:
    """The directions that a text of the table above names, for codes of a space.

    Args:
        report: called with (samples done, samples in all) where components have to be found first.
        note: called with a line that says where a direction from the cache comes from.

    Raises:
        LsapError: no direction of this name is there for this space; the message lists those that are.
    """
    wanted, text = family(parse_space(space)), text.strip()
    method, _, rest = text.partition(":")
    if method in METHODS and rest and not os.path.isfile(text):
        return METHODS[method].find(G, wanted, rest, report)
    bare, at, given = text.rpartition("@")
    if not at or given not in FAMILIES:
        bare, given = text, ""
    path, _, name = bare.rpartition(":")
    if os.path.isfile(bare):
        return _of_file(G, wanted, bare, None, given)
    if path and os.path.isfile(path):
        return _of_file(G, wanted, path, name, given)
    if "/" in bare or Path(path or bare).suffix in (".safetensors", ".pt", ".npy", ".npz"):
        raise LsapError(f"{path or bare}: no such file of directions; check the path")
    numbered = NUMBERED.fullmatch(bare)
    if numbered and numbered[1] in METHODS and suitable(wanted, given or wanted):
        method, number, variance = numbered.groups("")
        return suited(G, wanted, METHODS[method].find(G, given or wanted, number + variance.replace("-", ":"), report))
    return [_of_name(G, wanted, bare, given, note)]


def ganspace_directions(
    G: Generator,
    space: str,
    components: int,
    *,
    samples: int | None = None,
    seed: int = 0,
    regression: str = "closed",
    report: Report | None = None,
) -> list[Direction]:
    """The first components of GANSpace for a family z, w or s, from the cache or found now.

    Args:
        samples: a million by default.
        regression: of z (`ganspace_z`).

    Raises:
        LsapError: another family, more components than w has dimensions, no fewer than samples, or no class of a
            conditional generator.
    """
    _check_method("GANSpace", space)
    check_one_class(G, "GANSpace")
    if not 1 <= components <= G.w_dim:
        raise LsapError(f"{components} components: a generator of w_dim {G.w_dim} has 1 to {G.w_dim}")
    samples = samples or ganspace.SAMPLES
    most = max(components, min(COMPONENTS, G.w_dim, samples - 1))
    settings: dict[str, Any] = {"components": most, "samples": samples, "seed": seed}
    if space == "z":
        settings |= {"regression": regression, "regression_samples": ganspace.REGRESSION_SAMPLES}
        found = cached(G, "ganspace-z", settings, lambda: ganspace.ganspace_z(G, **settings, report=report))
    else:
        found = cached(G, "ganspace-w", settings, lambda: ganspace.ganspace_w(G, **settings, report=report))
    return suited(G, space, found[:components])


def sefa_directions(G: Generator, space: str, components: int, layers: str | None = None) -> list[Direction]:
    """The first components of SeFa for a family w or s; LsapError for another."""
    _check_method("SeFa", space)
    return suited(G, space, sefa(G, components, layers))


def suited(G: Generator, space: str, directions: Iterable[Direction]) -> list[Direction]:
    """The directions of a family; for s also those of w, in styles, unless s has one of the same name."""
    directions = tuple(directions)
    own = {one.name for one in directions if one.space == space}
    found = []
    for one in directions:
        if one.space == space:
            found.append(one)
        elif suits(space, one) and one.name not in own:
            found.append(in_styles(G, one))
    return found


def suits(wanted: str, one: Direction) -> bool:
    """Whether a direction can be used in a family: in its own, and one of w in styles, if it is the same everywhere."""
    return one.space == wanted or suitable(wanted, one.space) and one.trajectory is None


def cached(
    G: Generator, method: str, settings: Mapping[str, Any], compute: Callable[[], Sequence[Direction]]
) -> tuple[Direction, ...]:
    """Directions that were found with these settings before, else found now and kept.

    A damaged file is found again and replaced; where nothing can be written, nothing is kept.

    Args:
        method: start of the file's name.
        settings: all that the directions depend on besides the generator; JSON.
    """
    key = json.dumps([FORMULAS, G.network_sha256 + class_suffix(G), method, dict(settings)], sort_keys=True)
    path = cache_folder(G) / f"{method}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    try:
        return read_directions(path)
    except LsapError:
        found = tuple(compute())
    with suppress(Unwritable):
        save_directions(path, found)
    return found


def cache_folder(G: Generator) -> Path:
    """Where the directions of a generator, used for its class, are kept; it may not exist yet."""
    return user_folder() / "directions" / f"{G.network_sha256[:16]}{class_suffix(G)}"


def bundled_directions(G: Generator) -> list[Direction]:
    """Directions inside the package that were found with this generator."""
    own = G.network_sha256
    files = sorted(assets().glob("*.directions.safetensors"))
    return [one for path in files for one in read_directions(path) if one.generator == own]


def cached_directions(G: Generator) -> list[Direction]:
    """What is in the cache, the last found first; damaged files are passed over."""
    found: list[Direction] = []
    files = cache_folder(G).glob("*.safetensors")
    for path in sorted(files, key=lambda p: (p.stat().st_mtime_ns, p.name), reverse=True):
        try:
            found += read_directions(path)
        except LsapError:
            continue
    return found


def assets() -> Path:
    """Folder of the bundled files."""
    return Path(str(resources.files("lsap_jax") / "assets"))


def _random(G: Generator, wanted: str, text: str, report: Report | None) -> list[Direction]:
    seed, _, variance = text.partition(":")
    if not re.fullmatch(r"\d{1,10}", seed) or (variance or "paper") not in DEVIATIONS:
        raise LsapError(f"random:{text}: write random:SEED or random:SEED:code, SEED a number")
    return [random_direction(G, wanted, int(seed), variance or "paper")]


def _ganspace(G: Generator, wanted: str, text: str, report: Report | None) -> list[Direction]:
    first, last = _numbers("ganspace", text, G.w_dim)
    return ganspace_directions(G, wanted, last + 1, report=report)[first:]


def _sefa(G: Generator, wanted: str, text: str, report: Report | None) -> list[Direction]:
    first, last = _numbers("sefa", text, G.w_dim)
    return sefa_directions(G, wanted, last + 1)[first:]


def _gradient(G: Generator, wanted: str, text: str, report: Report | None) -> list[Direction]:
    return [gradient.gradient_of(G, wanted, text)]


METHODS: dict[str, Method] = {
    "ganspace": Method(_ganspace, ("z", "w", "s"), "ganspace:K"),
    "sefa": Method(_sefa, ("w", "s"), "sefa:K"),
    "random": Method(_random, FAMILIES, "random:SEED"),
    "gradient": Method(_gradient, FAMILIES, gradient.TEXT),
}


def _numbers(method: str, text: str, count: int) -> tuple[int, int]:
    """(3, 3) of "3", (0, 4) of "0-4"."""
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if first > last or last >= count:
        raise LsapError(
            f"{method}:{text}: write {method}:K or {method}:0-4; components of this generator are 0 to {count - 1}"
        )
    return first, last


def _check_method(method: str, space: str) -> None:
    spaces = METHODS[method.lower()].families
    if space not in spaces:
        others = "take random:SEED, or a file of such directions"
        raise LsapError(f"{method} has directions of {', '.join(spaces)}, none of {space}; {others}")


def _of_file(G: Generator, wanted: str, path: str, name: str | None, given: str) -> list[Direction]:
    """The directions of a file that suit the family, or the one of a name."""
    directions = load_directions(path, space=given or None)
    if name is None:
        if not (found := suited(G, wanted, directions.values())):
            raise LsapError(
                f"{path}: holds directions of {_spaces(directions.values())}, none for space {wanted}"
                f"{_remedy(directions.values())}"
            )
        return found
    alike = [one for key, one in directions.items() if name in (key, one.name)]
    if not alike:
        raise LsapError(f"{path}: no direction {name!r}{near(name, _some(d.name for d in directions.values()))}")
    if not (found := suited(G, wanted, alike)):
        raise LsapError(
            f"{path}: {name} is a direction of {_spaces(alike)} and has no meaning in space {wanted}{_remedy(alike)}"
        )
    return found[:1]


def _of_name(
    G: Generator, wanted: str, name: str, given: str, note: Callable[[str], object] | None = None
) -> Direction:
    """The first of that name among the bundled ones and the cached ones."""
    bundled = bundled_directions(G)
    known = [one for one in (*bundled, *cached_directions(G)) if given in ("", one.space)]
    alike = [one for one in known if one.name == name]
    fits = [one for one in alike if suitable(wanted, one.space)]
    if fits:
        chosen = min(fits, key=lambda one: one.space != wanted)
        if note is not None and not any(chosen is one for one in bundled):
            note(f"direction {name} is the latest cached one of that name: {chosen.source}")
        return suited(G, wanted, [chosen])[0]
    if alike:
        raise LsapError(
            f"direction {name} is there for {_spaces(alike)}, not for space {wanted}{_remedy(alike)}, or find it there "
            "(find-directions)"
        )
    there = [*_some(one.name for one in known if suitable(wanted, one.space)), *_texts(wanted)]
    raise LsapError(f"no direction {name!r} for space {wanted}{near(name, there)}, or a FILE; see find-directions")


def suitable(wanted: str, space: str) -> bool:
    """Whether directions of one family can be used in the other."""
    return space == wanted or (wanted, space) == ("s", "w")


def _texts(wanted: str) -> list[str]:
    """The texts of methods that find directions for a family."""
    return [method.text for method in METHODS.values() if wanted in method.families]


def _some(names: Iterable[str]) -> list[str]:
    """Each name once, not too many for a message."""
    return list(dict.fromkeys(names))[:SHOWN]


def _spaces(directions: Iterable[Direction]) -> str:
    return ", ".join(dict.fromkeys(one.space for one in directions))


def _remedy(directions: Iterable[Direction]) -> str:
    """The spaces whose codes can be edited along one of these directions, as the end of a message."""
    directions = tuple(directions)
    usable = [name for name in NAMES if any(suits(family(parse_space(name)), one) for one in directions)]
    return f"; invert in {', '.join(usable)} (--space) to use them" if usable else ""
