"""metrics.csv: a row per finished image, its metrics in the manifest and the columns that `lsap-jax evaluate` added.
Folders of edits have one where identities are measured.

metrics.csv.sha256 holds its SHA-256 as `sha256sum -c` reads it. It is written first, with the digest of the old table
and of the new one, then the table, then the digest of the new one alone: whenever a writer is killed, one of them fits.

Text that a spreadsheet would take for a formula has an apostrophe in front in the file, and none here.
"""

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.inside import read_inside
from lsap_jax.storage.matching import Layout, is_sealed, read_record
from lsap_jax.storage.results import RUN

TABLE, DIGEST = "metrics.csv", "metrics.csv.sha256"
_FIRST_COLUMNS = ("mse", "psnr", "ssim")
_DIGESTS = re.compile(rb"(?:[0-9a-f]{64}  metrics\.csv\n){1,2}")
_REMEDY = f"restore it, or delete {TABLE} and {DIGEST} and run the command that made the run again, then `evaluate`"


def quoted(text: str) -> str:
    """A cell of text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip("'").startswith(("=", "+", "-", "@", "\t", "\r")) else text


def unquoted(cell: str) -> str:
    """The inverse of `quoted`."""
    return cell[1:] if cell.startswith("'") and quoted(cell[1:]) == cell else cell


def metrics_csv(rows: Mapping[str, Mapping[str, float]]) -> bytes:
    """A table with a row per id, sorted: mse, psnr and ssim first, the other metrics by name; a cell is empty if an
    image lacks the metric. Numbers are written so that they read back exactly.
    """
    names = {name for row in rows.values() for name in row}
    columns = [name for name in _FIRST_COLUMNS if name in names] + sorted(names.difference(_FIRST_COLUMNS))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", *map(quoted, columns)])
    for key in sorted(rows):
        writer.writerow([quoted(key), *(repr(float(rows[key][name])) if name in rows[key] else "" for name in columns)])
    return text.getvalue().encode("utf-8")


def write_table(folder: Path, data: bytes) -> None:
    """Writes a table of `metrics_csv` and its digest.

    Raises:
        LsapError: as `atomic.write_files`.
    """
    new = _line(data)
    try:
        old = _line(read_inside(folder, TABLE))
        atomic.write_files({folder / DIGEST: new if old == new else old + new})
    except FileNotFoundError:
        atomic.write_files({folder / DIGEST: new})
    except OSError as error:
        raise atomic.explained(error, folder / TABLE) from error
    atomic.write_files({folder / TABLE: data})
    atomic.write_files({folder / DIGEST: new})


def table_bytes(folder: Path, layout: Layout = RUN) -> bytes | None:
    """metrics.csv as it is, after comparing its SHA-256; None if the run has none yet. Runs of format 1 may have no
    digest.

    Raises:
        LsapError: it has changed since it was written, or its digest is missing.
    """
    try:
        data = read_inside(folder, TABLE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise atomic.explained(error, folder / TABLE) from error
    try:
        digests = read_inside(folder, DIGEST)
    except FileNotFoundError:
        if is_sealed(read_record(folder, layout), layout):
            raise LsapError(f"{folder / DIGEST}: is missing; {_REMEDY}") from None
        return data
    except OSError as error:
        raise atomic.explained(error, folder / DIGEST) from error
    if not _DIGESTS.fullmatch(digests):
        raise LsapError(f"{folder / DIGEST}: has changed since it was written; {_REMEDY}")
    if _line(data) not in digests.splitlines(keepends=True):
        raise LsapError(f"{folder / TABLE}: has changed since it was written (its SHA-256 differs); {_REMEDY}")
    return data


def read_metrics_table(folder: Path, layout: Layout = RUN) -> dict[str, dict[str, float]]:
    """Metrics by id, then by name; empty if the run has no metrics.csv yet. Cells that hold no number are left out.

    Raises:
        LsapError: as `table_bytes`; it is no table.
    """
    data = table_bytes(folder, layout)
    found: dict[str, dict[str, float]] = {}
    try:
        for line in csv.DictReader(io.StringIO((data or b"").decode("utf-8", "replace"), newline="")):
            id = unquoted(str(line.pop("id", None)))
            found[id] = numbers({unquoted(name): value for name, value in line.items() if name is not None})
    except csv.Error as error:
        raise LsapError(f"{folder / TABLE}: is not a table ({error}); {_REMEDY}") from None
    return found


def with_added(
    folder: Path, rows: Mapping[str, Mapping[str, float]], layout: Layout = RUN
) -> dict[str, dict[str, float]]:
    """The rows, with the columns that the folder's table has beside theirs: those of `evaluate`. A row of the table
    that has other numbers than these is of another result and adds nothing, nor does a table that has changed.
    """
    try:
        table = read_metrics_table(folder, layout)
    except LsapError:
        table = {}

    def is_same(old: Mapping[str, float], own: Mapping[str, float]) -> bool:
        return all(name in old and repr(old[name]) == repr(float(value)) for name, value in own.items())

    return {id: {**old, **own} if is_same(old := table.get(id, {}), own) else dict(own) for id, own in rows.items()}


def numbers(values: Mapping[Any, Any]) -> dict[str, float]:
    """The values that are numbers, by name."""
    found = {}
    for name, value in values.items():
        try:
            found[str(name)] = float(value)
        except (TypeError, ValueError):
            continue
    return found


def _line(data: bytes) -> bytes:
    return f"{atomic.sha256(data)}  {TABLE}\n".encode("ascii")
