"""One converted file: safetensors with the kind, the configuration, the provenance and a digest in its header.

The header's metadata has one entry, "lsap_jax", a JSON object {format_version, kind, config, provenance, sha256};
`sha256` covers names, types, shapes and bytes of all tensors, so a flipped bit anywhere is noticed.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lsap_jax.errors import LsapError

FORMAT_VERSION = 1


class Unwritable(LsapError):
    """A file cannot be written where it should be."""


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and little-endian bytes, in the order of the names."""
    h = hashlib.sha256()
    for name in sorted(arrays):
        a = np.asarray(arrays[name], order="C")
        h.update(f"{name}|{a.dtype.str}|{a.shape}|".encode())
        h.update(a.tobytes() if a.ndim == 0 else a.data)
    return h.hexdigest()


def write_weights(
    path: str | Path,
    kind: str,
    arrays: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> str:
    """Write atomically; returns the digest of the tensors.

    Raises:
        Unwritable: the file cannot be written; an older one is as it was.
    """
    path = Path(path)
    arrays = {n: np.asarray(a, order="C") for n, a in arrays.items()}
    header = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "config": dict(config),
        "provenance": dict(provenance),
        "sha256": digest(arrays),
    }
    with _beside(path) as (handle, temporary):
        with os.fdopen(handle, "wb") as file:
            file.write(save(arrays, metadata={"lsap_jax": json.dumps(header, sort_keys=True)}))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    return str(header["sha256"])


def check_writable(path: str | Path) -> None:
    """Raises Unwritable where `write_weights` could not write this file: to be asked before hours of work."""
    with _beside(Path(path)) as (handle, _):
        os.close(handle)


@contextmanager
def _beside(path: Path) -> Iterator[tuple[int, str]]:
    """Descriptor and name of a temporary file that may become `path`, and is gone at the end if it has not.

    Raises:
        Unwritable: that it cannot, now or later.
    """
    if path.is_dir():
        raise Unwritable(f"{path}: is a folder; name the file to write")
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        yield handle, temporary
    except OSError as error:
        raise Unwritable(f"{path}: cannot be written ({error.strerror or error}); name another file") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


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
                    f"{path}: safetensors without lsap_jax metadata; convert the original with `lsap-jax convert`"
                )
            header = json.loads(metadata)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        version, kind, config, provenance, expected = (
            header[k] for k in ("format_version", "kind", "config", "provenance", "sha256")
        )
    except FileNotFoundError:
        raise LsapError(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise LsapError(f"{path}: damaged or truncated weights file ({error}); convert or copy it again") from error
    if version != FORMAT_VERSION:
        raise LsapError(
            f"{path}: written in format {version}, this version reads {FORMAT_VERSION}; install the matching lsap_jax"
        )
    found = digest(arrays)
    if found != expected:
        raise LsapError(
            f"{path}: its tensors have SHA-256 {found[:16]}…, its header says {str(expected)[:16]}…; "
            "the file is damaged, copy it again"
        )
    return kind, arrays, config, {**provenance, "sha256": expected}
