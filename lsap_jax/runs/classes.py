"""Classes of the images of a run: read from a file, recorded in run.json, and given to each image with its code."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.models.classes import labels_from, plain
from lsap_jax.models.generator import Generator
from lsap_jax.storage import atomic

HEAD = ["id", "class"]
MOST_BYTES = 2**28

Labels = Mapping[str, np.ndarray]  # id -> [c_dim]


def labels_by_id(c_dim: int, c: Any, ids: Sequence[str], where: str = "c") -> dict[str, np.ndarray]:
    """Labels of images; arguments and errors as `lsap_jax.models.classes.labels_from`."""
    return dict(zip(ids, labels_from(c_dim, c, len(ids), where), strict=True))


def read_classes(path: str | Path, c_dim: int, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Labels by id, of a CSV file with the columns id and class, a line for each image.

    Raises:
        LsapError: it cannot be read, is not such a file, an id is missing, unknown or there twice, or there is no such
            class.
    """
    (_, head), *rows = _rows(Path(path)) or [(1, [""])]
    if head != HEAD:
        raise LsapError(f"{path}: its first line is {_short(head)}; it has to be {','.join(HEAD)!r}")
    found: dict[str, int] = {}
    for line, row in rows:
        number = row[-1].strip()
        if len(row) != 2 or not (number.isascii() and number.isdigit()):
            raise LsapError(f"{path}, line {line}: {_short(row)} is not an id and the number of a class")
        if row[0] in found:
            raise LsapError(f"{path}, line {line}: {row[0]!r} is there twice; give each image one class")
        found[row[0]] = int(number.lstrip("0")[:10] or 0)  # ten digits are more than there are classes
    wanted = set(ids)
    if missing := [id for id in ids if id not in found]:
        raise LsapError(f"{path}: has no class for {missing[0]!r}{_more(missing)}; each image needs a line")
    if unknown := [id for id in found if id not in wanted]:
        raise LsapError(f"{path}: {unknown[0]!r}{_more(unknown)} is none of the images; ids are paths without suffix")
    return labels_by_id(c_dim, np.array([found[id] for id in ids]), ids, str(path))


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Number and cells of the lines of a CSV file that are not empty."""
    try:
        if not path.is_file():  # a pipe would never end
            raise LsapError(f"{path}: is not a file; give the number of a class, or a CSV file of id,class")
        if path.stat().st_size > MOST_BYTES:
            raise LsapError(f"{path}: is larger than {MOST_BYTES // 2**20} MiB, no list of classes")
        reader = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        return [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        raise atomic.explained(error, path) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LsapError(f"{path}: is not a CSV file of id,class ({error})") from None


def _short(row: Sequence[str]) -> str:
    return repr(",".join(row)[:80])


def _more(ids: Sequence[str]) -> str:
    return f" (and {len(ids) - 1} more)" if len(ids) > 1 else ""


def describe_classes(labels: Labels) -> dict[str, Any]:
    """The entry "classes" of run.json: the labels that occur, and a digest of whose they are if there are several."""
    distinct = [plain(label) for label in np.unique(np.stack(list(labels.values())), axis=0)]
    distinct.sort(key=lambda one: (isinstance(one, list), one))
    if len(distinct) == 1:
        return {"labels": distinct}
    lines = "".join(f"{json.dumps([id, plain(labels[id])])}\n" for id in sorted(labels))
    return {"labels": distinct, "by_id_sha256": atomic.sha256(lines.encode())}


def labels_of(record: Mapping[str, Any], c_dim: int) -> np.ndarray:
    """The labels [K, c_dim] of an entry "classes" of run.json.

    Raises:
        LsapError: they are not labels of this generator.
    """
    listed = record.get("labels")
    if not isinstance(listed, list) or not listed:
        raise LsapError("run.json: classes have no labels; restore the file")
    try:
        return np.concatenate([labels_from(c_dim, np.asarray(one), 1, "run.json: classes") for one in listed])
    except ValueError:
        raise LsapError("run.json: classes are neither numbers nor label vectors; restore the file") from None


def used_for(G: Generator, labels: Labels | None) -> Generator:
    """G for the classes of these images; None is no class."""
    return G.for_classes(np.stack(list(labels.values()))) if labels else G


def with_labels(start: Mapping[str, Mapping[str, np.ndarray]], labels: Labels) -> dict[str, dict[str, np.ndarray]]:
    """Codes to start from by id, each with its label."""
    return {id: {**start.get(id, {}), "c": label} for id, label in labels.items()}
