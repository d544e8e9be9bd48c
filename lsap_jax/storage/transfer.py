"""A run folder as a store, and a store as a run folder: shard by shard, with bounded memory; both can be resumed.

An interrupted export is never taken for a complete one: the file of rows is the last one of a shard, and zarr.json that
of the store. In a run folder, the images in the manifest are complete at every moment.
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
from lsap_jax.storage.checked_json import Record, check_of, encode_record, json_bytes, parse_record, unsealed
from lsap_jax.storage.inside import read_inside
from lsap_jax.storage.metrics_table import TABLE, table_bytes, write_table
from lsap_jax.storage.parts import PARTS, encoded, from_named_arrays, named_arrays
from lsap_jax.storage.results import (
    EVALUATION,
    as_json,
    failed_problem,
    finished_problem,
    from_json,
    read_evaluation,
    read_failures,
    read_manifest,
    read_part,
    read_run,
)
from lsap_jax.storage.run_folder import RunFolder
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

THREADS = 4
MOST_STEPS = 10**7  # that a curve has room for
_ADDED = ("content", "curve_length")  # in a row's record in addition to the manifest's
STORED = sorted((name for name, part in PARTS.items() if part.stored), key=lambda name: PARTS[name].arrays)

Row = dict[str, np.ndarray]
Tell = Callable[[int, int], None]


def write_store(folder: Path, target: str, kvstore: Any = None, tell: Tell = lambda done, total: None) -> Store:
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


def write_files(store: Store, folder: Path, tell: Tell = lambda done, total: None) -> int:
    """Writes a store as a run folder, or completes the one that is there.

    The files have their original bytes if this machine's library compresses PNG as the original one did; otherwise they
    have the same pixels, and the manifest gets the new SHA-256.

    Returns:
        the number of images with files of other bytes.
    Raises:
        LsapError: the store is damaged, the folder is that of another run, or it cannot be written.
    """
    run, failures = _run_and_failures(store)
    changed = 0
    with RunFolder.open(folder, run) as out, ThreadPoolExecutor(THREADS, thread_name_prefix="lsap-export") as pool:
        finished = out.finished()
        for number, start in enumerate(range(0, len(store.ids), store.about["shard_rows"])):
            records = _records(store, number, store.ids[start : start + store.about["shard_rows"]])
            for record in records:
                _refuse_other(out, finished, record)
            todo = [i for i, record in enumerate(records) if record["id"] not in finished]
            if todo:
                block = _stored_block(store, start, len(records))
                rows = [(records[i], {name: array[i] for name, array in block.items()}) for i in todo]
                changed += sum(pool.map(lambda row: _put(store, out, *row), rows))
                del block, rows  # before the next one is read
            tell(start + len(records), len(store.ids))
        for id, reason, name in failures:
            out.fail(id, reason, name)
        out.finish()
        if f"files/{TABLE}" in store.about["sha256"]:
            write_table(folder, store.file(f"files/{TABLE}"))
        if f"files/{EVALUATION}" in store.about["sha256"]:
            atomic.write_files({folder / EVALUATION: store.file(f"files/{EVALUATION}")})
    return changed


def _run_and_failures(store: Store) -> tuple[Record, list[tuple[str, str, str]]]:
    """The settings for `RunFolder.open`, and (id, reason, input) of each failure."""
    run, lines = store.file("files/run.json"), store.file("files/failures.jsonl").splitlines(keepends=True)
    try:
        failures = list(map(parse_record, lines))
        if not any(map(failed_problem, failures)):
            return unsealed(run)[0], [(record["id"], record["reason"], record["input"]) for record in failures]
    except ValueError:
        pass
    raise LsapError(f"{store.name}: its run.json or failures.jsonl is damaged; export the run again")


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
        return as_json({**record, "content": _content(row), **ended})

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
        if {key: value for key, value in found.items() if key not in _ADDED} != as_json(record):
            return False
    return True


def _records(store: Store, number: int, ids: Sequence[str]) -> list[Record]:
    """The records of one shard, whose images have these ids.

    Raises:
        LsapError: it has other images, or a record is damaged.
    """
    name = rows_name(number)
    data = store.file(name)
    try:
        records = [parse_record(line) for line in data.splitlines(keepends=True)]
        whole = not any(map(finished_problem, records)) and all("codes" in record["sha256"] for record in records)
        whole &= all(isinstance(r["content"], str) and isinstance(r.get("curve_length", 0), int) for r in records)
        found = [record["id"] for record in records] if whole else None
    except (ValueError, KeyError, TypeError, AttributeError):
        found = None
    if found != list(ids):
        raise LsapError(f"{store.name}/{name}: does not describe the images of its shard; export the run again")
    return list(map(from_json, records))


def _stored_block(store: Store, start: int, count: int) -> Row:
    """Arrays of the rows from `start` without the metrics, which the records have."""
    names = store.about["arrays"]
    with explained(store.name):
        reads = {name: store.arrays[name][start : start + count].read() for name in names}
        return {name: read.result() for name, read in reads.items()}


def _refuse_other(out: RunFolder, finished: Mapping[str, Record], record: Record) -> None:
    id = record["id"]
    if id in finished and finished[id]["sha256"]["codes"] != record["sha256"]["codes"]:
        raise LsapError(f"{out.path}: has another result of {id!r} than the store; choose another folder")


def _put(store: Store, out: RunFolder, record: Record, row: Row) -> bool:
    """Saves one image in a run folder; returns whether a file differs from its original bytes."""
    length = record.get("curve_length", 0)
    row = {name: array[:length] if is_ragged(name) else array for name, array in row.items()}
    if _content(row) != record["content"]:
        raise LsapError(
            f"{store.name}: the arrays of {record['id']!r} are missing or have changed since they were written "
            "(their SHA-256 differs); restore the store, or export the run again"
        )
    parts = encoded(record["id"], {part: from_named_arrays(part, row) for part in STORED})
    out.put({key: value for key, value in record.items() if key not in _ADDED}, parts)
    return {part: atomic.sha256(data) for part, data in parts.items()} != record["sha256"]


def _content(row: Row) -> str:
    """SHA-256 of the arrays of one image."""
    digest = hashlib.sha256()
    for name in sorted(row):
        array = row[name]
        digest.update(f"{name} {array.dtype.name} {list(array.shape)} ".encode() + array.tobytes())
    return digest.hexdigest()
