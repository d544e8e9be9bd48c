"""Converted files (`convert_weights.converted_file`), written and read with this package's errors."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from convert_weights.converted_file import digest, header_digest, replacing, write
from convert_weights.opening import open_file
from lsap_jax.errors import LsapError
from lsap_jax.storage.atomic import sync_folder

__all__ = ["Unwritable", "check_writable", "digest", "is_weights_file", "read_weights", "write_weights"]

MOST_HEADER = 2**23  # bytes of a header; a generator of 1024 px with its encoders has 2^18
MOST_METADATA = 2**22  # characters of configuration and provenance
FIELDS = {"format_version": int, "kind": str, "config": dict, "provenance": dict, "sha256": str}
FORMATS = {1: FIELDS, 2: {**FIELDS, "header_sha256": str}}
COVERED = {1: "the tensors", 2: "the tensors and the header"}
ADDED = ("sha256", "sha256_covers")  # what `read_weights` adds to the provenance


class Unwritable(LsapError):
    """A file cannot be written where it should be."""


def write_weights(
    path: str | Path,
    kind: str,
    arrays: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> str:
    """Write atomically; returns the digest of the tensors. `provenance` may be what `read_weights` returned.

    Raises:
        Unwritable: the file cannot be written; an existing file stays as it was.
    """
    with _explained(Path(path)):
        found = write(path, kind, arrays, config, {k: v for k, v in provenance.items() if k not in ADDED})
        sync_folder(Path(path).parent)
        return found


def check_writable(path: str | Path) -> None:
    """Raises Unwritable if `write_weights` could not write this file; call it before hours of work."""
    with _explained(Path(path)), replacing(Path(path)) as (handle, _):
        os.close(handle)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    if path.is_dir():
        raise Unwritable(f"{path}: is a folder; name the file to write")
    try:
        yield
    except OSError as error:
        raise Unwritable(f"{path}: cannot be written ({error.strerror or error}); name another file") from error


def is_weights_file(path: str | Path) -> bool:
    """Whether the file starts as a safetensors file does (its content, not its name, decides).

    Raises:
        OSError: it is not a regular file that can be read.
    """
    with open_file(path) as file:
        return 0 < _header_size(file) < 100_000_000


def read_weights(path: str | Path) -> tuple[str, dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """(kind, arrays, config, provenance) of a file written by `write_weights`; provenance gains "sha256", the checked
    digest, and "sha256_covers", what is covered by digests: files of format 1 have none of their header.

    Raises:
        LsapError: the file is damaged, truncated, or was not written by this package.
    """
    try:
        with open_file(path) as file:
            if (size := _header_size(file)) > MOST_HEADER:
                raise ValueError(f"its header has {size} bytes, at most {MOST_HEADER} are read")
        with safe_open(str(path), framework="numpy") as file:
            metadata = (file.metadata() or {}).get("lsap_jax")
            if metadata is None:
                raise LsapError(
                    f"{path}: is a safetensors file without lsap_jax metadata; convert the original with "
                    "`lsap-jax convert`"
                )
            header = _parsed(path, metadata)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise LsapError(f"{path}: no such file") from None
    except OSError as error:
        raise LsapError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        reason = str(error)[:200] or type(error).__name__
        raise LsapError(
            f"{path}: is a damaged or truncated weights file ({reason}); convert or copy it again"
        ) from error
    found, expected = digest(arrays), header["sha256"]
    if found != expected:
        raise LsapError(
            f"{path}: its tensors have SHA-256 {found[:16]}…, its header says {expected[:16]}…; "
            "the file is damaged, copy it again"
        )
    checked = {"sha256": expected, "sha256_covers": COVERED[header["format_version"]]}
    return header["kind"], arrays, header["config"], {**header["provenance"], **checked}


def _header_size(file: BinaryIO) -> int:
    """Bytes of a safetensors header, or 0 where the file does not start with one."""
    start = file.read(9)
    return int.from_bytes(start[:8], "little") if len(start) == 9 and start[8:] == b"{" else 0


def _parsed(path: str | Path, metadata: str) -> dict[str, Any]:
    """The entry of a header, with the fields of its format and no others.

    Raises:
        LsapError: it is of another format, or has changed.
        ValueError, RecursionError: it is damaged.
    """
    if len(metadata) > MOST_METADATA:
        raise ValueError(f"its metadata has {len(metadata)} characters, at most {MOST_METADATA} are read")
    header = json.loads(metadata)
    version = header.get("format_version") if isinstance(header, dict) else None
    if type(version) is int and version not in FORMATS:
        raise LsapError(
            f"{path}: was written in format {str(version)[:20]}, this version reads up to {max(FORMATS)}; install the "
            "matching lsap_jax"
        )
    fields = FORMATS.get(version, {}) if type(version) is int else {}
    if not fields or header.keys() != fields.keys() or any(type(header[key]) is not fields[key] for key in fields):
        raise ValueError("its metadata lacks kind, config, provenance or digests")
    if "header_sha256" in header and header["header_sha256"] != header_digest(header):
        raise LsapError(f"{path}: its header has changed since it was written; the file is damaged, copy it again")
    return header  # type: ignore[no-any-return]
