"""Converted files: safetensors with the kind, the configuration, the provenance and two digests in the header.

The header's metadata has one entry, "lsap_jax", a JSON object {format_version, kind, config, provenance, sha256,
header_sha256}. `sha256` covers names, types, shapes and bytes of all tensors, and is recorded in results;
`header_sha256` covers everything else in the object, so a flipped bit anywhere is noticed. Files of format 1 have no
`header_sha256`; no single flipped bit makes one of a file of format 2.

The container is that of huggingface/safetensors: the length of a JSON header as 8 little-endian bytes, the header,
padded with spaces to a multiple of 8, and the tensors' bytes, widest types first and then by name.
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

FORMAT_VERSION = 2
# In the order of the format's own writer, narrow to wide.
TYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16", "float16": "F16", "int32": "I32",
    "uint32": "U32", "float32": "F32", "float64": "F64", "int64": "I64", "uint64": "U64",
}  # fmt: skip


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and little-endian bytes, in the order of the names."""
    h = hashlib.sha256()
    for name in sorted(arrays):
        a = np.asarray(arrays[name], order="C")
        h.update(f"{name}|{a.dtype.str}|{a.shape}|".encode())
        h.update(a.tobytes() if a.ndim == 0 else a.data)
    return h.hexdigest()


def header_digest(header: Mapping[str, Any]) -> str:
    """SHA-256 over everything in the header but this digest itself."""
    covered = {key: value for key, value in header.items() if key != "header_sha256"}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def write(
    path: str | Path,
    kind: str,
    arrays: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> str:
    """Write a converted file, whole or not at all; returns the digest of the tensors.

    Raises:
        OSError: the file cannot be written; an existing file stays as it was.
    """
    arrays = {n: np.asarray(a, order="C") for n, a in arrays.items()}
    header: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "config": dict(config),
        "provenance": dict(provenance),
        "sha256": digest(arrays),
    }
    header = json.loads(json.dumps(header))  # as it is read: tuples are lists, keys are text
    header["header_sha256"] = header_digest(header)
    with replacing(Path(path)) as (handle, temporary):
        with os.fdopen(handle, "wb") as file:
            for block in _blocks(arrays, {"lsap_jax": json.dumps(header, sort_keys=True)}):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    return str(header["sha256"])


def _blocks(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file, piece by piece."""
    order = list(TYPES)
    names = sorted(arrays, key=lambda name: (-order.index(arrays[name].dtype.name), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        a = arrays[name]
        start, end = end, end + a.nbytes
        header[name] = {"dtype": TYPES[a.dtype.name], "shape": list(a.shape), "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in names:
        little = arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False)
        yield little.tobytes() if little.ndim == 0 or not little.size else little.data.cast("B")


@contextmanager
def replacing(path: Path) -> Iterator[tuple[int, str]]:
    """Descriptor and name of a temporary file to rename to `path`; it is deleted at the end if it was not renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        yield handle, temporary
    finally:
        Path(temporary).unlink(missing_ok=True)
