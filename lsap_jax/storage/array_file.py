"""Large arrays in one file, .npy, .npz or .pt, written piece by piece: a whole array is never in memory."""

import io
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from convert_weights.converted_file import replacing
from convert_weights.torch_writer import Part, write_member, write_torch
from lsap_jax.errors import LsapError
from lsap_jax.storage.atomic import sync_folder

FORMATS = ("npy", "pt", "npz")


def write_array_file(
    kind: str, target: Path, parts: Mapping[str, Part], ids: Sequence[str], *, alone: bool = False
) -> None:
    """Writes arrays by name, and the ids of their rows, to one file, which is complete or absent.

    Args:
        kind: one of `FORMATS`. npz has `ids` as an array, pt as a list; npy has them as lines of TARGET.ids.txt.
        alone: in a pt the one array is a bare tensor, as other tools load it, and the ids are written as of an npy.

    Raises:
        LsapError: several arrays for an npy, or the file cannot be written.
    """
    if kind == "npy":
        if len(parts) != 1:
            raise LsapError(
                f"an .npy file holds one array, this run has {', '.join(parts)}; choose one with --array=NAME"
            )
        with whole_file(target) as file:
            (part,) = parts.values()
            file.write(npy_header(part))
            for chunk in part.chunks:
                file.write(np.ascontiguousarray(chunk).data.cast("B"))
        _write_ids(target, ids)
    elif kind == "pt" and alone:
        with whole_file(target) as file:
            (part,) = parts.values()
            write_torch(file, part)
        _write_ids(target, ids)
    elif kind == "pt":
        with whole_file(target) as file:
            write_torch(file, parts, {"ids": ids})
    else:
        names = np.array(ids)
        texts = Part(shape=names.shape, dtype=names.dtype, chunks=[names.view(np.uint32)])
        with whole_file(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, part in {"ids": texts, **parts}.items():
                write_member(archive, f"{name}.npy", part.chunks, part.size, npy_header(part))


def write_tensors(target: Path, parts: Mapping[str, Part]) -> None:
    """Writes arrays by name as a dict of tensors for `torch.load`, complete or absent.

    Raises:
        LsapError: the file cannot be written.
    """
    with whole_file(target) as file:
        write_torch(file, parts)


def _write_ids(target: Path, ids: Sequence[str]) -> None:
    with whole_file(target.with_name(f"{target.name}.ids.txt")) as file:
        file.write("".join(f"{image}\n" for image in ids).encode())


def npy_header(part: Part) -> bytes:
    """The header of an .npy file."""
    buffer = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(part.dtype)
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": part.shape})
    return buffer.getvalue()


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A seekable file that gets its name only when its contents are on the disk.

    Raises:
        LsapError: the file cannot be written, e.g. because the disk is full.
    """
    try:
        with replacing(path) as (handle, temporary):
            with os.fdopen(handle, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise LsapError(
            f"{path}: cannot be written ({error.strerror or error}); make room, or choose another place"
        ) from error
