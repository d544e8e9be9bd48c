"""The run folder: the files that an inversion leaves on the disk, and their readers; `run_folder` writes them.

run.json         what was run: config, seed, space, generator, versions, devices; no times
manifest.jsonl   a line per finished image, written last, with the SHA-256 of its input and of each of its files
failures.jsonl   a line per image that failed; the last line of an id counts, unless the id is in the manifest
manifest.PART.jsonl, failures.PART.jsonl   the same for one of several processes, until the parts are merged
codes/ID.npz  images/ID.png  targets/ID.png  curves/ID.npz  refined/ID.npz      the parts of an image (`parts`)
metrics.csv      a row per finished image, by id; metrics.csv.sha256 is its digest

run.json, and every line of the manifest and of the failures, ends with a check of the rest. Folders of format 1 have no
check in run.json and no digest of metrics.csv; they are read all the same, and cannot be resumed.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.data.ids import id_problem
from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.checked_json import Record
from lsap_jax.storage.inside import read_inside
from lsap_jax.storage.matching import Layout, read_beside, read_record
from lsap_jax.storage.parts import decoded, file_of, part_problem

RUN = Layout("run.json", "lsap_jax run 2", "run")
EVALUATION = "evaluation.json"
_NO_NUMBERS = ("inf", "-inf", "nan")  # what `as_json` makes of numbers that JSON does not have


def read_run(path: str | os.PathLike[str], layout: Layout = RUN) -> Record:
    """Contents of run.json, or of the corresponding file in a folder of another layout.

    Raises:
        LsapError: it is not such a folder, or is one of another version of the format.
    """
    return read_record(path, layout)


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Record]:
    """Records of finished images by id, as `RunFolder.finished`, also during the run; files are not checked."""
    return by_id(records(Path(path), "manifest"))


def read_evaluation(path: str | os.PathLike[str]) -> Record:
    """Contents of evaluation.json, which `lsap-jax evaluate` writes; empty if it has not.

    Raises:
        LsapError: it has changed since it was written.
    """
    return read_beside(path, EVALUATION, RUN) or {}


def read_failures(path: str | os.PathLike[str]) -> dict[str, Record]:
    """Records of images that failed, by id: {"id", "input", "reason"}."""
    failures = by_id(records(Path(path), "failures"))
    done = read_manifest(path)
    return {text: record for text, record in failures.items() if text not in done}


def read_part(path: str | os.PathLike[str], id: str, part: str, *, manifest: Mapping[str, Record] | None = None) -> Any:
    """The value of an image's part (`lsap_jax.storage.parts`), after comparing the SHA-256 of its file.

    Args:
        manifest: from `read_manifest`, to read it once for many images.
    Raises:
        LsapError: no such image, a file is missing, has changed, or holds something else.
    """
    data = read_bytes(path, id, part, manifest=manifest)
    try:
        return decoded(part, data)
    except ValueError as error:
        raise LsapError(f"{Path(path) / file_of(id, part)}: cannot be decoded ({error})") from None


def read_arrays(
    path: str | os.PathLike[str], id: str, part: str, *, manifest: Mapping[str, Record] | None = None
) -> dict[str, np.ndarray]:
    """`read_part` of a part that has arrays: "codes", "curves", "refined"."""
    return read_part(path, id, part, manifest=manifest)  # type: ignore[no-any-return]


def read_code(
    path: str | os.PathLike[str], id: str, *, manifest: Mapping[str, Record] | None = None
) -> dict[str, np.ndarray]:
    """`read_part` of "codes": the code's arrays by name, without the batch axis."""
    return read_arrays(path, id, "codes", manifest=manifest)


def read_image(
    path: str | os.PathLike[str], id: str, part: str = "images", *, manifest: Mapping[str, Record] | None = None
) -> np.ndarray:
    """`read_part` of a picture, uint8 [H, W, C]: "images" or "targets"."""
    return read_part(path, id, part, manifest=manifest)  # type: ignore[no-any-return]


def read_bytes(
    path: str | os.PathLike[str], id: str, part: str, *, manifest: Mapping[str, Record] | None = None
) -> bytes:
    """A file of an image as it is; arguments and errors as `read_arrays`."""
    return checked_bytes(Path(path), id, part, read_manifest(path) if manifest is None else manifest)


def records(folder: Path, name: str, problem_of: Callable[[Record], str | None] | None = None) -> list[Record]:
    """Records of "manifest", "failures" or another list, including those of parts.

    Args:
        problem_of: why this package cannot have written a record, or None; by default that of the two lists.

    Raises:
        LsapError: a line has changed, or is not what this package writes: an id or a part could lead elsewhere.
    """
    # Parts are listed first: a part that is merged meanwhile is then found in the whole.
    parts = [record for file in part_files(folder, name) for record in atomic.read_records(file)]
    found = [*atomic.read_records(folder / f"{name}.jsonl"), *parts]
    problem_of = problem_of or (finished_problem if name == "manifest" else failed_problem)
    for record in found:
        if problem := problem_of(record):
            raise LsapError(f"{folder / name}.jsonl: holds a record that cannot be of this package: {problem}")
    return found


def finished_problem(record: Record) -> str | None:
    """Why this package cannot have written a manifest's record; None if it can."""
    if problem := id_problem(id := record.get("id")):
        return f"the id {_short(id)} {problem}"
    digests, metrics = record.get("sha256"), record.get("metrics")
    if not isinstance(digests, dict) or not all(map(_is_sha256, [record.get("input_sha256"), *digests.values()])):
        return f"a SHA-256 of {id!r} is missing or is none"
    if problem := next((f"the part {_short(part)} {why}" for part in digests if (why := part_problem(part))), None):
        return f"{problem} ({id!r})"
    if not isinstance(metrics, dict) or not all(map(_is_number, metrics.values())):
        return f"a metric of {id!r} is missing or is no number"
    if not all(_is_texts(record.get(key)) for key in ("flags", "notes")):
        return f"flags or notes of {id!r} are missing or are no texts"
    return crop_problem(record["crop"], id) if "crop" in record else None


def crop_problem(crop: object, id: object) -> str | None:
    """Why this package cannot have written where an image was cut out; None if it can."""
    if not isinstance(crop, dict) or not isinstance(crop.get("input"), str) or not _is_sha256(crop.get("input_sha256")):
        return f"the photograph of {id!r} is missing or is no path with a SHA-256"
    quad = crop.get("quad")
    corners = quad if isinstance(quad, list) and len(quad) == 4 else []
    if not corners or not all(isinstance(c, list) and len(c) == 2 and all(map(_is_finite, c)) for c in corners):
        return f"the square of {id!r} does not have four corners"
    return None


def failed_problem(record: Record) -> str | None:
    """Why this package cannot have written a record of failures.jsonl; None if it can."""
    if problem := id_problem(id := record.get("id")):
        return f"the id {_short(id)} {problem}"
    return None if _is_texts([record.get("input"), record.get("reason")]) else f"why {id!r} has failed is no text"


def _short(value: object) -> str:
    return repr(value)[:200]


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")


def _is_number(value: object) -> bool:
    whole = type(value) is int and abs(value) < 2**53
    return whole or isinstance(value, float) or (isinstance(value, str) and value in _NO_NUMBERS)


def _is_finite(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < 2**31  # type: ignore[arg-type]


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def part_files(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}.*.jsonl"))


def checked_bytes(folder: Path, id: str, part: str, manifest: Mapping[str, Record]) -> bytes:
    if id not in manifest or part not in manifest[id]["sha256"]:
        raise LsapError(f"{folder}: has no finished {part}/{id}; `manifest.jsonl` lists the finished images")
    file = folder / file_of(id, part)
    remedy = f"restore it, or delete the line of {id!r} from manifest.jsonl and resume the run"
    try:
        data = read_inside(folder, file_of(id, part))
    except (FileNotFoundError, NotADirectoryError):
        raise LsapError(f"{file}: is missing though the manifest lists it; {remedy}") from None
    except OSError as error:
        raise atomic.explained(error, file) from error
    if atomic.sha256(data) != manifest[id]["sha256"][part]:
        raise LsapError(f"{file}: has changed since it was written (its SHA-256 differs); {remedy}")
    return data


def by_id(records: Sequence[Record]) -> dict[str, Record]:
    """The last record of each id."""
    return {record["id"]: from_json(record) for record in records}


def from_json(record: Record) -> Record:
    """The inverse of `as_json`."""
    if "metrics" not in record:
        return record
    return {**record, "metrics": {name: float(value) for name, value in record["metrics"].items()}}


def as_json(record: Record) -> Record:
    """The record for JSON, which has no infinity: an infinite PSNR of a perfect image becomes the text "inf"."""
    metrics = {name: value if np.isfinite(value) else repr(value) for name, value in record["metrics"].items()}
    return {**record, "metrics": metrics}


def mapping(value: object) -> Mapping:
    """The value if it is a mapping, else an empty one: a damaged entry must not keep others from being read."""
    return value if isinstance(value, Mapping) else {}
