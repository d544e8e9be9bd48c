"""Tables of results as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from lsap_jax.storage.metrics_table import quoted


def csv_table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A table in UTF-8 whose floats read back exactly; cells that are None or NaN are empty. No text is one that a
    spreadsheet takes for a formula (`quoted`).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(list(map(quoted, heads)))
    for row in rows:
        writer.writerow(["" if cell is None or cell != cell else _plain(cell) for cell in row])
    return text.getvalue().encode("utf-8")


def _plain(cell: Any) -> Any:
    return repr(float(cell)) if isinstance(cell, float) else quoted(cell) if isinstance(cell, str) else cell
