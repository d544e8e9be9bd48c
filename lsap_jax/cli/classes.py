"""`--class` of the commands that use a conditional generator."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, text
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    import numpy as np

    from lsap_jax.models.generator import Generator

EACH = "class of a conditional generator: a number from 0, or FILE.csv of id,class with a line for each {}"
ONE = "class of a conditional generator: a number from 0"


def class_flag(values: FlagValues, what: str) -> None:
    """Defines `--class`."""
    text(values, "class", what)


def chosen_classes(args: Arguments, G: "Generator", ids: Sequence[str]) -> "dict[str, np.ndarray] | None":
    """Labels by id of `--class=K` or `--class=FILE.csv`; None without the flag.

    Raises:
        LsapError: the generator has no classes or not this one, or the file does not give each image one.
    """
    from lsap_jax.runs.classes import labels_by_id, read_classes

    given = args.flags["class"].value
    if given is None:
        return None
    if G.c_dim and not is_number(given):
        return read_classes(given, G.c_dim, ids)
    return labels_by_id(G.c_dim, int(given[:18]) if is_number(given) else 0, ids, f"--class={given}")


def of_class(args: Arguments, G: "Generator") -> "Generator":
    """G for the class of `--class=K`, or as it is without the flag; errors as `chosen_classes`."""
    given = args.flags["class"].value
    if G.c_dim and given is not None and not is_number(given):
        raise LsapError(f"--class={given}: is not the number of a class; the {G.c_dim} classes are 0 to {G.c_dim - 1}")
    labels = chosen_classes(args, G, [""])
    return G if labels is None else G.for_classes(labels[""][None])


def is_number(given: str) -> bool:
    """Whether `--class` is the number of a class; else it is the name of a file."""
    return given.isascii() and given.removeprefix("-").isdigit()
