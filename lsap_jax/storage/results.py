"""The run folder: the files that an inversion leaves on the disk, and their readers; `run_folder` writes them.

run.json         what was run: config, seed, space, generator, versions, devices; no times
manifest.jsonl   a line per finished image, written last, with the SHA-256 of its input and of each of its files
failures.jsonl   a line per image that failed; the last line of an id counts, unless the id is in the manifest
manifest.PART.jsonl, failures.PART.jsonl   the same for one of several processes, until the parts are merged
codes/ID.npz  images/ID.png  targets/ID.png  curves/ID.npz  refined/ID.npz      the parts of an image (`parts`)
metrics.csv      a row per finished image, by id
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.file_bytes import Unreadable
from lsap_jax.storage.matching import Layout, Record, read_record
from lsap_jax.storage.parts import file_of, part_of

RUN = Layout("run.json", "lsap_jax run 1", "run")


def read_run(path: str | os.PathLike[str], layout: Layout = RUN) -> Record:
    """Contents of run.json, or of the corresponding file in a folder of another layout.

    Raises:
        LsapError: it is not such a folder, or is one of another version of the format.
    """
    return read_record(path, layout)


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Record]:
    """Records of finished images by id, as `RunFolder.finished`, also during the run; files are not checked."""
    return by_id(records(Path(path), "manifest"))


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
        LsapError: no such image, a file is missing or has changed.
    """
    data = read_bytes(path, id, part, manifest=manifest)
    try:
        return part_of(part).decode(data)
    except Unreadable as error:
        raise LsapError(f"{Path(path) / file_of(id, part)}: {error}") from None


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


def records(folder: Path, name: str) -> list[Record]:
    """Records of "manifest" or "failures", including those of parts."""
    # Parts are listed first: a part that is merged meanwhile is then found in the whole.
    parts = [record for file in part_files(folder, name) for record in atomic.read_records(file)]
    return [*atomic.read_records(folder / f"{name}.jsonl"), *parts]


def part_files(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}.*.jsonl"))


def checked_bytes(folder: Path, id: str, part: str, manifest: Mapping[str, Record]) -> bytes:
    if id not in manifest or part not in manifest[id]["sha256"]:
        raise LsapError(f"{folder}: has no finished {part}/{id}; `manifest.jsonl` lists the finished images")
    file = folder / file_of(id, part)
    remedy = f"restore it, or delete the line of {id!r} from manifest.jsonl and resume the run"
    try:
        data = file.read_bytes()
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
