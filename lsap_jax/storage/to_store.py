"""A run folder as a store, shard by shard, with bounded memory; an interrupted one is resumed.

It is never taken for a complete one: the file of rows is the last one of a shard, and zarr.json that of the store.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.checked_json import Record, check_of, encode_record, json_bytes, parse_record
from lsap_jax.storage.inside import read_inside
from lsap_jax.storage.metrics_table import TABLE, table_bytes
from lsap_jax.storage.parts import named_arrays
from lsap_jax.storage.results import (
    EVALUATION,
    as_json,
    read_evaluation,
    read_failures,
    read_manifest,
    read_part,
    read_run,
)
from lsap_jax.storage.store import (
    FORMAT,
    SHARD_BYTES,
    SHARD_ROWS,
    Store,
    all_arrays,
    explained,
    group_json,
    groups_of,
    is_ragged,
    open_array,
    open_place,
    open_store,
    problem_of,
    read_key,
    row_bytes,
    rows_name,
    write_key,
)
from lsap_jax.storage.stored_row import ADDED, STORED, Row, content

THREADS = 4
MOST_STEPS = 10**7  # that a curve has room for


def write_store(
    folder: Path, target: str, kvstore: Any = None, tell: Callable[[int, int], None] = lambda done, total: None
) -> Store:
    """Writes the finished images of a run folder as a store, shard by shard. An interrupted store is resumed; a
    complete one is left as it is.

    Args:
        folder: of the run.
        target: name of the store: a path or a URL.
        kvstore: the key-value store to write to, if not `open_place(target)`.
        tell: called with (images done, of all) after every shard.
    Raises:
        LsapError: nothing is finished, a file has changed, an image's arrays are unlike the first image's, the store
            is that of another run (or of an earlier state of this one), or it cannot be written.
    """
    run, manifest = read_run(folder), read_manifest(folder)
    ids = sorted(manifest)
    if not ids:
        raise LsapError(f"{folder}: has no finished image yet; there is nothing to export")
    place = open_place(target) if kvstore is None else kvstore
    plan = _plan(folder, run, ids, manifest)
    if _begin(place, target, plan):
        return open_store(target, place)
    with explained(target):
        arrays = {name: open_array(place, name, about, plan, create=True) for name, about in all_arrays(plan).items()}
    digests = {}
    for number, start in enumerate(range(0, len(ids), plan["shard_rows"])):
        some = ids[start : start + plan["shard_rows"]]
        name = rows_name(number)
        data = read_key(place, target, name)
        if data is None or not _same_rows(data, [manifest[id] for id in some]):
            block, records = _read_block(folder, some, manifest, plan)
            with explained(target):
                _write_block(arrays, block, start)
            del block  # before the next one is read
            data = b"".join(map(encode_record, records))
            write_key(place, target, name, data)  # last: it says that this shard's arrays are whole
        digests[name] = atomic.sha256(data)
        tell(start + len(some), len(ids))
    _end(place, target, folder, plan, ids, digests)
    return open_store(target, place)


def _plan(folder: Path, run: Record, ids: Sequence[str], manifest: Mapping[str, Record]) -> Record:
    """The description of the store to be written, from the first image."""
    first = _row(folder, ids[0], manifest)
    arrays = {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in first.items()}
    for name, about in arrays.items():
        if is_ragged(name):  # others may have taken more steps than the first
            about["shape"] = [max(about["shape"][0], _steps(folder, run) + 1)]
    lines = hashlib.sha256()
    for id in ids:
        lines.update(encode_record(as_json(manifest[id])))
    plan = {
        "format": FORMAT,
        "images": len(ids),
        "shard_rows": max(1, min(SHARD_ROWS, SHARD_BYTES // row_bytes(arrays))),
        "arrays": arrays,
        "metrics": sorted({name for record in manifest.values() for name in record["metrics"]}),
        "run": atomic.sha256(json_bytes(run)),
        "manifest": lines.hexdigest(),
    }
    if problem := problem_of({**plan, "sha256": {}}):
        raise LsapError(f"{folder}: does not fit into a store: {problem}")
    return plan


def _steps(folder: Path, run: Record) -> int:
    """Steps of a run; LsapError where they cannot be of this package, as the run may be from elsewhere."""
    steps = run.get("steps", 0)
    if not (isinstance(steps, int) and 0 <= steps <= MOST_STEPS):
        raise LsapError(f"{folder}: its run.json has {str(steps)[:80]!r} steps; restore the file")
    return steps


def _begin(place: Any, name: str, plan: Record) -> bool:
    """Whether the store is complete already. Writes the plan into a new one.

    Raises:
        LsapError: something else is there.
    """
    data = read_key(place, name, "plan.json")
    if data is None:
        with explained(name):
            found = place.list().result()
        if found:
            raise LsapError(
                f"{name}: holds {min(found).decode(errors='replace')!r} and is not a store; choose another place"
            )
        write_key(place, name, "plan.json", json_bytes(plan))
    elif data != json_bytes(plan):
        raise LsapError(
            f"{name}: is the store of another run, or of this one when it had other images; delete it, or choose "
            "another place"
        )
    return read_key(place, name, "zarr.json") is not None


def _end(place: Any, name: str, folder: Path, plan: Record, ids: Sequence[str], digests: Mapping[str, str]) -> None:
    """Writes everything but the arrays, and finally the description that completes the store."""
    failures, table = read_failures(folder), table_bytes(folder)
    evaluation = read_inside(folder, EVALUATION) if read_evaluation(folder) else None
    files = {
        "ids.txt": "".join(f"{id}\n" for id in ids).encode(),
        "files/run.json": read_inside(folder, "run.json"),
        "files/failures.jsonl": b"".join(encode_record(failures[id]) for id in sorted(failures)),
        **{f"files/{name}": data for name, data in ((TABLE, table), (EVALUATION, evaluation)) if data is not None},
    }
    for key, data in files.items():
        write_key(place, name, key, data)
    for group in groups_of(all_arrays(plan)):
        write_key(place, name, f"{group}/zarr.json", group_json({}))
    about = {**plan, "sha256": {**{key: atomic.sha256(data) for key, data in files.items()}, **digests}}
    write_key(place, name, "zarr.json", group_json({"lsap_jax": {**about, "check": check_of(about)}}))


def _row(folder: Path, id: str, manifest: Mapping[str, Record]) -> Row:
    """The arrays of one image, by their names in the store, after comparing the files' SHA-256."""
    row: Row = {}
    for part in STORED:
        if part in manifest[id]["sha256"]:
            row |= named_arrays(part, read_part(folder, id, part, manifest=manifest))
    return row


def _read_block(
    folder: Path, ids: Sequence[str], manifest: Mapping[str, Record], plan: Record
) -> tuple[Row, list[Record]]:
    """The arrays of a shard, the images on the first axis, and a record per row."""
    block = {name: _empty(name, len(ids), about) for name, about in all_arrays(plan).items()}

    def fill(i: int) -> Record:
        record, row = manifest[ids[i]], _row(folder, ids[i], manifest)
        lengths = {len(array) for name, array in row.items() if is_ragged(name)}
        if not _fits(row, plan["arrays"]) or len(lengths) > 1:
            raise LsapError(
                f"{folder}: the arrays of {ids[i]!r} differ from those of the first image in name, type or shape; "
                "a store needs the same arrays for every image"
            )
        for name, array in row.items():
            place = block[name][i, : len(array)] if is_ragged(name) else block[name][i, ...]
            place[...] = array
        for name, value in record["metrics"].items():
            block[f"metrics/{name}"][i] = value
        ended = {"curve_length": lengths.pop()} if lengths else {}
        return as_json({**record, "content": content(row), **ended})

    with ThreadPoolExecutor(THREADS, thread_name_prefix="lsap-export") as pool:
        return block, list(pool.map(fill, range(len(ids))))


def _empty(name: str, rows: int, about: Record) -> np.ndarray:
    shape = (rows, *about["shape"])
    dtype = np.dtype(about["dtype"])
    if (is_ragged(name) or name.startswith("metrics/")) and dtype.kind == "f":
        return np.full(shape, np.nan, dtype)  # NaN: no number
    return np.zeros(shape, dtype)


def _fits(row: Row, arrays: Mapping[str, Record]) -> bool:
    """Whether a row's arrays are what the plan says; curves may be shorter."""
    if row.keys() != arrays.keys():
        return False
    for name, array in row.items():
        dtype, shape = arrays[name]["dtype"], arrays[name]["shape"]
        same = array.ndim == 1 and len(array) <= shape[0] if is_ragged(name) else list(array.shape) == shape
        if array.dtype.name != dtype or not same:
            return False
    return True


def _write_block(arrays: Mapping[str, Any], block: Row, start: int) -> None:
    """One shard of every array. In a transaction each, so that a shard is written once and not anew for every chunk."""
    transactions = [ts.Transaction() for _ in block]
    for transaction, (name, values) in zip(transactions, block.items(), strict=True):
        arrays[name].with_transaction(transaction)[start : start + len(values)].write(values).result()
    for commit in [transaction.commit_async() for transaction in transactions]:
        commit.result()


def _same_rows(data: bytes, records: Sequence[Record]) -> bool:
    """Whether a file of rows is complete and describes these images."""
    lines = data.splitlines(keepends=True)
    if len(lines) != len(records):
        return False
    for line, record in zip(lines, records, strict=True):
        try:
            found = parse_record(line)
        except ValueError:
            return False
        if {key: value for key, value in found.items() if key not in ADDED} != as_json(record):
            return False
    return True
