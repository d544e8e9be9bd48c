"""Directions as text: a table of them, and the cosines between them."""

from collections.abc import Sequence

import numpy as np

from lsap_jax.editing.direction import Direction


def table(directions: Sequence[Direction]) -> str:
    """A line per direction: its number, name and space, the length of a step, its measures, its layers."""
    measures = list(dict.fromkeys(name for one in directions for name in one.measures))
    rows = [["row", "name", "space", "step", *measures, "layers"]]
    for row, one in enumerate(directions):
        step = one.scale * sum(float(x) ** 2 for x in one.vector.ravel()) ** 0.5
        values = [f"{one.measures[name]:.1%}" if name in one.measures else "" for name in measures]
        rows.append([str(row), one.name, one.space, f"{step:.3g}", *values, layers_text(one)])
    return lined_up(rows)


def layers_text(direction: Direction) -> str:
    """The range of layers as it is written on the command line: "all", "coarse", "4,5"."""
    layers = direction.layers
    if isinstance(layers, list | tuple | range):
        return ",".join(map(str, layers))
    return "all" if layers is None else str(layers)


def cosines(directions: Sequence[Direction]) -> str:
    """Cosines between the directions of each space, by their rows in the table; "" where no space has two."""
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
    """Rows of cells as lines with columns of one width each; the first two columns are aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:{'<' if i < 2 else '>'}{width}}" for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
