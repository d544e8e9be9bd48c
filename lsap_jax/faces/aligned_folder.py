"""The folder of `lsap-jax align`: what it leaves on the disk, and how it is resumed.

alignment.json    the settings; no times
ID.png            the aligned pictures
alignment.jsonl   a line per picture, written after its PNG, with the SHA-256 of both its input and of the PNG
failures.jsonl    a line per image that could not be done, and why
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsap_jax.data.ids import id_problem
from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic, matching
from lsap_jax.storage.checked_json import Record, encode_record
from lsap_jax.storage.inside import read_inside
from lsap_jax.storage.results import failed_problem

LAYOUT = matching.Layout("alignment.json", "lsap_jax alignment 1", "alignment")
DONE, FAILED = "alignment.jsonl", "failures.jsonl"


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder under its lock; `done` and `failed` are records by id."""

    path: Path
    done: dict[str, Record]
    failed: dict[str, Record]

    def write(self, record: Mapping[str, Any], png: bytes) -> None:
        """Saves one picture, and then its line: `record`, which has its id, and the SHA-256 of the PNG."""
        id = record["id"]
        atomic.write_files({self.path / f"{id}.png": png})
        self.done[id] = {**record, "sha256": atomic.sha256(png)}
        atomic.append_record(self.path / DONE, self.done[id])
        self.failed.pop(id, None)

    def fail(self, id: str, input: str, reason: str) -> None:
        """Records that an image could not be done."""
        record = {"id": id, "input": input, "reason": reason}
        if self.failed.get(id) != record:
            atomic.append_record(self.path / FAILED, record)
            self.failed[id] = record

    def finish(self) -> None:
        """Writes both lists again: sorted by id, one line each, without failures that succeeded later."""
        lists = {self.path / DONE: self.done}
        if self.failed or (self.path / FAILED).exists():
            lists[self.path / FAILED] = self.failed
        atomic.write_files(
            {path: b"".join(encode_record(some[id]) for id in sorted(some)) for path, some in lists.items()}
        )


@contextmanager
def opened(path: Path, settings: Mapping[str, Any]) -> Iterator[Folder]:
    """A new folder, or one to go on with, locked. Pictures whose PNG is missing or has changed count as not done.

    Raises:
        LsapError: the folder holds something else, was made with other settings, is in use, or cannot be written.
    """
    with matching.claimed(path, LAYOUT, settings):
        done = {r["id"]: r for r in _records(path / DONE, _done_problem) if _is_whole(path, r)}
        failed = {r["id"]: r for r in _records(path / FAILED, failed_problem) if r["id"] not in done}
        yield Folder(path=path, done=done, failed=failed)


def _records(file: Path, problem_of: Callable[[Record], str | None]) -> list[Record]:
    found = atomic.read_records(file, cut=True)
    for problem in filter(None, map(problem_of, found)):
        raise LsapError(f"{file}: holds a record that cannot be of this package: {problem}")
    return found


def _done_problem(record: Record) -> str | None:
    problem = id_problem(record.get("id"))
    return f"the id {str(record.get('id'))[:200]!r} {problem}" if problem else None


def _is_whole(path: Path, record: Mapping[str, Any]) -> bool:
    try:
        return atomic.sha256(read_inside(path, f"{record['id']}.png")) == record.get("sha256")
    except OSError:
        return False
