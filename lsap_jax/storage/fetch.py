"""Files of https:// addresses in the user's cache: streamed, resumed after a break, recorded with their SHA-256.

`downloads/KEY/` in the cache, KEY the start of the SHA-256 of the address, holds NAME and NAME.json, with address,
size and digest. NAME.part is what there is of a file that is not whole yet; NAME.part.json says of which version, and
how much of it is surely on the disk. A file is fetched because its address was given, never because something that was
loaded names it.
"""

import hashlib
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from lsap_jax.cache import user_folder
from lsap_jax.errors import LsapError
from lsap_jax.storage.atomic import InUse, explained, lock_folder, make_folder, sync_folder, write_files
from lsap_jax.storage.web import BY_HAND, Address, Broken, Changed, answer, check_is_file, parsed, read_some

Report = Callable[[int, int | None], object]

MOST_BYTES = 8 << 30  # public checkpoints are smaller
BREAKS = 5  # that are gone on from before the command ends
PAUSE = 1.0  # seconds before the first of these attempts, twice as many before each next one
PATIENCE = 5.0  # seconds of waiting for another process before a warning
CHUNK = 1 << 18
SYNCED = 1 << 26  # bytes between two notes of what is on the disk
LARGEST_RECORD = 1 << 16


class Place(NamedTuple):
    """Where the file of an address is kept: whole, its record, the part that is there, and what that is a part of."""

    path: Path
    record: Path
    part: Path
    about: Path


def downloads() -> Path:
    """The folder of fetched files; it may not exist yet."""
    return user_folder() / "downloads"


def cached_files() -> list[dict[str, Any]]:
    """The records of the files in the cache, each with its path; damaged records are passed over."""
    there = [path for path in sorted(downloads().glob("*/*.json")) if path.with_suffix("").is_file()]
    records = ({**_read(path), "path": str(path.with_suffix(""))} for path in there)
    return [record for record in records if {"address", "bytes", "sha256"} <= record.keys()]


def fetch(text: str, report: Report | None = None) -> Path:
    """The file of an address, from the cache or fetched now.

    Args:
        text: https://…; http://… on this machine alone. `#sha256=HEX` behind it is compared with the file's digest.
        report: called with (bytes so far, bytes in all or None).

    Raises:
        LsapError: another kind of address, an answer that is not the file, one that is too large, a digest that is not
            the one asked for or recorded, a full disk, or a transfer that broke off too often: what was got is kept.
    """
    address = parsed(text)
    path = downloads() / hashlib.sha256(address.url.encode()).hexdigest()[:16] / address.name
    place = Place(path, *(path.with_name(path.name + end) for end in (".json", ".part", ".part.json")))
    try:
        make_folder(path.parent)
        with _alone(path.parent):
            if not (path.is_file() and place.record.is_file()):
                _complete(address, place, report or (lambda done, total: None))
            found = _digest(path)
            if found != _read(place.record).get("sha256"):
                raise LsapError(f"{path}: has changed since it was fetched; delete the file, and it is fetched again")
            _compare(address, found)
    except OSError as error:
        raise explained(error, path) from error
    return path


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, after any other process that fetches the same file now."""
    began, told = time.monotonic(), False
    while True:
        try:
            locks = lock_folder(folder)
            break
        except InUse:
            if not told and time.monotonic() - began >= PATIENCE:
                told = True
                warnings.warn("waiting for another process that fetches the same file", stacklevel=4)
            time.sleep(0.2)
    try:
        yield
    finally:
        for lock in locks:
            os.close(lock)


def _compare(address: Address, found: str) -> None:
    """Raises LsapError if a digest is not the one that is asked for."""
    if address.sha256 not in ("", found):
        raise LsapError(
            f"{address.shown}: its SHA-256 is {found}, not {address.sha256}: it is another file; do not use it"
        )


def _complete(address: Address, place: Place, report: Report) -> None:
    """Fetches a file, from where an earlier attempt ended on; what is there is kept whenever it ends."""
    before = _kept(place)
    for attempt in range(BREAKS + 1):
        try:
            _transfer(address, place, report)
            break
        except Broken as error:
            if isinstance(error, Changed):
                _forget(place)
            elif _kept(place) == before:  # nothing has come since the command began
                raise LsapError(
                    f"{address.shown}: cannot be fetched ({error}); check the address and the network"
                ) from None
            if attempt == BREAKS:
                raise LsapError(
                    f"{address.shown}: broke off after {_kept(place):,} bytes ({error}); run the same command "
                    "again to go on"
                ) from None
            time.sleep(PAUSE * 2**attempt)
    record: dict[str, Any] = {"address": address.shown, "bytes": _kept(place), "sha256": _digest(place.part)}
    try:
        _compare(address, record["sha256"])
    except LsapError:
        _forget(place)
        raise
    write_files({place.record: json.dumps(record, indent=1).encode()})
    os.replace(place.part, place.path)
    sync_folder(place.path.parent)
    place.about.unlink(missing_ok=True)


def _transfer(address: Address, place: Place, report: Report) -> None:
    """One answer of the server, appended to what there is of the file or put in its place."""
    about, have = _read(place.about), _kept(place)
    if have and have == about.get("bytes"):
        return os.truncate(place.part, have)
    headers = {"User-Agent": "lsap-jax", "Accept-Encoding": "identity"}
    if have and isinstance(about.get("version"), str):
        headers |= {"Range": f"bytes={have}-", "If-Range": about["version"]}
    with answer(address, headers) as response:
        version, total, start = _version(response), *_extent(response, have)
        if start and (total, version) != (about.get("bytes"), about.get("version")):
            raise Changed("the file has changed meanwhile")
        _check_size(address, place, total or 0, start)
        _receive(address, place, response, start, {"version": version, "bytes": total}, report)


def _version(response: Any) -> str | None:
    """What tells this version of the file from others: its strong ETag, else its date."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _extent(response: Any, have: int) -> tuple[int | None, int]:
    """(bytes of the whole file, if the server says, and bytes before the answer's first one)."""
    if response.status != 206:
        length = response.headers.get("Content-Length", "")
        return int(length) if re.fullmatch(r"\d{1,18}", length) else None, 0
    found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", response.headers.get("Content-Range", ""))
    if found is None or not have or int(found[1]) != have:
        raise Changed("the server answers with another part of the file than the one that was asked for")
    return int(found[2]), have


def _receive(
    address: Address, place: Place, response: Any, start: int, about: Mapping[str, Any], report: Report
) -> None:
    """Writes the body of an answer behind the first `start` bytes of the part, once it is known to be the file."""
    done, synced, total = start, start, about["bytes"]
    data = read_some(response, CHUNK)
    if not data and not total:
        raise LsapError(f"{address.shown}: the answer is empty; {BY_HAND}")
    if not start:
        check_is_file(address, response, data)
    with open(place.part, "r+b" if start else "wb") as file:
        file.truncate(start)
        file.seek(start)
        try:
            while data:
                _check_size(address, place, max(done + len(data), total or 0), done)
                file.write(data)
                done += len(data)
                report(done, total)
                if done - synced >= SYNCED:
                    _sync(file, place, about, done)
                    synced = done
                data = read_some(response, CHUNK)
        finally:
            _sync(file, place, about, done)
    if total is not None and done != total:
        raise Broken(f"the connection ended after {done:,} of {total:,} bytes")


def _sync(file: BinaryIO, place: Place, about: Mapping[str, Any], done: int) -> None:
    """Notes that the first `done` bytes are on the disk, when they are."""
    file.flush()
    os.fsync(file.fileno())
    write_files({place.about: json.dumps({**about, "kept": done}).encode()})


def _check_size(address: Address, place: Place, size: int, have: int) -> None:
    """Raises LsapError if a file of so many bytes is larger than the limit, or than what is free on the disk."""
    if size > MOST_BYTES:
        raise LsapError(f"{address.shown}: has more than {MOST_BYTES:,} bytes, the most that are fetched; {BY_HAND}")
    if size - have > (free := shutil.disk_usage(place.path.parent).free):
        raise LsapError(
            f"{address.shown}: {size - have:,} bytes are still to come and {free:,} are free in {place.path.parent}; "
            "make room, or set XDG_CACHE_HOME to another disk"
        )


def _forget(place: Place) -> None:
    for path in (place.part, place.about):
        path.unlink(missing_ok=True)


def _kept(place: Place) -> int:
    """Bytes of the part that are there for sure."""
    kept = _read(place.about).get("kept")
    return min(kept, place.part.stat().st_size) if type(kept) is int and kept > 0 and place.part.exists() else 0


def _read(path: Path) -> dict[str, Any]:
    """A record of this module; {} where there is none or it is damaged."""
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(LARGEST_RECORD))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
