"""Directions of editing of a generator: found, listed, shown, and written to one file.

usage: lsap-jax find-directions --generator G --method ganspace|sefa|interfacegan|random --out FILE.safetensors
           [--space z,w,s] [--components K] [--samples N] [--seed S] [--layers RANGE] [--regression closed|joint]
           [--attributes CLASSIFIER] [--names smile,beard] [--condition long_hair,light_skin]

ganspace: the K principal components of w, in z those of F/Z+'s eq. 6. sefa: K eigenvectors of the weights that read w.
random: K vectors, of seeds S, S + 1, ... interfacegan: one direction for every attribute of a classifier, or for
those of --names, without what they have in common with those of --condition; the samples are drawn once for all spaces.
Use them as `--direction FILE` or `FILE:NAME`. Those of ganspace and interfacegan are cached, too, and found by name
alone; conditional ones and those of another range are in FILE only.

FILE.png has a row per direction, in the order of the table, and a column per strength, all on one sample.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, choice, new_flags, number, numbers, switch, text
from lsap_jax.cli.progress import counter
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    import numpy as np

    from lsap_jax.editing.direction import Direction
    from lsap_jax.editing.interfacegan import Scorer
    from lsap_jax.models.generator import Generator

METHODS = ("ganspace", "sefa", "interfacegan", "random")
COMPONENTS = 10
OF_METHOD = {
    "components": ("ganspace", "sefa", "random"),
    "samples": ("ganspace", "interfacegan"),
    "seed": ("ganspace", "interfacegan", "random"),
    "regression": ("ganspace",),
    "attributes": ("interfacegan",),
    "names": ("interfacegan",),
    "condition": ("interfacegan",),
}
MOST_ROWS = 40


def flags() -> FlagValues:
    values = new_flags()
    text(values, "generator", "a bundled name, a converted file or an official checkpoint")
    choice(values, "method", METHODS, "how they are found")
    text(values, "space", "z, w or s, or several with commas between; f/z+ and the like have those of z", "w")
    text(values, "out", "the file to write, FILE.safetensors")
    number(values, "components", "how many, of ganspace, sefa and random", COMPONENTS, lower=1)
    number(values, "samples", "of the generator; 1,000,000 for ganspace, 20,000 for interfacegan by default", lower=2)
    number(values, "seed", "of samples, and of the first random direction; 0 by default", 0, lower=0)
    text(values, "layers", "the range they are meant for: coarse, middle, fine, or rows as 4-7; sefa reads these alone")
    choice(values, "regression", ("closed", "joint"), "of ganspace in z: eq. 6, or all components together", "closed")
    text(values, "attributes", "a classifier of attributes, in place of the one bundled with this generator")
    text(values, "names", "attributes, with commas between; all of the classifier by default")
    text(values, "condition", "attributes that the directions leave as they are")
    text(values, "strengths", "columns of the picture", "-3,-1.5,0,1.5,3")
    switch(values, "picture", "write FILE.png", True)
    number(values, "face", "seed of the sample in the picture, as in `lsap-jax generate`; 0 by default", 0, lower=0)
    number(values, "batch_size", "images at a time", 16, lower=1)
    return values


def run(args: Arguments) -> int:
    from lsap_jax.editing.direction_file import save_directions
    from lsap_jax.editing.layers import layer_rows
    from lsap_jax.editing.series import labels_of
    from lsap_jax.models.generator_file import load_generator
    from lsap_jax.storage.weights_file import check_writable

    args.no_config()
    args.only()
    out, method = Path(args.required("out")), args.required("method")
    for name, methods in OF_METHOD.items():
        if args.flags[name].present and method not in methods:
            raise LsapError(f"--{name} belongs to --method {' and '.join(methods)}, not to {method}")
    strengths = numbers("strengths", args.flags.strengths)
    labels_of("strengths", strengths)  # told before the search
    spaces = parse_spaces(args.flags.space)
    check_writable(out)
    G = load_generator(args.required("generator"))
    if args.flags.layers is not None:
        layer_rows(args.flags.layers, G.num_ws)
    directions = FINDERS[method](G, args.flags, spaces)
    save_directions(out, directions)
    print(table(directions))
    if method == "interfacegan":
        print(cosines(directions), end="")
    if args.flags.picture:
        picture(G, directions, strengths, out.with_suffix(".png"), args.flags.face, args.flags.batch_size)
    print(f"{len(directions)} directions in {out}")
    return 0


def parse_spaces(text: str) -> list[str]:
    """ "z,w+" as families ["z", "w"], each once.

    Raises:
        LsapError: there is no such space.
    """
    from lsap_jax.editing.direction import family
    from lsap_jax.spaces import parse_space

    return list(dict.fromkeys(family(parse_space(name)) for name in listed(text)))


def listed(text: str | None) -> list[str]:
    """ "a, b" as ["a", "b"]."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def by_ganspace(G: "Generator", values: FlagValues, spaces: Sequence[str]) -> list["Direction"]:
    from lsap_jax.editing.named import ganspace_directions

    found: list[Direction] = []
    for space in spaces:
        found += ganspace_directions(
            G,
            space,
            values.components,
            samples=values.samples,
            seed=values.seed,
            regression=values.regression,
            report=counter("principal components of w"),
        )
    return with_layers(found, values.layers)


def by_sefa(G: "Generator", values: FlagValues, spaces: Sequence[str]) -> list["Direction"]:
    from lsap_jax.editing.named import sefa_directions

    return [one for space in spaces for one in sefa_directions(G, space, values.components, values.layers)]


def by_random(G: "Generator", values: FlagValues, spaces: Sequence[str]) -> list["Direction"]:
    from lsap_jax.editing.random import random_direction

    seeds = range(values.seed, values.seed + values.components)
    return with_layers([random_direction(G, space, seed) for space in spaces for seed in seeds], values.layers)


def by_interfacegan(G: "Generator", values: FlagValues, spaces: Sequence[str]) -> list["Direction"]:
    """Every attribute is cached by itself. Without --names, those that too few samples have are told and left out."""
    from lsap_jax.editing import interfacegan as method
    from lsap_jax.editing.direction import near
    from lsap_jax.editing.named import cached

    for space in spaces:
        method.checked_space(space)
    method.support_vector_machine()
    scorer, known, scorer_digest = attribute_scorer(G, values.attributes)
    names, others = listed(values.names), listed(values.condition)
    if unknown := [name for name in (*names, *others) if name not in known]:
        raise LsapError(f"attribute {unknown[0]!r}{near(unknown[0], known)}")
    samples = values.samples or method.SAMPLES

    @cache
    def scored() -> method.Scored:
        told = counter("samples drawn and scored")
        return method.sample(G, scorer, samples, values.seed, batch_size=values.batch_size, report=told)

    def found(space: str, name: str) -> "Direction":
        settings = {"space": space, "attribute": name, "scorer": scorer_digest, "samples": samples, "seed": values.seed}
        settings |= {"ratio": method.RATIO, "validation": method.VALIDATION}
        compute = lambda: method.interfacegan(G, space, scored(), [name], seed=values.seed)  # noqa: E731
        return cached(G, "interfacegan", settings, compute)[0]

    directions: list[Direction] = []
    for space in spaces:
        away = [found(space, name) for name in others]
        ones = []
        for name in names or known:
            try:
                one = found(space, name)
            except LsapError as error:
                if names:
                    raise
                print(f"left out: {error}", file=sys.stderr)
                continue
            ones.append(method.condition(one, [other for other in away if other.name != name]))
        directions += method.in_deviations(G, ones, method.drawn(G, samples, values.seed)) if away else ones
    if not directions:
        raise LsapError(f"none of {', '.join(known)} can be found in {samples} samples; give more --samples")
    return with_layers(directions, values.layers)


FINDERS: dict[str, Callable[["Generator", FlagValues, Sequence[str]], list["Direction"]]] = {
    "ganspace": by_ganspace,
    "sefa": by_sefa,
    "interfacegan": by_interfacegan,
    "random": by_random,
}


def attribute_scorer(G: "Generator", source: str | None) -> tuple["Scorer", list[str], str]:
    """(scorer, its attributes, a digest of it) of a classifier; None is the one bundled with this generator."""
    from flax.traverse_util import flatten_dict

    from lsap_jax.models.attributes import attribute_scores, load_attributes
    from lsap_jax.storage.weights_file import digest

    attributes = load_attributes(source, G)
    weights = digest({"/".join(path): leaf for path, leaf in flatten_dict(dict(attributes.params)).items()})
    meaning = repr((weights, sorted((name, tuple(sides)) for name, sides in attributes.binary.items())))
    names = list(attributes.binary)
    return lambda images: attribute_scores(attributes, images), names, hashlib.sha256(meaning.encode()).hexdigest()


def with_layers(directions: Sequence["Direction"], layers: str | None) -> list["Direction"]:
    """Directions with a range of --layers, where it was given."""
    from dataclasses import replace

    return [one if layers is None else replace(one, layers=layers) for one in directions]


def table(directions: Sequence["Direction"]) -> str:
    """A line per direction: its number, name and space, the length of a step, what was measured, its layers."""
    measures = list(dict.fromkeys(name for one in directions for name in one.measures))
    rows = [["row", "name", "space", "step", *measures, "layers"]]
    for row, one in enumerate(directions):
        step = one.scale * sum(float(x) ** 2 for x in one.vector.ravel()) ** 0.5
        values = [f"{one.measures[name]:.1%}" if name in one.measures else "" for name in measures]
        layers = "all" if one.layers is None else one.layers if isinstance(one.layers, str) else shown(one.layers)
        rows.append([str(row), one.name, one.space, f"{step:.3g}", *values, layers])
    return lined_up(rows)


def shown(rows: Any) -> str:
    """Rows of a range as (4, 5) or 4 as text."""
    return ",".join(map(str, rows)) if isinstance(rows, list | tuple | range) else str(rows)


def cosines(directions: Sequence["Direction"]) -> str:
    """Cosines between the directions of each space, by their rows in the table; "" where no space has two."""
    import numpy as np

    lines = []
    for space in dict.fromkeys(one.space for one in directions):
        some = {str(row): one for row, one in enumerate(directions) if one.space == space}
        vectors = np.stack([one.vector for one in some.values()]).astype(np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        found = [["row", f"cosines, {space}", *some]]
        for (row, one), line in zip(some.items(), vectors @ vectors.T, strict=True):
            found.append([row, one.name, *(f"{x:.2f}" for x in line)])
        if len(some) > 1:
            lines.append(lined_up(found) + "\n")
    return "".join(lines)


def lined_up(rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width; the first two to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:{'<' if i < 2 else '>'}{width}}" for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def picture(
    G: "Generator",
    directions: Sequence["Direction"],
    strengths: Sequence[float],
    path: Path,
    face: int,
    batch_size: int,
) -> None:
    """Writes a grid of what directions do to the sample of a seed, and prints where it is."""
    import numpy as np

    from lsap_jax.editing.edit import edit
    from lsap_jax.pixels import to_uint8
    from lsap_jax.storage.pictures import grid, save_png

    some, codes, rows = directions[:MOST_ROWS], sampled_codes(G, face), []
    for one in some:
        space = {"z": "z+", "w": "w+", "pn": "pn+"}.get(one.space, one.space)
        rows.append(to_uint8(edit(G, space, codes(space), one, strengths, batch_size=batch_size).images[:, 0]))
    save_png(path, grid(np.concatenate(rows), columns=len(strengths)))
    note = f" (the first {MOST_ROWS} rows)" if len(directions) > MOST_ROWS else ""
    print(f"strengths {', '.join(f'{s:g}' for s in strengths)} in {path}{note}")


def sampled_codes(G: "Generator", seed: int) -> "Callable[[str], Mapping[str, np.ndarray]]":
    """Space -> codes of the sample of a seed there, the same image in all."""
    import jax.numpy as jnp
    import numpy as np

    from lsap_jax.spaces import parse_space
    from lsap_jax.spaces.sphere import retract

    z = retract(jnp.asarray(np.random.RandomState(seed % 2**32).randn(1, G.z_dim), jnp.float32))

    def codes(name: str) -> Mapping[str, np.ndarray]:
        detail = parse_space(name).detail
        if detail.key == "z":
            return {"z": np.repeat(np.asarray(z)[:, None], G.num_ws, axis=1)}
        return {detail.key: np.asarray(detail.from_ws(with_needed(G, detail), G.mapping(z)))}

    return codes


def with_needed(G: "Generator", detail: Any) -> "Generator":
    """G with its latent statistics where a space needs them."""
    from lsap_jax.cli.runs import with_shown_statistics

    return with_shown_statistics(G) if detail.statistics else G
