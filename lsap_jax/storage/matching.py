"""Settings of results folders: a folder records those of its first start, and refuses to continue with others. Runs,
edits, alignments, comparisons and trainings all use this module.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.checked_json import Record, json_bytes, sealed, unsealed
from lsap_jax.storage.inside import read_inside

Fields = Mapping[str, type | tuple[type, ...]]  # dotted key -> type of its value


class Layout(NamedTuple):
    """A kind of results folder: the file that records what is done there, the format named in it ("" is none), and
    the noun for the folder.

    A format is a name and a number. Folders of the numbers from `oldest` on are read, those of larger ones are refused.
    From the number `sealed` on, no bit of the file can change unnoticed.
    """

    file: str
    format: str
    noun: str
    oldest: int = 1
    sealed: int = 2


class Rule(NamedTuple):
    """Which settings must agree with the recorded ones: dotted keys, each with everything beneath it.

    Attributes:
        deciding: keys that must agree; None is all.
        free: keys beneath them that may differ nevertheless.
    """

    deciding: Sequence[str] | None = None
    free: Sequence[str] = ()


ALL = Rule()
MOST_TOLD = 5  # settings that differ, in a message


def read_record(path: str | os.PathLike[str], layout: Layout) -> Record:
    """The settings that a folder records.

    Raises:
        LsapError: it is not such a folder, or the record is damaged or of another version of the format.
    """
    file = Path(path) / layout.file
    try:
        record, checked = unsealed(read_inside(path, layout.file))
    except (FileNotFoundError, NotADirectoryError):
        if (Path(path) / "zarr.json").is_file():
            remedy = f"`lsap-jax export {path} --format files RUN` makes a run folder of it"
            raise LsapError(f"{path}: is a store, not a run folder; {remedy}") from None
        article = "an" if layout.noun[0] in "aeiou" else "a"
        raise LsapError(f"{path}: is not {article} {layout.noun} folder, it has no {layout.file}") from None
    except OSError as error:
        raise atomic.explained(error, file) from error
    except ValueError as error:
        raise LsapError(f"{file}: is damaged, it {error}; restore it, or write into another folder") from None
    _check_format(file, record, layout)
    if not checked and is_sealed(record, layout):
        raise LsapError(f"{file}: is damaged, it has lost its check; restore it, or write into another folder")
    return record


def read_beside(path: str | os.PathLike[str], name: str, layout: Layout) -> Record | None:
    """A sealed JSON file beside the record of a folder; None if there is none.

    Raises:
        LsapError: it is damaged, cannot be read, or the folder is none of this layout.
    """
    file, remedy = Path(path) / name, "delete it, and run the command that wrote it again"
    try:
        record, checked = unsealed(read_inside(path, name))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise atomic.explained(error, file) from error
    except ValueError as error:
        raise LsapError(f"{file}: is damaged, it {error}; {remedy}") from None
    if not checked and is_sealed(read_record(path, layout), layout):
        raise LsapError(f"{file}: is damaged, it has lost its check; {remedy}")
    return record


def check_fields(file: Path, record: Mapping[str, Any], fields: Fields) -> None:
    """Raises LsapError unless a record from elsewhere has these dotted keys, with values of these types; * stands for
    every entry of a list.
    """
    for key, kind in fields.items():
        values: list[object] = [record]
        for name in key.split("."):
            if name == "*":
                values = [one for value in values if isinstance(value, list) for one in value]
            else:
                values = [value.get(name, ...) if isinstance(value, Mapping) else ... for value in values]
        if not all(isinstance(value, kind) for value in values):
            raise LsapError(f"{file}: its {key!r} is missing or cannot be of this package; restore the file")


def is_sealed(record: Record, layout: Layout) -> bool:
    """Whether a folder of this record is of a format in which no bit may change unnoticed."""
    return (_number(record.get("format", ""), layout) or 0) >= layout.sealed


def _check_format(file: Path, record: Record, layout: Layout) -> None:
    found = record.get("format", "")
    number, newest = _number(found, layout), _number(layout.format, layout)
    if number is None or newest is None or not min(layout.oldest, newest) <= number <= newest:
        remedy = "" if number is None else "; use the version of lsap_jax that wrote it"
        raise LsapError(f"{file}: format is {str(found)[:80]!r}, this version reads {layout.format!r}{remedy}")


def _number(found: object, layout: Layout) -> int | None:
    """The number of a format of this layout, 0 for a layout without a format; None if it is another one."""
    name = layout.format.rpartition(" ")[0]
    if not layout.format:
        return 0 if found == "" else None
    match = re.fullmatch(re.escape(name) + r" ([1-9][0-9]{0,8})", found) if isinstance(found, str) else None
    return int(match[1]) if match else None


def begin(
    folder: Path,
    layout: Layout,
    settings: Mapping[str, Any],
    rule: Rule = ALL,
    complete: Callable[[Record], Record] | None = None,
) -> Record:
    """Records the settings in a new folder, or compares them with the recorded ones. The caller holds the folder's
    lock.

    Args:
        settings: JSON values, no times.
        complete: from a record, which may be of an earlier version, to one with the settings that it did not know.

    Returns:
        the settings of the folder's first start, including the format.

    Raises:
        LsapError: a deciding setting differs (the first ones are named with both values), the folder is of an earlier
            format, or see `read_record`.
    """
    head = {"format": layout.format} if layout.format else {}
    wanted: Record = json.loads(json.dumps({**head, **settings}, allow_nan=False))
    file = folder / layout.file
    _check_format(file, wanted, layout)
    if not file.exists():
        atomic.write_files({file: (sealed if is_sealed(wanted, layout) else json_bytes)(wanted)})
        return wanted
    kept = read_record(folder, layout)
    if (there := kept.get("format")) != (here := wanted.get("format")):
        raise LsapError(
            f"{folder}: was begun by another version of lsap_jax ({there}, this one writes {here}) and cannot be "
            "resumed, since what two versions compute differs; it can still be read: choose another folder"
        )
    _refuse_differing(folder, complete(kept) if complete else kept, wanted, rule)
    return kept


@contextmanager
def claimed(
    folder: Path, layout: Layout, settings: Mapping[str, Any], rule: Rule = ALL, part: str = ""
) -> Iterator[Record]:
    """`begin` with the folder's lock, or that of a part of it, which is held until the end (`atomic.claimed`).

    Raises:
        InUse: another process works there.
        LsapError: as `begin`; the folder holds something else, or cannot be written.
    """
    with atomic.claimed(folder, [layout.file], part):
        yield begin(folder, layout, settings, rule)


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
        told = [f"{key} was {there.get(key, 'absent')!r}, is {here.get(key, 'absent')!r}" for key in keys[:MOST_TOLD]]
        told += [f"and {len(keys) - MOST_TOLD} more"] * (len(keys) > MOST_TOLD)
        listed = "; ".join(told)
        raise LsapError(f"{folder}: was started with other settings ({listed}): repeat them, or choose another folder")


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Leaves by dotted key; records in a list are keyed by their names, the second of a name by NAME#2."""
    if (
        isinstance(value, list)
        and value
        and all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in value)
    ):
        seen: Counter[str] = Counter()
        named = {}
        for one in value:
            seen[name := one["name"]] += 1
            named[name if seen[name] == 1 else f"{name}#{seen[name]}"] = one
        value = named
    if not isinstance(value, dict) or not value:
        return {key: value}
    return {name: leaf for k, v in value.items() for name, leaf in _flat(v, f"{key}.{k}" if key else k).items()}


def _beneath(key: str, tops: Sequence[str]) -> bool:
    return any(key == top or key.startswith(top + ".") for top in tops)
