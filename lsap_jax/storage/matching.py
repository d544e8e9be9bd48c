"""Settings of results folders: a folder records those of its first start, and refuses to continue with others. Runs,
edits, alignments, comparisons and trainings all use this module.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic

Record = dict[str, Any]


class Layout(NamedTuple):
    """A kind of results folder: the file that records what is done there, the format named in it ("" is none), and
    the noun for the folder.
    """

    file: str
    format: str
    noun: str


class Rule(NamedTuple):
    """Which settings must agree with the recorded ones: dotted keys, each with everything beneath it.

    Attributes:
        deciding: keys that must agree; None is all.
        free: keys beneath them that may differ nevertheless.
    """

    deciding: Sequence[str] | None = None
    free: Sequence[str] = ()


ALL = Rule()


def read_record(path: str | os.PathLike[str], layout: Layout) -> Record:
    """The settings that a folder records.

    Raises:
        LsapError: it is not such a folder, or the record is damaged or of another version of the format.
    """
    file = Path(path) / layout.file
    try:
        record = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        if (Path(path) / "zarr.json").is_file():
            remedy = f"`lsap-jax export {path} --format files RUN` makes a run folder of it"
            raise LsapError(f"{path}: is a store, not a run folder; {remedy}") from None
        article = "an" if layout.noun[0] in "aeiou" else "a"
        raise LsapError(f"{path}: is not {article} {layout.noun} folder, it has no {layout.file}") from None
    except OSError as error:
        raise atomic.explained(error, file) from error
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise LsapError(f"{file}: is damaged; restore it, or write into another folder")
    if (found := record.get("format", "")) != layout.format:
        raise LsapError(f"{file}: format is {found!r}, this version reads {layout.format!r}")
    return record


def begin(folder: Path, layout: Layout, settings: Mapping[str, Any], rule: Rule = ALL) -> Record:
    """Records the settings in a new folder, or compares them with the recorded ones. The caller holds the folder's
    lock.

    Args:
        settings: JSON values, no times.

    Returns:
        the settings of the folder's first start, including the format.

    Raises:
        LsapError: a deciding setting differs (each is named with both values), or see `read_record`.
    """
    head = {"format": layout.format} if layout.format else {}
    wanted: Record = json.loads(json.dumps({**head, **settings}, allow_nan=False))
    file = folder / layout.file
    if not file.exists():
        atomic.write_files({file: record_bytes(wanted)})
        return wanted
    kept = read_record(folder, layout)
    _refuse_differing(folder, kept, wanted, rule)
    return kept


@contextmanager
def claimed(folder: Path, layout: Layout, settings: Mapping[str, Any], rule: Rule = ALL) -> Iterator[Record]:
    """`begin` with the folder's lock, which is held until the end (`atomic.claimed`).

    Raises:
        InUse: another process works there.
        LsapError: as `begin`; the folder holds something else, or cannot be written.
    """
    with atomic.claimed(folder, [layout.file]):
        yield begin(folder, layout, settings, rule)


def record_bytes(record: Record) -> bytes:
    """A record as indented ASCII JSON."""
    return (json.dumps(record, indent=2, allow_nan=False) + "\n").encode("ascii")


def _refuse_differing(folder: Path, kept: Record, wanted: Record, rule: Rule) -> None:
    there, here = _flat(kept), _flat(wanted)
    keys = [
        key
        for key in sorted(there.keys() | here.keys())
        if (rule.deciding is None or _beneath(key, rule.deciding))
        and not _beneath(key, rule.free)
        and there.get(key) != here.get(key)
    ]
    if keys:
        listed = "; ".join(f"{key} was {there.get(key, 'absent')!r}, is {here.get(key, 'absent')!r}" for key in keys)
        raise LsapError(f"{folder}: was started with other settings ({listed}): repeat them, or choose another folder")


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Leaves by dotted key; records in a list are keyed by their names."""
    if isinstance(value, list) and value and all(isinstance(one, dict) and "name" in one for one in value):
        value = {one["name"]: one for one in value}
    if not isinstance(value, dict) or not value:
        return {key: value}
    return {name: leaf for k, v in value.items() for name, leaf in _flat(v, f"{key}.{k}" if key else k).items()}


def _beneath(key: str, tops: Sequence[str]) -> bool:
    return any(key == top or key.startswith(top + ".") for top in tops)
