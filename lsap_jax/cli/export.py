"""The codes of a run in one file, or the whole run in a sharded store, and back.

usage: lsap-jax export RUN --format npy|pt|npz DST [--array NAME] [--ws]
       lsap-jax export RUN --format zarr STORE
       lsap-jax export STORE --format files RUN

npz: an array per name of the code (z, f, ...) with the images on the first axis, and `ids`, in the order of the ids.
pt: a dict of tensors with the same names and the list `ids`, for `torch.load(DST, weights_only=True)`. npy: one
array, and the ids as lines of DST.ids.txt. Every code's SHA-256 is checked. `--ws` adds the W+ codes [N, num_ws,
w_dim] that the codes stand for, after the truncation that the run used.

zarr: codes, pictures, targets, curves, metrics and manifest as one Zarr store of some thousands of files, however many
images there are; STORE is a folder, or a URL as gs://BUCKET/NAME or s3://BUCKET/NAME. files: a store as a run folder
again. Both go on where they were interrupted when the same command is given again.
"""

import io
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from absl.flags import FlagValues

from convert_weights.torch_writer import Part, write_member, write_torch
from lsap_jax.cli.arguments import Arguments, choice, new_flags, switch, text
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from lsap_jax.storage.results import Record

FILES = ("npy", "pt", "npz")
FORMATS = (*FILES, "zarr", "files")
WS_BATCH = 64


def flags() -> FlagValues:
    values = new_flags()
    choice(values, "format", FORMATS, "npy, pt, npz or zarr, by default as DST is called; or files")
    text(values, "array", "only this array of the code (z, f, ws)")
    switch(values, "ws", "also the W+ codes that the codes stand for")
    text(values, "generator", "for --ws: where the generator is, if not where run.json says")
    return values


def run(args: Arguments) -> int:
    args.no_config()
    source, target = args.only("RUN", "DST")
    kind = args.flags.format or Path(target).suffix.removeprefix(".")
    if kind not in FORMATS or kind == "files" and not args.flags.format:
        raise LsapError(f"{target}: its suffix is none of {', '.join(FORMATS[:-1])}; say --format=npz")
    if kind in FILES:
        return to_file(args, Path(source), Path(target), kind)
    for name in ("array", "ws", "generator"):
        if args.flags[name].value:
            raise LsapError(f"--{name}: goes with {', '.join(FILES)}; a store holds the whole run as it is")
    return to_store(Path(source), target) if kind == "zarr" else to_folder(source, Path(target))


def to_store(folder: Path, target: str) -> int:
    """A run folder as a store."""
    from lsap_jax.storage.transfer import write_store

    store = write_store(folder, target, tell=tell)
    shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in store.arrays.items())
    print(f"{target}: {len(store.ids)} images, {shapes}")
    return 0


def to_folder(source: str, folder: Path) -> int:
    """A store as a run folder."""
    from lsap_jax.storage.store import open_store
    from lsap_jax.storage.transfer import write_files

    store = open_store(source)
    changed = write_files(store, folder, tell=tell)
    others = f"; {changed} have other bytes than before and the same pixels, as PNG is compressed here" * (changed > 0)
    print(f"{folder}: {len(store.ids)} images{others}")
    return 0


def tell(done: int, total: int) -> None:
    """How far it is, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{done:,} of {total:,} images", end="\n" if done == total else "", file=sys.stderr, flush=True)


def to_file(args: Arguments, folder: Path, target: Path, kind: str) -> int:
    """The codes of a run in one file."""
    from lsap_jax.storage.results import read_manifest, read_run

    record, manifest = read_run(folder), read_manifest(folder)
    ids = sorted(manifest)
    if not ids:
        raise LsapError(f"{folder}: has no finished image yet; there is nothing to export")
    parts = code_parts(folder, ids, manifest)
    if args.flags.ws or args.flags.array == "ws":
        parts["ws"] = ws_part(folder, ids, manifest, record, args.flags.generator)
    if args.flags.array is not None:
        if args.flags.array not in parts:
            raise LsapError(f"--array={args.flags.array}: this run has {', '.join(parts)}")
        parts = {args.flags.array: parts[args.flags.array]}
    write(kind, target, parts, ids)
    shapes = ", ".join(f"{name} {list(part.shape)}" for name, part in parts.items())
    print(f"{target}: {len(ids)} codes, {shapes}")
    return 0


def code_parts(folder: Path, ids: Sequence[str], manifest: Mapping[str, "Record"]) -> dict[str, Part]:
    """The arrays of a run's codes, read from their files when they are written.

    Raises:
        LsapError: a code is damaged, or of another shape than the first.
    """
    from lsap_jax.storage.results import read_code

    first = read_code(folder, ids[0], manifest=manifest)

    def rows(name: str) -> Iterator[np.ndarray]:
        for image in ids:
            array = read_code(folder, image, manifest=manifest).get(name)
            if array is None or array.shape != first[name].shape or array.dtype != first[name].dtype:
                raise LsapError(f"{folder}: {name} of {image!r} is another kind of array than that of {ids[0]!r}")
            yield array

    return {name: Part(shape=(len(ids), *a.shape), dtype=a.dtype, chunks=rows(name)) for name, a in first.items()}


def ws_part(
    folder: Path, ids: Sequence[str], manifest: Mapping[str, "Record"], record: "Record", generator: str | None
) -> Part:
    """ws [N, num_ws, w_dim] of a run's codes, in batches.

    Raises:
        LsapError: the codes are styles.
    """
    import jax

    from lsap_jax.cli.runs import generator_of, with_shown_statistics
    from lsap_jax.rendering.render import space_of
    from lsap_jax.storage.results import read_code

    G = generator_of(folder, record, generator)
    space = space_of(record, G)
    if space.detail.key == "s":
        raise LsapError(f"--ws: codes of space {space.name} are styles, which no ws stand for; export s")
    if space.detail.statistics:
        G = with_shown_statistics(G)
    decode = jax.jit(lambda G, codes: space.decode(G, codes)["ws"])

    def rows() -> Iterator[np.ndarray]:
        for start in range(0, len(ids), WS_BATCH):
            some = ids[start : start + WS_BATCH]
            found = [read_code(folder, image, manifest=manifest) for image in some]
            found += found[-1:] * (WS_BATCH - len(found))  # one shape, one compilation
            yield np.asarray(decode(G, {key: np.stack([c[key] for c in found]) for key in space.keys}))[: len(some)]

    return Part(shape=(len(ids), G.num_ws, G.w_dim), dtype=np.dtype(np.float32), chunks=rows())


def write(kind: str, target: Path, parts: Mapping[str, Part], ids: Sequence[str]) -> None:
    """Writes the file whole or not at all.

    Raises:
        LsapError: npy, and there are several arrays; or the disk is full.
    """
    if kind == "npy":
        if len(parts) != 1:
            raise LsapError(f"an .npy file holds one array, this run has {', '.join(parts)}; say --array=NAME")
        with whole_file(target) as file:
            (part,) = parts.values()
            file.write(npy_header(part))
            for chunk in part.chunks:
                file.write(np.ascontiguousarray(chunk).data.cast("B"))
        with whole_file(target.with_name(f"{target.name}.ids.txt")) as file:
            file.write("".join(f"{image}\n" for image in ids).encode())
    elif kind == "pt":
        with whole_file(target) as file:
            write_torch(file, parts, {"ids": ids})
    else:
        names = np.array(ids)
        texts = Part(shape=names.shape, dtype=names.dtype, chunks=[names.view(np.uint32)])
        with whole_file(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, part in {"ids": texts, **parts}.items():
                write_member(archive, f"{name}.npy", part.chunks, part.size, npy_header(part))


def npy_header(part: Part) -> bytes:
    """What comes before the values in an .npy file."""
    buffer = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(part.dtype)
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": part.shape})
    return buffer.getvalue()


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A seekable file that takes its name when everything in it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise LsapError(
            f"{path}: cannot be written ({error.strerror or error}); make room, or choose another place"
        ) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
