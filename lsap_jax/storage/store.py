"""A run as one sharded store: results of hundreds of thousands of images in a few thousand files or objects.

    zarr.json            the description of the store, with the SHA-256 of every file below; written last
    plan.json            the same, written before the first array, so that an interrupted export can resume
    ids.txt              an id per line: row i of every array belongs to line i
    images  targets  codes/NAME  curves/NAME  refined/NAME  metrics/NAME      arrays, the images on the first axis
    rows/00000.jsonl     the manifest's records of one shard of rows, each with the SHA-256 of the row's arrays
    files/               run.json, failures.jsonl, metrics.csv, evaluation.json

Zarr v3 with the sharding codec, written and read by TensorStore, which Orbax installs. A chunk is one image, so that
each image can be read alone; a shard is about a thousand images; a bucket serves as well as a disk. Every chunk has a
checksum, which readers verify. The contents of a store depend on the run alone.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import tensorstore as ts

from lsap_jax.data.ids import id_problem
from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.checked_json import Record, check_of, json_bytes, parsed
from lsap_jax.storage.parts import PARTS

FORMAT = "lsap_jax store 1"
SHARD_ROWS = 1000
SHARD_BYTES = 2**29  # of one shard of all arrays together, before compression; takes about 3 times as much memory
_MOST_ROWS, _MOST_BYTES = 10**6, 2**32  # above these a reader refuses a store
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC = {"name": "crc32c"}
_ZSTD = {"name": "zstd", "configuration": {"level": 3}}


@dataclass(frozen=True, kw_only=True)
class Store:
    """A complete store, open for reading.

    Attributes:
        name: as it was named, for messages.
        ids: of the images, sorted; row i is image ids[i].
        arrays: "codes/z", "images", "targets", "curves/loss", "metrics/psnr", ...: TensorStore arrays [N, ...], read by
            `store.arrays["images"][i].read().result()`. Curves that ended early are followed by NaN.
        about: the description in zarr.json.
        kvstore: the key-value store that holds it.
    """

    name: str
    ids: tuple[str, ...]
    arrays: Mapping[str, Any]
    about: Record
    kvstore: Any

    def file(self, name: str) -> bytes:
        """A file of the store, after comparing its SHA-256.

        Raises:
            LsapError: it is missing or has changed.
        """
        return checked_key(self.kvstore, self.name, self.about, name)


def open_place(name: str | os.PathLike[str]) -> Any:
    """The key-value store of a local path, or of a URL that TensorStore knows (gs://, s3://, file://, memory://, ...).

    Raises:
        LsapError: TensorStore does not know the URL.
    """
    text = os.fspath(name)
    with explained(text):
        if "://" in text:
            return ts.KvStore.open(text.rstrip("/") + "/").result()
        path = os.path.abspath(os.path.expanduser(text))
        if os.path.exists(path) and not os.path.isdir(path):
            raise LsapError(f"{text}: is a file; a store is a folder")
        return ts.KvStore.open({"driver": "file", "path": f"{path}/"}).result()


def open_store(name: str, kvstore: Any = None) -> Store:
    """Opens a store for reading.

    Raises:
        LsapError: there is no store, it is incomplete or of another format, or its description has changed.
    """
    place = open_place(name) if kvstore is None else kvstore
    data = read_key(place, name, "zarr.json")
    if data is None:
        if read_key(place, name, "plan.json") is not None:
            raise LsapError(f"{name}: is incomplete, its export was interrupted; run `lsap-jax export` again")
        raise LsapError(f"{name}: is not a store, it has no zarr.json")
    about = _about(name, data)
    ids = _ids(name, about, checked_key(place, name, about, "ids.txt"))
    arrays = {}
    for array, expected in all_arrays(about).items():
        with explained(f"{name}/{array}"):
            arrays[array] = open_array(place, array, expected, about, create=False)
        found = (arrays[array].dtype.name, list(arrays[array].shape))
        if found != (expected["dtype"], [len(ids), *expected["shape"]]):
            raise LsapError(f"{name}/{array}: its zarr.json has changed; restore it, or export the run again")
    return Store(name=name, ids=tuple(ids), arrays=arrays, about=about, kvstore=place)


def _ids(name: str, about: Record, data: bytes) -> list[str]:
    """The lines of ids.txt, checked because each is used as a path."""
    ids = data.decode("utf-8", "replace").split("\n")[:-1]
    unsafe = next((f"the id {id!r} {id_problem(id)}" for id in ids if id_problem(id)), None)
    if unsafe or len(ids) != about["images"] or len(set(ids)) != len(ids):
        problem = unsafe or f"it does not hold {about['images']} different ids"
        raise LsapError(f"{name}/ids.txt: {problem}; export the run again")
    return ids


def _about(name: str, data: bytes) -> Record:
    """The description in zarr.json."""
    damaged = f"{name}/zarr.json: has changed since it was written; restore it, or export the run again"
    try:
        attributes = parsed(data)["attributes"]
        about = attributes.get("lsap_jax")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LsapError(damaged) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else None
        raise LsapError(f"{name}: is a Zarr store of format {found!r}, this version reads {FORMAT!r}")
    check = about.pop("check", None)
    if check != check_of(about):
        raise LsapError(damaged)
    if problem := problem_of(about):
        raise LsapError(f"{name}/zarr.json: {problem}; export the run again")
    return about


def problem_of(about: Record) -> str | None:
    """Why this package cannot have written a description; None if it can."""
    try:
        rows, arrays = about["shard_rows"], about["arrays"]
        if not (isinstance(about["images"], int) and isinstance(rows, int) and 0 < rows <= _MOST_ROWS):
            return f"{about['images']!r} images in shards of {rows!r} are impossible"
        if not {"images", "targets"} <= arrays.keys():
            return "it names no images or no targets"
        for name in [*arrays, *(f"metrics/{metric}" for metric in about["metrics"])]:
            if not _is_array(name) or id_problem(name):
                return f"an array is called {name!r}"
        if rows > 1 and rows * row_bytes(arrays) > _MOST_BYTES:
            return f"{rows} rows of {row_bytes(arrays)} bytes are more than a shard holds"
        if not all(isinstance(digest, str) for digest in about["sha256"].values()):
            return "a SHA-256 is not a text"
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return f"an entry is missing or damaged ({type(error).__name__}: {error})"
    return None


def _is_array(name: str) -> bool:
    """Whether an array may have this name: that of a picture, or PART/NAME, or metrics/NAME."""
    kind, _, rest = name.partition("/")
    if kind == "metrics":
        return bool(rest) and "/" not in rest
    return kind in PARTS and PARTS[kind].stored and bool(rest) == PARTS[kind].arrays


def is_ragged(name: str) -> bool:
    """Whether images may have shorter arrays of this name than others."""
    kind = name.partition("/")[0]
    return kind in PARTS and PARTS[kind].ragged


def groups_of(arrays: Iterable[str]) -> list[str]:
    """The groups of the arrays with these names."""
    parents = {str(parent) for name in arrays for parent in PurePosixPath(name).parents}
    return sorted(parents - {"."})


def row_bytes(arrays: Mapping[str, Record]) -> int:
    """Size of one image's arrays in bytes."""
    return sum(math.prod(about["shape"]) * np.dtype(about["dtype"]).itemsize for about in arrays.values())


def all_arrays(about: Record) -> dict[str, Record]:
    """Name -> {"dtype", "shape"} without the first axis, for the arrays of the plan."""
    return {**about["arrays"], **{f"metrics/{name}": {"dtype": "float64", "shape": []} for name in about["metrics"]}}


def open_array(place: Any, name: str, about: Record, plan: Record, create: bool) -> Any:
    rows, shape = plan["shard_rows"], about["shape"]
    chunk = [rows if name.startswith("metrics/") else 1, *shape]  # a chunk takes more space than one number
    sharding = {"chunk_shape": chunk, "codecs": [_BYTES, _ZSTD, _CRC], "index_codecs": [_BYTES, _CRC]}
    metadata = {
        "shape": [plan["images"], *shape],
        "data_type": about["dtype"],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [rows, *shape]}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": ["image", *[None] * len(shape)],
    }
    spec = {"driver": "zarr3", **({"metadata": metadata} if create else {})}
    return ts.open(spec, kvstore=place / f"{name}/", open=True, create=create).result()


def rows_name(number: int) -> str:
    return f"rows/{number:05d}.jsonl"


def group_json(attributes: Record) -> bytes:
    return json_bytes({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def checked_key(place: Any, name: str, about: Record, key: str) -> bytes:
    data = read_key(place, name, key)
    if data is None or key not in about["sha256"] or atomic.sha256(data) != about["sha256"][key]:
        what = "is missing" if data is None else "has changed since it was written (its SHA-256 differs)"
        raise LsapError(f"{name}/{key}: {what}; restore it, or export the run again")
    return data


def read_key(place: Any, name: str, key: str) -> bytes | None:
    """A value, or None where there is none."""
    with explained(f"{name}/{key}"):
        found = place.read(key).result()
    return found.value if found.state == "value" else None


def write_key(place: Any, name: str, key: str, data: bytes) -> None:
    with explained(f"{name}/{key}"):
        place.write(key, data).result()


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Raises TensorStore's errors as LsapError, without their source lines and addresses."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
        said = str(error).split(" [")[0].splitlines() or [type(error).__name__]
        raise LsapError(f"{name}: cannot be read or written ({said[0][:300]})") from error
