"""The folder of `lsap-jax edit-quality`.

quality.json          what was measured, with what; no times
measures/NAME.npz     measure -> [D, S, N], pictures of a few images, and the key of all that they depend on
measures/genuine.npz  logits of the generator's own samples
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.checked_json import sealed
from lsap_jax.storage.file_bytes import npz_bytes
from lsap_jax.storage.inside import read_inside
from lsap_jax.storage.matching import Fields, Layout, check_fields, read_record
from lsap_jax.storage.parts import decoded
from lsap_jax.storage.results import Record

LAYOUT = Layout("quality.json", "lsap_jax edit quality 3", "edit quality", oldest=2, sealed=3)
RECORD = LAYOUT.file
FIELDS: Fields = {
    **{"config": dict, "config.strengths": list, "config.strengths.*": (int, float), "config.levels": list},
    **{"config.levels.*": (int, float), "config.toggle": bool, "config.shown": int, "ids": list, "ids.*": str},
    **{"entries": list, "entries.*.name": str, "entries.*.space": str, "entries.*.file": str, "entries.*.key": str},
    **{"entries.*.directions": list, "entries.*.directions.*.direction": str, "generator.name": str},
    **{"generator.img_resolution": int, "unfinished": dict, "genuine": dict},
}
GENUINE = "measures/genuine.npz"  # cannot collide: the names of entries end with their variant


def writing(out: Path) -> AbstractContextManager[None]:
    """The folder's lock, for whoever measures into it and writes its tables; the folder is made.

    Raises:
        InUse: another process is writing there.
        LsapError: a file, or a folder of something else.
    """
    return atomic.claimed(out, [RECORD, "measures"])


def read_quality(out: str | Path) -> Record:
    """Contents of quality.json.

    Raises:
        LsapError: the file is missing, damaged, or of another format.
    """
    record = read_record(out, LAYOUT)
    check_fields(Path(out) / RECORD, record, FIELDS)
    return record


def write_quality(out: Path, record: Record) -> Record:
    """Writes quality.json, with the SHA-256 of the files of measures that it names; returns what it holds."""
    digests = [atomic.sha256(read_inside(out, entry["file"])) for entry in record["entries"]]
    entries = [{**entry, "sha256": one} for entry, one in zip(record["entries"], digests, strict=True)]
    written = {"format": LAYOUT.format, **record, "entries": entries}
    atomic.write_files({out / RECORD: sealed(written)})
    return written


def read_measures(out: str | Path, entry: Record) -> dict[str, np.ndarray]:
    """Measure -> [D, S, N] of an entry of quality.json, and "pictures".

    Raises:
        LsapError: the file is missing or damaged, lies elsewhere, or was measured again after quality.json was written.
    """
    arrays, key, sha256 = _read(Path(out), entry["file"])
    if key != entry["key"] or sha256 != entry.get("sha256", sha256):  # before format 3 there was no digest
        file = Path(out) / entry["file"]
        raise LsapError(f"{file}: was not measured as {RECORD} says; run the `lsap-jax edit-quality` command again")
    return arrays


def kept_measures(file: Path, key: str) -> dict[str, np.ndarray] | None:
    """What is measured already: the file's arrays if they have this key."""
    try:
        arrays, found, _ = _read(file.parent, file.name)
    except LsapError:
        return None
    return arrays if found == key else None


def write_measures(file: Path, arrays: Mapping[str, np.ndarray], key: str) -> None:
    """Saves measures with the SHA-256, in hexadecimal, of all that they depend on."""
    atomic.write_files({file: npz_bytes({**arrays, "key": np.frombuffer(bytes.fromhex(key), np.uint8)})})


def _read(folder: Path, name: str) -> tuple[dict[str, np.ndarray], str, str]:
    """Arrays, key and SHA-256 of a file of `write_measures`; LsapError if it is missing, damaged or something else."""
    file = folder / name
    try:
        arrays = decoded("codes", data := read_inside(folder, name))
        return arrays, arrays.pop("key").tobytes().hex(), atomic.sha256(data)
    except KeyError:
        raise LsapError(f"{file}: holds no measures; delete it and run the command again") from None
    except (OSError, ValueError) as error:
        raise LsapError(f"{file}: cannot be read ({error}); delete it and run the command again") from None
