"""Files that are whole or absent, lines that are whole or ignored, and one writer per folder.

A file is written under a temporary name, synced and renamed; a line is appended and synced, and a torn one at the end
is recognised and cut off. So a process may be killed, or the machine lose power, between any two instructions.
"""

import errno
import hashlib
import itertools
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lsap_jax.errors import LsapError
from lsap_jax.storage.checked_json import encode_record, parse_record
from lsap_jax.storage.inside import read_inside

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
PATIENCE = 900.0  # seconds that a part waits while another process merges the parts and writes the report
SILENCE = 5.0  # seconds of waiting before a warning


class InUse(LsapError):
    """Another process is writing in a folder."""


_TEMPORARY = (".lsap-", ".tmp")
_serial = itertools.count()
_FULL = {errno.ENOSPC: "no space left", errno.EDQUOT: "quota used up", errno.EFBIG: "file size limit reached"}


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def write_files(files: Mapping[Path, bytes]) -> None:
    """Writes files so that each is, at every moment and after a power loss, either absent (or as it was) or whole.

    When the function returns, all of them are on the disk. Folders are made as needed.

    Raises:
        LsapError: the disk is full or a file cannot be written; nothing partial is left and no old file is touched
            unless its own new one was complete.
    """
    pending: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            make_folder(path.parent)
            pending[path] = path.parent / f"{_TEMPORARY[0]}{os.getpid()}-{next(_serial)}{_TEMPORARY[1]}"
            _write_synced(pending[path], data)
        for path in files:
            os.replace(pending[path], path)
            del pending[path]
        for folder in sorted({path.parent for path in files}):
            sync_folder(folder)
    except OSError as error:
        raise explained(error, path) from error
    finally:
        for temporary in pending.values():
            with suppress(OSError):
                os.unlink(temporary)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, so that they survive a power loss."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):  # another thread was faster; if it is a file, the next step fails
        os.mkdir(folder)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder durable, where the file system can do that for folders."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Appends one JSON object as a line with its checksum, and syncs it. If that fails, the line is removed.

    Raises:
        LsapError: the disk is full or the file cannot be written; it stays as it was.
    """
    try:
        new = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            before = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, encode_record(record))
                os.fsync(descriptor)
            except BaseException:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
        if new:
            sync_folder(path.parent)
    except OSError as error:
        raise explained(error, path) from error


def read_records(path: Path, *, cut: bool = False) -> list[dict[str, Any]]:
    """Reads a file of `append_record`; an absent file has no records.

    Args:
        path: the file.
        cut: also remove a torn last line (what a power loss or SIGKILL left of it) from the file, as its writer must.
    Raises:
        LsapError: a line has changed since it was written; what has no newline at its end is torn, unless it is a whole
            line whose newline has changed.
    """
    try:
        data = read_inside(path.parent, path.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise explained(error, path) from error
    *lines, tail = data.split(b"\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(parse_record(line + b"\n"))
        except ValueError:
            raise LsapError(_damaged_line(path, number)) from None
    if tail and _is_whole(tail[:-1] + b"\n"):
        raise LsapError(_damaged_line(path, len(lines) + 1))
    if cut and tail:
        os.truncate(path, len(data) - len(tail))
    return records


def claim(folder: Path, marks: Sequence[str], part: str = "") -> list[int]:
    """Makes a folder for results if there is none, and locks it as `lock_folder` does.

    Args:
        marks: names of files, one of which every folder of this kind has unless it is empty. Another folder is left
            as it is, and is not locked either.

    Raises:
        InUse: another process has the lock.
        LsapError: the path is a file, or the folder holds other things or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise LsapError(f"{folder}: is a file; choose a folder")
    try:
        names = os.listdir(folder) if folder.exists() else []
        held = {name for name in names if not is_lock(name) and not is_temporary(name)}
        if held and not held & set(marks):
            raise LsapError(f"{folder}: holds {min(held)!r} but no {marks[0]}; choose another folder")
        make_folder(folder)
    except OSError as error:
        raise explained(error, folder) from error
    return lock_folder(folder, part)


@contextmanager
def claimed(folder: Path, marks: Sequence[str], part: str = "") -> Iterator[None]:
    """Holds the lock of `claim` within the context; that of the whole deletes the temporary files of a killed writer
    first.
    """
    locks = claim(folder, marks, part)
    try:
        if not part:
            remove_leftovers([folder])
        yield
    finally:
        for lock in locks:
            os.close(lock)


def lock_folder(folder: Path, part: str = "") -> list[int]:
    """Takes the folder's lock, which the kernel releases when the process ends, however it ends; close the returned
    descriptors to release it earlier.

    Args:
        part: name of a part, if several processes write the folder: excludes writers of this part and of the whole.

    Raises:
        InUse: another process (or another writer in this one) holds the lock.
    """
    if not part:
        return [_lock(folder, LOCK, shared=False)]
    whole = _lock(folder, LOCK, shared=True)
    try:
        return [whole, _lock(folder, f"{LOCK}.{part}", shared=False)]
    except BaseException:
        os.close(whole)
        raise


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """While a file of this folder is read, changed and written again, by a command that may not be the one that holds
    the folder's lock: the next one waits.

    Raises:
        InUse: another process has taken it for a quarter of an hour.
    """
    descriptor = os.open(folder, os.O_RDONLY) if fcntl is not None else None
    try:
        if descriptor is not None:
            _take(descriptor, fcntl.LOCK_EX, folder, PATIENCE)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(folder: Path, name: str, shared: bool) -> int:
    try:
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise explained(error, folder / name) from error
    if fcntl is None:
        return descriptor
    try:
        _take(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, folder, PATIENCE if shared else 0.0)
    except InUse:
        os.close(descriptor)
        raise
    return descriptor


def _take(descriptor: int, kind: int, folder: Path, seconds: float) -> None:
    """Takes a lock; raises InUse if another process still holds it after `seconds`."""
    try:
        _wait_for(descriptor, kind, folder, seconds)
    except BlockingIOError:
        raise InUse(f"{folder}: another process is writing there; wait for it, or choose another folder") from None
    except OSError as error:  # some network file systems have no locks
        warnings.warn(
            f"{folder}: cannot be locked ({error.strerror}); make sure that only one process writes there", stacklevel=3
        )


def _wait_for(descriptor: int, kind: int, folder: Path, seconds: float) -> None:
    """Takes a lock; raises BlockingIOError if another process still holds it after `seconds`."""
    start, told = time.monotonic(), False
    while True:
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - start
            if waited >= seconds:
                raise
            if waited >= SILENCE and not told:
                told = True
                warnings.warn(f"{folder}: waiting for another process to finish there", stacklevel=5)
            time.sleep(0.05)


def remove_leftovers(folders: Iterable[Path]) -> None:
    """Deletes temporary files that a killed writer left below these folders, except in subfolders with a lock of their
    own, such as the runs of a comparison. The caller holds the lock.
    """
    for top in folders:
        for folder, inner, names in os.walk(top):
            inner[:] = [name for name in inner if not os.path.exists(os.path.join(folder, name, LOCK))]
            for name in filter(is_temporary, names):
                os.unlink(os.path.join(folder, name))


def is_lock(name: str) -> bool:
    """Whether a file name is that of a lock of `lock_folder`."""
    return name == LOCK or name.startswith(f"{LOCK}.")


def is_temporary(name: str) -> bool:
    """Whether a file name is that of a temporary file of `write_files`."""
    return name.startswith(_TEMPORARY[0]) and name.endswith(_TEMPORARY[1])


def explained(error: OSError, path: Path) -> LsapError:
    """A failed read or write as an error for the user."""
    if error.errno in _FULL:
        return LsapError(
            f"{path}: {_FULL[error.errno]}; what is finished is kept: make room and run the same command again"
        )
    return LsapError(f"{path}: cannot be read or written ({error.strerror or error})")


def _damaged_line(path: Path, number: int) -> str:
    return f"{path}: line {number} has changed since it was written; restore the line, or delete it and run again"


def _is_whole(line: bytes) -> bool:
    try:
        return bool(parse_record(line))
    except ValueError:
        return False


def _write_synced(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a nearly full disk takes a part first and fails at the next call
        view = view[os.write(descriptor, view) :]
