"""Tables of results as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def csv_table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A table in UTF-8 whose floats read back exactly; cells that are None or NaN are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    for row in rows:
        writer.writerow(["" if cell is None or cell != cell else _plain(cell) for cell in row])
    return text.getvalue().encode("utf-8")


def _plain(cell: Any) -> Any:
    return repr(float(cell)) if isinstance(cell, float) else cell
