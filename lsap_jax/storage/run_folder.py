"""The writer of a run folder (its files: `lsap_jax.storage.results`), which starts a run or resumes it.

Bytes depend on the contents only, so that a resumed run leaves the same files as an uninterrupted one. Several
processes may each write a part; whoever finds no other at work puts the parts together.
"""

import json
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsap_jax.data.ids import id_problem
from lsap_jax.errors import LsapError
from lsap_jax.pixels import to_uint8
from lsap_jax.storage import atomic
from lsap_jax.storage.file_bytes import metrics_csv, npz_bytes, png_bytes
from lsap_jax.storage.results import (
    RUN,
    Layout,
    Record,
    as_json,
    by_id,
    checked_bytes,
    file_of,
    part_files,
    read_failures,
    read_manifest,
    read_run,
    records,
)

RESUME_KEYS = ("config", "seed", "space", "generator.sha256")
FREE_KEYS = ("config.batch_size", "config.devices")

Conclude = Callable[[Path], object]


class RunFolder:
    """The one writer of a run folder, or of a part of it. Use `open`, then `write` or `fail` per image (from any
    thread), then `finish`.

    Attributes:
        path: the folder.
        run: the contents of run.json; of a resumed run, those of its first start.
    """

    def __init__(self, path: Path, run: Record, locks: list[int], part: str = "", layout: Layout = RUN):
        self.path, self.run = path, run
        self._locks, self._part, self._layout = locks, part, layout
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
        layout: Layout = RUN,
        resume_keys: Sequence[str] = RESUME_KEYS,
        free_keys: Sequence[str] = FREE_KEYS,
    ) -> "RunFolder":
        """Starts a run in a new or empty folder, or resumes the one that is there. Takes the folder's lock, cuts a torn
        line off and deletes temporary files of a killed run.

        Args:
            path: the folder.
            run: what run.json holds (JSON values, no times).
            part: name of this process's part where several write at once; "" is the whole, by one writer alone.
            layout: of what kind the folder is.
            resume_keys: dotted keys of `run` that a resumed run must share, each with everything beneath it.
            free_keys: dotted keys beneath those that may differ all the same.
        Raises:
            InUse: another process is writing there.
            LsapError: a key differs (each is named with both values), the folder holds something else, or it cannot be
                written.
        """
        folder = Path(path)
        wanted: Record = json.loads(json.dumps({"format": layout.format, **run}, allow_nan=False))
        locks = atomic.claim(folder, [layout.file], part)
        try:
            if (folder / layout.file).exists():
                kept = read_run(folder, layout)
                _refuse_differing(folder, kept, wanted, resume_keys, free_keys)
            else:
                kept = wanted
                atomic.write_files({folder / layout.file: _json_bytes(wanted)})
            if not part:
                atomic.remove_leftovers([folder])
            return cls(folder, kept, locks, part, layout)
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
        """Images that could not be done so far, by id: {"id", "input", "reason"}."""
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
        codes: Mapping[str, np.ndarray],
        image: np.ndarray,
        target: np.ndarray,
        curve: Mapping[str, np.ndarray],
        metrics: Mapping[str, float],
        input_sha256: str,
        flags: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> None:
        """Saves one finished image: its files, each whole or absent, and then its line in the manifest.

        Args:
            id: a safe relative path (see `lsap_jax.data.ids`), not finished before.
            codes: the code's arrays by name, without the batch axis.
            image: float [H, W, C] in [-1, 1], the reconstruction.
            target: uint8 [H, W, C], the preprocessed target.
            curve: loss terms over the steps, by name; no file is written for none.
            metrics: numbers by name.
            input_sha256: of the input that the target was made from.
            flags, notes: texts for the report.
        Raises:
            LsapError: the disk is full or cannot be written; the image counts as unfinished and nothing is damaged.
            ValueError: a NaN or infinite value in a code or the image (use `fail`), an unsafe or finished id.
        """
        for name, array in codes.items():
            if not np.isfinite(array).all():
                raise ValueError(f"code {name!r} of {id!r} has NaN or infinite values")
        parts = {
            "codes": npz_bytes(codes),
            "images": png_bytes(to_uint8(image)),
            "targets": png_bytes(target),
            **({"curves": npz_bytes(curve)} if curve else {}),
        }
        record = {
            "id": id,
            "input_sha256": input_sha256,
            "sha256": {},
            "metrics": {name: float(value) for name, value in metrics.items()},
            "flags": list(flags),
            "notes": list(notes),
        }
        self.put(record, parts)

    def stage(self, id: str, parts: Mapping[str, bytes]) -> dict[str, str]:
        """Saves some files of an image that is not finished yet; returns their SHA-256 by part, for `put`.

        Raises:
            LsapError: as for `write`.
            ValueError: an unsafe or finished id.
        """
        if problem := id_problem(id):
            raise ValueError(f"id {id!r} {problem}")
        if id in self._manifest:
            raise ValueError(f"{id!r} is finished already; its files must not change beneath its line")
        atomic.write_files({self.path / file_of(id, part): data for part, data in parts.items()})
        return {part: atomic.sha256(data) for part, data in parts.items()}

    def put(self, record: Record, parts: Mapping[str, bytes], staged: Mapping[str, str] | None = None) -> None:
        """Saves one finished image from its files' bytes, as `write` does from its arrays.

        Args:
            record: its record in a manifest; the SHA-256 in it are replaced by those of `parts` and `staged`.
            parts: "codes", "images", "targets" and, where there is one, "curves" -> the file's bytes; what else a
                layout has.
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
        """Records that an image could not be done. A later `write` of the same id overrides it.

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
        """Writes metrics.csv, and failures.jsonl anew: by id, one line each, without those that succeeded later. Puts
        together what parts left.

        Args:
            conclude: called with the folder when all that is done. What it writes, a report say, is of everything so
                far: whoever adds to the folder later waits for the lock, and concludes after that.
        Raises:
            ValueError: this is the writer of a part.
        """
        if self._part:
            raise ValueError(f"part {self._part!r} cannot finish the whole; open it without a part")
        with self._mutex:
            rows = {text: record["metrics"] for text, record in self._manifest.items()}
            self._failures = self.failures()
            parts = [file for name in self._lines for file in part_files(self.path, name)]
            files: dict[Path, bytes] = {}
            if self._layout is RUN or any(rows.values()):
                files[self.path / "metrics.csv"] = metrics_csv(rows)
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
    path: str | os.PathLike[str], run: Mapping[str, Any], conclude: Conclude | None = None, **options: Any
) -> bool:
    """What all parts have written so far as one; False where another one is still writing, which does it later.

    Arguments and errors as `RunFolder.open` and `RunFolder.finish`.
    """
    try:
        with RunFolder.open(path, run, **options) as folder:
            folder.finish(conclude)
    except atomic.InUse:
        return False
    return True


def untouched(path: str | os.PathLike[str], ids: Iterable[str]) -> set[str]:
    """Those of the ids that are neither finished nor failed so far."""
    return set(ids) - read_manifest(path).keys() - read_failures(path).keys()


def _encoded(lines: Iterable[Record]) -> bytes:
    return b"".join(map(atomic.encode_record, lines))


def _json_bytes(value: Record) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode("ascii")


def _refuse_differing(
    folder: Path, kept: Record, wanted: Record, resume_keys: Sequence[str], free_keys: Sequence[str]
) -> None:
    there, here = _flat(kept), _flat(wanted)
    keys = [
        key
        for key in sorted(there.keys() | here.keys())
        if _beneath(key, resume_keys) and not _beneath(key, free_keys) and there.get(key) != here.get(key)
    ]
    if keys:
        listed = "; ".join(f"{key} was {there.get(key, 'absent')!r}, is {here.get(key, 'absent')!r}" for key in keys)
        raise LsapError(f"{folder}: was started otherwise ({listed}): repeat its settings, or choose another folder")


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Leaves by dotted key; of a list of records, by their names."""
    if isinstance(value, list) and value and all(isinstance(one, dict) and "name" in one for one in value):
        value = {one["name"]: one for one in value}
    if not isinstance(value, dict) or not value:
        return {key: value}
    return {name: leaf for k, v in value.items() for name, leaf in _flat(v, f"{key}.{k}" if key else k).items()}


def _beneath(key: str, tops: Sequence[str]) -> bool:
    return any(key == top or key.startswith(top + ".") for top in tops)
