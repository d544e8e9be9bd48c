"""The writer of a run folder (its files: `lsap_jax.storage.results`), which starts a run or resumes it.

Bytes depend on the contents only, so that a resumed run leaves the same files as an uninterrupted one. Several
processes may each write a part; a process that finds no other one at work merges the parts.
"""

import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lsap_jax.data.ids import id_problem
from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic, matching
from lsap_jax.storage.checked_json import encode_record
from lsap_jax.storage.inside import inside
from lsap_jax.storage.matching import Layout, Rule
from lsap_jax.storage.metrics_table import metrics_csv, with_added, write_table
from lsap_jax.storage.parts import encoded, file_of
from lsap_jax.storage.results import (
    RUN,
    Record,
    as_json,
    by_id,
    checked_bytes,
    part_files,
    read_failures,
    read_manifest,
    records,
)


class Kind(NamedTuple):
    """A kind of folder that a `RunFolder` writes, and which settings must agree when it is resumed."""

    layout: Layout
    rule: Rule


RUNS = Kind(
    RUN,
    Rule(
        ("config", "seed", "space", "generator.sha256", "encoder.sha256", "refinement", "classes", "masked"),
        ("config.batch_size", "config.devices", "refinement.weights"),
    ),
)

Conclude = Callable[[Path], object]


class RunFolder:
    """The one writer of a run folder, or of a part of it. Use `open`, then `write` or `fail` per image (from any
    thread), then `finish`.

    Attributes:
        path: the folder.
        run: the contents of run.json; of a resumed run, those of its first start.
    """

    def __init__(self, path: Path, run: Record, locks: list[int], part: str = "", kind: Kind = RUNS):
        self.path, self.run = path, run
        self._locks, self._part, self._kind = locks, part, kind
        self._mutex = threading.Lock()
        suffix = f".{part}.jsonl" if part else ".jsonl"
        self._lines = {name: path / f"{name}{suffix}" for name in ("manifest", "failures")}
        for file in self._lines.values():
            atomic.read_records(file, cut=True)
        self._manifest, self._failures = (by_id(records(path, name)) for name in self._lines)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        run: Mapping[str, Any],
        *,
        part: str = "",
        kind: Kind = RUNS,
        complete: Callable[[Record], Record] | None = None,
    ) -> "RunFolder":
        """Starts a run in a new or empty folder, or resumes the one that is there. Takes the folder's lock, removes a
        torn line and deletes temporary files of a killed run.

        Args:
            path: the folder.
            run: what run.json holds (JSON values, no times).
            part: name of this process's part if several write at once; "" is the whole, written by one process alone.
            kind: of the folder.
            complete: see `matching.begin`.
        Raises:
            InUse: another process is writing there.
            LsapError: a deciding setting differs (each is named with both values), the folder holds something else, or
                it cannot be written.
        """
        folder = Path(path)
        locks = atomic.claim(folder, [kind.layout.file], part)
        try:
            kept = matching.begin(folder, kind.layout, run, kind.rule, complete)
            if not part:
                atomic.remove_leftovers([folder])
            return cls(folder, kept, locks, part, kind)
        except BaseException:
            for lock in locks:
                os.close(lock)
            raise

    def close(self) -> None:
        """Releases the lock."""
        while self._locks:
            os.close(self._locks.pop())

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def finished(self, *, check: bool = True, ids: Collection[str] | None = None) -> dict[str, Record]:
        """The manifest: a record per finished image, by id.

        Args:
            check: read every file that it lists and compare the SHA-256.
            ids: the records of these images alone.
        Raises:
            LsapError: a file is missing or has changed.
        """
        wanted = self._manifest if ids is None else [id for id in ids if id in self._manifest]
        if check:
            for text in wanted:
                for part in self._manifest[text]["sha256"]:
                    checked_bytes(self.path, text, part, self._manifest)
        return {text: self._manifest[text] for text in wanted}

    def failures(self) -> dict[str, Record]:
        """Images that have failed so far, by id: {"id", "input", "reason"}."""
        return {text: record for text, record in self._failures.items() if text not in self._manifest}

    def check_input(self, id: str, sha256: str, name: str | None = None) -> None:
        """Raises LsapError if this image is finished and its input (named `name`) was another one then."""
        record = self._manifest.get(id)
        if record is not None and record["input_sha256"] != sha256:
            raise LsapError(
                f"{name or id}: has changed since it was done (SHA-256 {record['input_sha256'][:12]}… then, "
                f"{sha256[:12]}… now): restore it, or choose another folder than {self.path}"
            )

    def write(
        self,
        id: str,
        *,
        metrics: Mapping[str, float],
        input_sha256: str,
        flags: Sequence[str] = (),
        notes: Sequence[str] = (),
        crop: Mapping[str, Any] | None = None,
        **parts: Any,
    ) -> None:
        """Saves one finished image: its files, each whole or absent, and then its line in the manifest.

        Args:
            id: a safe relative path (see `lsap_jax.data.ids`), not finished before.
            metrics: numbers by name.
            input_sha256: of the input that the target was made from.
            flags, notes: texts for the report.
            crop: where the target was cut out (`lsap_jax.data.Item`), if it was.
            parts: values of its parts by name (`lsap_jax.storage.parts`): codes, images, targets, ...
        Raises:
            LsapError: the disk is full or cannot be written; the image counts as unfinished and nothing is damaged.
            ValueError: a NaN or infinite value in a code or the image (use `fail`), an unsafe or finished id.
        """
        record = {
            "id": id,
            "input_sha256": input_sha256,
            "sha256": {},
            "metrics": {name: float(value) for name, value in metrics.items()},
            "flags": list(flags),
            "notes": list(notes),
            **({} if crop is None else {"crop": dict(crop)}),
        }
        self.put(record, encoded(id, parts))

    def stage(self, id: str, parts: Mapping[str, bytes]) -> dict[str, str]:
        """Saves some files of an image that is not finished yet; returns their SHA-256 by part, for `put`.

        Raises:
            LsapError: as for `write`.
            ValueError: an unsafe or finished id.
        """
        if problem := id_problem(id):
            raise ValueError(f"id {id!r} {problem}")
        if id in self._manifest:
            raise ValueError(f"{id!r} is finished already; its files must not change")
        atomic.write_files({inside(self.path, file_of(id, part)): data for part, data in parts.items()})
        return {part: atomic.sha256(data) for part, data in parts.items()}

    def put(self, record: Record, parts: Mapping[str, bytes], staged: Mapping[str, str] | None = None) -> None:
        """Saves one finished image from its files' bytes, as `write` does from its arrays.

        Args:
            record: its record in a manifest; the SHA-256 in it are replaced by those of `parts` and `staged`.
            parts: the files' bytes by part.
            staged: SHA-256 of the files that `stage` has saved before.
        Raises:
            LsapError: as for `write`.
            ValueError: an unsafe or finished id.
        """
        record = {**record, "sha256": {**(staged or {}), **self.stage(record["id"], parts)}}
        with self._mutex:
            atomic.append_record(self._lines["manifest"], as_json(record))
            self._manifest[record["id"]] = record

    def fail(self, id: str, reason: str, input: str) -> None:
        """Records that an image failed. A later `write` of the same id overrides it.

        Args:
            id: of the image.
            reason: why, in words.
            input: where it came from (a path).
        Raises:
            LsapError: as for `write`.
        """
        record = {"id": id, "input": input, "reason": reason}
        with self._mutex:
            if self._failures.get(id) != record:
                atomic.append_record(self._lines["failures"], record)
                self._failures[id] = record

    def finish(self, conclude: Conclude | None = None) -> None:
        """Writes metrics.csv with its digest, in which columns that `evaluate` has added stay, and failures.jsonl
        again: one line per id, without images that succeeded later. Merges the files of all parts.

        Args:
            conclude: called with the folder at the end, e.g. to write a report. It sees all results so far: a later
                writer waits for the lock, and concludes again after that.
        Raises:
            ValueError: this is the writer of a part.
        """
        if self._part:
            raise ValueError(f"part {self._part!r} cannot finish the whole; open the folder without a part")
        with self._mutex:
            rows = {text: record["metrics"] for text, record in self._manifest.items()}
            self._failures = self.failures()
            parts = [file for name in self._lines for file in part_files(self.path, name)]
            files: dict[Path, bytes] = {}
            if self._kind is RUNS or any(rows.values()):
                with atomic.held(self.path):
                    write_table(self.path, metrics_csv(with_added(self.path, rows, self._kind.layout)))
            if parts:
                files[self._lines["manifest"]] = _encoded(as_json(self._manifest[text]) for text in self._manifest)
            if self._failures or parts or self._lines["failures"].exists():
                files[self._lines["failures"]] = _encoded(self._failures[text] for text in sorted(self._failures))
            atomic.write_files(files)
            for file in parts:
                file.unlink()
        if conclude is not None:
            conclude(self.path)


def put_together(
    path: str | os.PathLike[str],
    run: Mapping[str, Any],
    conclude: Conclude | None = None,
    opening: Callable[..., Any] = RunFolder.open,
) -> bool:
    """Merges what all parts have written so far; returns False if another process, which merges later, still writes.

    Arguments and errors as `RunFolder.open`, or what opens a folder of another kind, and `RunFolder.finish`.
    """
    try:
        with opening(path, run) as folder:
            folder.finish(conclude)
    except atomic.InUse:
        return False
    return True


def untouched(path: str | os.PathLike[str], ids: Iterable[str]) -> set[str]:
    """The ids that are neither finished nor failed so far."""
    return set(ids) - read_manifest(path).keys() - read_failures(path).keys()


def _encoded(lines: Iterable[Record]) -> bytes:
    return b"".join(map(encode_record, lines))
