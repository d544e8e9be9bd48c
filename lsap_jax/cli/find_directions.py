"""Find editing directions of a generator, list and show them, and write them to one file.

usage: lsap-jax find-directions --generator G --method ganspace|sefa|interfacegan|random|styleclip
           --out FILE.safetensors [--space z,w,s] [--components K] [--samples N] [--seed S] [--layers RANGE]
           [--regression closed|joint] [--attributes CLASSIFIER] [--names smile,beard]
           [--condition long_hair,light_skin] [--relevance fs3.npy] [--text DIFFERENCE.npy]
           [--statistics S_mean_std] [--beta B] [--class K]

ganspace: the K principal components of w; in z, those of F/Z+'s eq. 6. sefa: K eigenvectors of the weights that read w.
random: K vectors, of seeds S, S + 1, ... interfacegan: one direction for every attribute of a classifier, or for
those of --names, made orthogonal to those of --condition; the samples are drawn once for all spaces. styleclip: in s,
from files that say what CLIP sees in channels and texts (docs/editing.md).
Use them as `--direction FILE` or `FILE:NAME`. Directions of ganspace and interfacegan are also cached, and their name
alone then finds them; conditional directions and those of another range are only in FILE. For a conditional generator,
the samples of ganspace and interfacegan, and the one in the picture, are of class K.

FILE.png has a row per direction, in the order of the table, and a column per strength, all for one sample.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, choice, new_flags, number, numbers, real, switch, text
from lsap_jax.cli.classes import ONE, class_flag, of_class
from lsap_jax.cli.progress import counter
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from lsap_jax.editing.direction import Direction
    from lsap_jax.models.generator import Generator

METHODS = ("ganspace", "sefa", "interfacegan", "random", "styleclip")
COMPONENTS = 10
OF_METHOD = {
    "components": ("ganspace", "sefa", "random"),
    "samples": ("ganspace", "interfacegan", "styleclip"),
    "seed": ("ganspace", "interfacegan", "random", "styleclip"),
    "regression": ("ganspace",),
    "attributes": ("interfacegan",),
    "names": ("interfacegan",),
    "condition": ("interfacegan",),
    **dict.fromkeys(("relevance", "text", "statistics", "beta"), ("styleclip",)),
}
MOST_ROWS = 40


def flags() -> FlagValues:
    values = new_flags()
    text(values, "generator", "a bundled name, a converted file or an official checkpoint")
    choice(values, "method", METHODS, "how the directions are found")
    text(values, "space", "z, w or s, or several, separated by commas; f/z+ and the like have those of z", "w")
    text(values, "out", "the file to write, FILE.safetensors")
    number(values, "components", "how many directions ganspace, sefa and random find", COMPONENTS, lower=1)
    number(
        values,
        "samples",
        "samples of the generator (default: 1,000,000 for ganspace, 20,000 for interfacegan, 100,000 for styleclip)",
        lower=2,
    )
    number(values, "seed", "seed of the samples, and of the first random direction (default: 0)", 0, lower=0)
    text(
        values,
        "layers",
        "layers that the directions are meant for: coarse, middle, fine, or rows such as 4-7; sefa reads only these",
    )
    choice(values, "regression", ("closed", "joint"), "ganspace in z: eq. 6, or all components together", "closed")
    text(values, "attributes", "classifier of attributes to use instead of the one bundled with this generator")
    text(values, "names", "attributes, separated by commas (default: all of the classifier)")
    text(values, "condition", "attributes that the directions must not change, separated by commas")
    text(values, "relevance", "styleclip: how text features change with each channel, [channels, D], such as fs3.npy")
    text(values, "text", "styleclip: features of a text minus those of a neutral one, [D], or several by name")
    text(values, "statistics", "styleclip: S_mean_std, [means, deviations] by layer (default: measured on samples)")
    real(values, "beta", "styleclip: least relevance of a channel that moves (default: 0.11)")
    text(values, "strengths", "strengths of the columns of the picture", "-3,-1.5,0,1.5,3")
    switch(values, "picture", "write FILE.png", True)
    number(values, "face", "seed of the sample in the picture, as in `lsap-jax generate` (default: 0)", 0, lower=0)
    class_flag(values, ONE + ", for the samples of ganspace and interfacegan and for the picture")
    number(values, "batch_size", "images at a time", 16, lower=1)
    return values


def run(args: Arguments) -> int:
    from lsap_jax.editing.direction_file import save_directions
    from lsap_jax.editing.finders import FINDERS, Search
    from lsap_jax.editing.layers import layer_rows
    from lsap_jax.editing.listing import cosines, table
    from lsap_jax.editing.series import labels_of
    from lsap_jax.models.classes import no_class
    from lsap_jax.models.generator_file import load_generator
    from lsap_jax.storage.weights_file import check_writable

    args.no_config()
    args.only()
    out, method, values = Path(args.required("out")), args.required("method"), args.flags
    for name, methods in OF_METHOD.items():
        if values[name].present and method not in methods:
            raise LsapError(f"--{name} belongs to --method {', '.join(methods)}, not to {method}")
    strengths = numbers("strengths", values.strengths)
    labels_of("strengths", strengths)  # refused before the search
    spaces = parse_spaces(values.space)
    check_writable(out)
    G = of_class(args, load_generator(args.required("generator")))
    if G.c_dim and G.labels is None and values.picture:
        raise no_class(G.c_dim, "the sample in the picture")
    if values.layers is not None:
        layer_rows(values.layers, G.num_ws)
    search = Search(
        components=values.components,
        samples=values.samples,
        seed=values.seed,
        layers=values.layers,
        regression=values.regression,
        attributes=values.attributes,
        names=listed(values.names),
        condition=listed(values.condition),
        relevance=values.relevance,
        text=values.text,
        statistics=values.statistics,
        beta=values.beta,
        batch_size=values.batch_size,
        counter=counter,
        tell=partial(print, file=sys.stderr),
    )
    directions = FINDERS[method](G, spaces, search)
    save_directions(out, directions)
    print(table(directions))
    if method == "interfacegan":
        print(cosines(directions), end="")
    if values.picture:
        save_preview(G, directions, strengths, out.with_suffix(".png"), values.face, values.batch_size)
    print(f"{len(directions)} directions in {out}")
    return 0


def parse_spaces(text: str) -> list[str]:
    """ "z,w+" as families ["z", "w"], each once.

    Raises:
        LsapError: a space is unknown.
    """
    from lsap_jax.editing.direction import family
    from lsap_jax.spaces import parse_space

    return list(dict.fromkeys(family(parse_space(name)) for name in listed(text)))


def listed(text: str | None) -> list[str]:
    """ "a, b" as ["a", "b"]."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def save_preview(
    G: "Generator",
    directions: "Sequence[Direction]",
    strengths: Sequence[float],
    path: Path,
    face: int,
    batch_size: int,
) -> None:
    """Writes a picture of what directions do to the sample of a seed, and prints where it is."""
    from lsap_jax.cli.runs import statistics_counter
    from lsap_jax.editing.preview import preview
    from lsap_jax.editing.series import labels_of
    from lsap_jax.storage.labelled_grid import labelled_grid
    from lsap_jax.storage.pictures import save_png

    shown, labels = directions[:MOST_ROWS], labels_of("strengths", strengths)
    rows = preview(G, shown, strengths, face, batch_size, statistics_counter())
    cells = [[(picture, "") for picture in row] for row in rows]
    save_png(path, labelled_grid(labels, cells, titles=[one.name for one in shown]))
    note = f" (the first {MOST_ROWS} rows)" if len(directions) > MOST_ROWS else ""
    print(f"strengths {', '.join(f'{s:g}' for s in strengths)} in {path}{note}")
