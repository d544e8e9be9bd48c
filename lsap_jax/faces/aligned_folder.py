"""The folder of `lsap-jax align`: what it leaves on the disk, and how it is resumed.

alignment.json    the settings; no times
ID.png            the aligned pictures; with every face of a picture, ID_0.png, ID_1.png, …
alignment.jsonl   a line per PNG, written after it, with the SHA-256 of both its input and of the PNG; with every face
                  also the "picture", its id, and the number of its "faces": it is done when all of them are there
failures.jsonl    a line per image that could not be done, and why
alignment.PART.jsonl, failures.PART.jsonl   the same for one of several processes, until the parts are merged
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsap_jax.data.ids import id_problem
from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic, matching
from lsap_jax.storage.checked_json import Record, encode_record
from lsap_jax.storage.inside import read_inside
from lsap_jax.storage.results import crop_problem, part_files, records

LAYOUT = matching.Layout("alignment.json", "lsap_jax alignment 1", "alignment")
DONE, FAILED = "alignment", "failures"
SETTINGS = ("resolution", "face", "enlarge", "profiles", "min_face", "detector_sha256")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder, or a part of it, under its lock; `done`, by PNG, and `failed`, by picture, are records of all parts."""

    path: Path
    run: Record
    done: dict[str, Record]
    failed: dict[str, Record]
    part: str = ""
    mutex: threading.Lock = field(default_factory=threading.Lock)

    def finished(self, *, ids: Collection[str]) -> dict[str, Record]:
        """A record of each of these pictures that is done."""
        found = pictures(self.done)
        return {id: found[id][0] for id in ids if id in found}

    def failures(self) -> dict[str, Record]:
        """The records of images that failed."""
        return self.failed

    def forget(self, ids: Iterable[str]) -> None:
        """Has pictures aligned again that are done; what is there now must not stand in for one that then fails."""
        own = set(ids)
        for id in [id for id, record in self.done.items() if picture_of(record) in own]:
            (self.path / f"{id}.png").unlink(missing_ok=True)
            del self.done[id]

    def check_input(self, id: str, sha256: str, name: str) -> None:
        """Nothing: pictures whose input has changed are forgotten beforehand."""

    def write(self, record: Mapping[str, Any], png: bytes) -> None:
        """Saves one picture, and then its line: `record`, which has its id, and the SHA-256 of the PNG."""
        id = record["id"]
        atomic.write_files({self.path / f"{id}.png": png})
        with self.mutex:
            self.done[id] = {**record, "sha256": atomic.sha256(png)}
            atomic.append_record(self._file(DONE), self.done[id])
            self.failed.pop(picture_of(record), None)

    def fail(self, id: str, reason: str, input: str) -> None:
        """Records that an image could not be done."""
        record = {"id": id, "input": input, "reason": reason}
        with self.mutex:
            if self.failed.get(id) != record:
                atomic.append_record(self._file(FAILED), record)
                self.failed[id] = record

    def finish(self, conclude: Callable[[Path], object] | None = None) -> None:
        """Writes both lists again: sorted by id, one line each, without failures that succeeded later, and merges the
        files of all parts.
        """
        parts = [file for name in (DONE, FAILED) for file in part_files(self.path, name)]
        lists = {self._file(DONE): self.done}
        if self.failed or self._file(FAILED).exists():
            lists[self._file(FAILED)] = self.failed
        atomic.write_files(
            {path: b"".join(encode_record(some[id]) for id in sorted(some)) for path, some in lists.items()}
        )
        for file in parts:
            file.unlink()
        if conclude is not None:
            conclude(self.path)

    def _file(self, name: str) -> Path:
        return self.path / (f"{name}.{self.part}.jsonl" if self.part else f"{name}.jsonl")


@contextmanager
def opened(path: Path, described: Mapping[str, Any], part: str = "") -> Iterator[Folder]:
    """A new folder, or one to go on with, locked. Pictures whose PNG is missing or has changed count as not done.

    Args:
        described: has the `SETTINGS`; nothing else is recorded.
        part: of this process, where several write at once; "" is the whole.

    Raises:
        InUse: another process is writing there.
        LsapError: the folder holds something else, was made with other settings, or cannot be written.
    """
    settings = {name: described[name] for name in SETTINGS}
    with matching.claimed(path, LAYOUT, settings, part=part) as kept:
        for name in (DONE, FAILED):
            atomic.read_records(path / (f"{name}.{part}.jsonl" if part else f"{name}.jsonl"), cut=True)
        done = {r["id"]: r for r in records(path, DONE, _problem) if _is_whole(path, r)}
        there = pictures(done)
        failed = {r["id"]: r for r in records(path, FAILED) if r["id"] not in there}
        yield Folder(path=path, run=kept, done=done, failed=failed, part=part)


def picture_of(record: Mapping[str, Any]) -> str:
    """The id of the picture that a PNG was cut out of: its own, where it is the picture's one face."""
    return str(record.get("picture", record["id"]))


def pictures(done: Mapping[str, Record]) -> dict[str, list[Record]]:
    """The records of each picture of which every PNG is there, by PNG, as `Folder.done` has them."""
    found: dict[str, list[Record]] = {}
    for record in done.values():
        found.setdefault(picture_of(record), []).append(record)
    return {id: own for id, own in found.items() if len(own) >= own[-1].get("faces", 1)}


def aligned_ids(path: Path) -> set[str]:
    """Pictures that are aligned in a folder, by its lists."""
    return set(pictures({record["id"]: record for record in records(path, DONE, _problem)}))


def aligned_records(path: Path) -> dict[str, Record]:
    """The records of all PNGs of a folder, by id.

    Raises:
        LsapError: it is not a folder of `lsap-jax align`, or a line of its list has changed.
    """
    if not (path / LAYOUT.file).is_file():
        raise LsapError(f"{path}: has no {LAYOUT.file}; name a folder that `lsap-jax align` wrote")
    return {record["id"]: record for record in records(path, DONE, lambda r: _problem(r) or crop_problem(r, r["id"]))}


def untouched(path: Path, ids: Iterable[str]) -> set[str]:
    """Those of these images that are neither aligned nor failed."""
    return set(ids) - aligned_ids(path) - {record["id"] for record in records(path, FAILED)}


def _problem(record: Record) -> str | None:
    for key in ("id", "picture"):
        if problem := id_problem(record.get(key, record.get("id"))):
            return f"the {key} {str(record.get(key))[:200]!r} {problem}"
    return None if type(record.get("faces", 1)) is int else f"the number of faces of {record['id']!r} is none"


def _is_whole(path: Path, record: Mapping[str, Any]) -> bool:
    try:
        return atomic.sha256(read_inside(path, f"{record['id']}.png")) == record.get("sha256")
    except OSError:
        return False
