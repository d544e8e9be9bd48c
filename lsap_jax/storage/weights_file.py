"""Converted files (`convert_weights.converted_file`), written and read with this package's errors."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from convert_weights.converted_file import FORMAT_VERSION, digest, replacing, write
from lsap_jax.errors import LsapError
from lsap_jax.storage.atomic import sync_folder

__all__ = ["Unwritable", "check_writable", "digest", "is_weights_file", "read_weights", "write_weights"]


class Unwritable(LsapError):
    """A file cannot be written where it should be."""


def write_weights(
    path: str | Path,
    kind: str,
    arrays: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> str:
    """Write atomically; returns the digest of the tensors.

    Raises:
        Unwritable: the file cannot be written; an existing file stays as it was.
    """
    with _explained(Path(path)):
        found = write(path, kind, arrays, config, provenance)
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
    """Whether the file starts as a safetensors file does (its content, not its name, decides)."""
    with open(path, "rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000


def read_weights(path: str | Path) -> tuple[str, dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """(kind, arrays, config, provenance) of a file written by `write_weights`; provenance gains "sha256", the checked
    digest.

    Raises:
        LsapError: the file is damaged, truncated, or was not written by this package.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = (file.metadata() or {}).get("lsap_jax")
            if metadata is None:
                raise LsapError(
                    f"{path}: is a safetensors file without lsap_jax metadata; convert the original with "
                    "`lsap-jax convert`"
                )
            header = json.loads(metadata)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        version, kind, config, provenance, expected = (
            header[k] for k in ("format_version", "kind", "config", "provenance", "sha256")
        )
    except FileNotFoundError:
        raise LsapError(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise LsapError(
            f"{path}: is a damaged or truncated weights file ({error}); convert or copy it again"
        ) from error
    if version != FORMAT_VERSION:
        raise LsapError(
            f"{path}: was written in format {version}, this version reads {FORMAT_VERSION}; install the matching "
            "lsap_jax"
        )
    found = digest(arrays)
    if found != expected:
        raise LsapError(
            f"{path}: its tensors have SHA-256 {found[:16]}…, its header says {str(expected)[:16]}…; "
            "the file is damaged, copy it again"
        )
    return kind, arrays, config, {**provenance, "sha256": expected}
