"""The keys of a configuration, which `--config.KEY=value` sets: default, type and meaning of each.

usage: lsap-jax config [NAME|FILE] [--search WORD]

NAME is a value of `--config`, a space or preset such as z+ or f/z+:code, or a method of refinement, whose options are
keys under `refine`. Without NAME, the configurations are listed. --search lists only keys whose name or line contains
the word. A FILE is Python and is executed: use only files you trust.
"""

import ast
import textwrap
from collections.abc import Sequence
from typing import Any

from absl.flags import FlagValues

from lsap_jax.cli.arguments import Arguments, new_flags, text
from lsap_jax.errors import LsapError

WIDTH, WIDEST = 120, 34  # of the table, and of a column


def flags() -> FlagValues:
    values = new_flags()
    text(values, "search", "list only keys, or configurations, whose name or line contains this word")
    return values


def run(args: Arguments) -> int:
    args.no_config()
    rows = keys_of(args.only("NAME")[0]) if args.positional else configurations()
    word = (args.flags.search or "").lower()
    found = [row for row in rows if word in " ".join(row).lower()]
    if not found:
        raise LsapError(f"--search={args.flags.search}: no name and no line has this word")
    print(*table(found), sep="\n")
    return 0


def configurations() -> list[tuple[str, ...]]:
    """Name and first line of every configuration, which is read, not executed."""
    from lsap_jax.configuration import config_folder, config_names

    found: list[tuple[str, ...]] = []
    for name in config_names():
        source = (config_folder() / f"{name}.py").read_text(encoding="utf-8")
        line = (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]
        found.append((name, line.removeprefix(f"{name}: ")))
    return found


def keys_of(name: str) -> list[tuple[str, ...]]:
    """(key, default, type, line) of a configuration, then of the options of the method that it, or the name, names.

    Raises:
        LsapError: there is no such configuration, or it is a method without options.
    """
    from lsap_jax.configuration import config_names, explained, flat, load_config, preset_name

    values: dict[str, Any] = {}
    options = options_of(name)
    if options is None or preset_name(name) in config_names():
        values = flat(load_config(name))
        options = options_of(values.get("refine.method")) or {}
    elif not options:
        raise LsapError(f"{name}: this method of refinement has no options")
    values |= {key: value for key, value in options.items() if key not in values}
    kinds = {key: "any" if value is None else type(value).__name__ for key, value in values.items()}
    return [(key, repr(value), kinds[key], explained(key)) for key, value in values.items()]


def options_of(method: str | None) -> dict[str, Any] | None:
    """Options of a method of refinement as keys; None where there is no such method."""
    from lsap_jax.refinement.methods import REFINERS

    if method not in REFINERS:
        return None
    return {f"refine.{key}": value for key, value in REFINERS[method].options.items()}


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines of text: columns as wide as they need to be up to `WIDEST`, the last one wrapped beside them."""
    widths = [min(max(map(len, column)), WIDEST) for column in list(zip(*rows, strict=True))[:-1]]
    lines = []
    for *cells, last in rows:
        start = "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)) + "  "
        indent = " " * (sum(widths) + 2 * len(widths))
        room = max(WIDTH - len(indent), 40)
        wrapped = textwrap.wrap(last, room)
        if wrapped and len(start) == len(indent):
            lines.append(start + wrapped.pop(0))
        else:  # a cell stands out
            lines.append(start.rstrip())
        lines += [indent + line for line in wrapped]
    return lines
