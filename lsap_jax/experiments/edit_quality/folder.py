"""The folder of `lsap-jax edit-quality`.

quality.json          what was measured, with what; no times
measures/NAME.npz     measure -> [D, S, N], pictures of a few images, and the key of all that they depend on
measures/genuine.npz  logits of the generator's own samples
"""

import json
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.file_bytes import arrays_from_npz, npz_bytes
from lsap_jax.storage.results import Record

FORMAT = "lsap_jax edit quality 2"
RECORD = "quality.json"
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
        LsapError: the file is missing, damaged, or not of this format.
    """
    file = Path(out) / RECORD
    try:
        record = json.loads(file.read_bytes())
    except OSError as error:
        raise LsapError(f"{file}: cannot be read ({error.strerror}); is this a folder of edit-quality?") from None
    except ValueError:
        raise LsapError(f"{file}: is damaged; run its `lsap-jax edit-quality` command again") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        remedy = "run its `lsap-jax edit-quality` command again"
        raise LsapError(f"{file}: is not of format {FORMAT!r}; {remedy}, or choose another folder")
    return record


def read_measures(out: str | Path, entry: Record) -> dict[str, np.ndarray]:
    """Measure -> [D, S, N] of an entry of quality.json, and "pictures".

    Raises:
        LsapError: the file is missing or damaged, or was measured again after quality.json was written.
    """
    arrays, key = _read(file := Path(out) / entry["file"])
    if key != entry["key"]:
        raise LsapError(f"{file}: was not measured as {RECORD} says; run the `lsap-jax edit-quality` command again")
    return arrays


def kept_measures(file: Path, key: str) -> dict[str, np.ndarray] | None:
    """What is measured already: the file's arrays if they have this key."""
    try:
        arrays, found = _read(file)
    except LsapError:
        return None
    return arrays if found == key else None


def write_measures(file: Path, arrays: Mapping[str, np.ndarray], key: str) -> None:
    """Saves measures with the SHA-256, in hexadecimal, of all that they depend on."""
    atomic.write_files({file: npz_bytes({**arrays, "key": np.frombuffer(bytes.fromhex(key), np.uint8)})})


def _read(file: Path) -> tuple[dict[str, np.ndarray], str]:
    """Arrays and key of a file of `write_measures`; LsapError if it is missing, damaged or something else."""
    try:
        arrays = arrays_from_npz(file.read_bytes())
        return arrays, arrays.pop("key").tobytes().hex()
    except KeyError:
        raise LsapError(f"{file}: holds no measures; delete it and run the command again") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise LsapError(f"{file}: cannot be read ({error}); delete it and run the command again") from None
