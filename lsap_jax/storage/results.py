"""The run folder: what an inversion leaves on the disk, and how it is read; `run_folder` writes it.

run.json         what was run: config, seed, space, generator, versions, devices; no times
manifest.jsonl   a line per finished image, written last, with the SHA-256 of its input and of each of its files
failures.jsonl   a line per image that could not be done; the last one of an id counts, unless it is in the manifest
manifest.PART.jsonl, failures.PART.jsonl   the same of one of several processes, until the whole is put together
codes/ID.npz  images/ID.png  targets/ID.png  curves/ID.npz
metrics.csv      a row per finished image, by id
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.file_bytes import arrays_from_npz, image_from_png

FORMAT = "lsap_jax run 1"
_SUFFIXES = {
    "codes": ".npz",
    "images": ".png",
    "targets": ".png",
    "curves": ".npz",
    "strips": ".png",
    "animations": ".webp",
}

Record = dict[str, Any]


class Layout(NamedTuple):
    """A kind of results folder: the file that says what was done, the format named in it, and what people call it."""

    file: str
    format: str
    noun: str


RUN = Layout("run.json", FORMAT, "run")


def read_run(path: str | os.PathLike[str], layout: Layout = RUN) -> Record:
    """Contents of run.json, or of what stands for it in a folder of another layout.

    Raises:
        LsapError: it is not such a folder, or one of another version of the format.
    """
    file = Path(path) / layout.file
    try:
        run = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        if (Path(path) / "zarr.json").is_file():
            remedy = f"`lsap-jax export {path} --format files RUN` makes a run folder of it"
            raise LsapError(f"{path}: is a store, not a run folder; {remedy}") from None
        article = "an" if layout.noun[0] in "aeiou" else "a"
        raise LsapError(f"{path}: is not {article} {layout.noun} folder, it has no {layout.file}") from None
    except OSError as error:
        raise atomic.explained(error, file) from error
    except ValueError:
        raise LsapError(f"{file}: is damaged; restore it, or write into another folder") from None
    if not isinstance(run, dict) or run.get("format") != layout.format:
        found = run.get("format") if isinstance(run, dict) else None
        raise LsapError(f"{file}: format is {found!r}, this version reads {layout.format!r}")
    return run


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Record]:
    """Records of finished images by id, as `RunFolder.finished`, also during the run; files are not checked."""
    return by_id(records(Path(path), "manifest"))


def read_failures(path: str | os.PathLike[str]) -> dict[str, Record]:
    """Records of images that could not be done, by id: {"id", "input", "reason"}."""
    failures = by_id(records(Path(path), "failures"))
    done = read_manifest(path)
    return {text: record for text, record in failures.items() if text not in done}


def read_arrays(
    path: str | os.PathLike[str], id: str, part: str, *, manifest: Mapping[str, Record] | None = None
) -> dict[str, np.ndarray]:
    """The arrays in codes/ID.npz or curves/ID.npz (`part` names the folder), after comparing the SHA-256.

    Args:
        manifest: from `read_manifest`, to read it once for many images.
    Raises:
        LsapError: no such image, a file is missing or has changed.
    """
    return arrays_from_npz(read_bytes(path, id, part, manifest=manifest))


def read_code(
    path: str | os.PathLike[str], id: str, *, manifest: Mapping[str, Record] | None = None
) -> dict[str, np.ndarray]:
    """`read_arrays` of "codes": the code's arrays by name, without the batch axis."""
    return read_arrays(path, id, "codes", manifest=manifest)


def read_image(
    path: str | os.PathLike[str], id: str, part: str = "images", *, manifest: Mapping[str, Record] | None = None
) -> np.ndarray:
    """The picture in images/ID.png or targets/ID.png as uint8 [H, W, C]; arguments and errors as `read_arrays`."""
    return image_from_png(read_bytes(path, id, part, manifest=manifest))


def read_bytes(
    path: str | os.PathLike[str], id: str, part: str, *, manifest: Mapping[str, Record] | None = None
) -> bytes:
    """A file of an image as it is; arguments and errors as `read_arrays`."""
    return checked_bytes(Path(path), id, part, read_manifest(path) if manifest is None else manifest)


def records(folder: Path, name: str) -> list[Record]:
    """Lines of "manifest" or "failures", those of parts included."""
    # Parts are listed first: one that is put together meanwhile is then found in the whole.
    parts = [record for file in part_files(folder, name) for record in atomic.read_records(file)]
    return [*atomic.read_records(folder / f"{name}.jsonl"), *parts]


def part_files(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}.*.jsonl"))


def file_of(id: str, part: str) -> str:
    """images/ID.png of part "images"; an edit has images/ID/DIRECTION/STRENGTH.png of "images/DIRECTION/STRENGTH"."""
    kind, slash, rest = part.partition("/")
    return f"{kind}/{id}{slash}{rest}{_SUFFIXES[kind]}"


def checked_bytes(folder: Path, id: str, part: str, manifest: Mapping[str, Record]) -> bytes:
    if id not in manifest or part not in manifest[id]["sha256"]:
        raise LsapError(f"{folder}: has no finished {part}/{id}; `manifest.jsonl` lists what there is")
    file = folder / file_of(id, part)
    remedy = f"restore it, or delete the line of {id!r} from manifest.jsonl and resume the run"
    try:
        data = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise LsapError(f"{file}: is missing though the manifest lists it; {remedy}") from None
    except OSError as error:
        raise atomic.explained(error, file) from error
    if atomic.sha256(data) != manifest[id]["sha256"][part]:
        raise LsapError(f"{file}: has changed since it was written (its SHA-256 is another); {remedy}")
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
    """JSON has no infinity, which the PSNR of a perfect image is: it is written as the text "inf"."""
    metrics = {name: value if np.isfinite(value) else repr(value) for name, value in record["metrics"].items()}
    return {**record, "metrics": metrics}


def mapping(value: object) -> Mapping:
    """The value if it is a mapping, else an empty one: a damaged entry must not stop who reads the rest."""
    return value if isinstance(value, Mapping) else {}
