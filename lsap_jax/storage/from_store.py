"""A store as a run folder, shard by shard, with bounded memory; an interrupted one is completed. The images in the
manifest are complete at every moment.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.checked_json import Record, parse_record, unsealed
from lsap_jax.storage.metrics_table import TABLE, write_table
from lsap_jax.storage.parts import encoded, from_named_arrays
from lsap_jax.storage.results import EVALUATION, failed_problem, finished_problem, from_json
from lsap_jax.storage.run_folder import RunFolder
from lsap_jax.storage.store import Store, explained, is_ragged, rows_name
from lsap_jax.storage.stored_row import ADDED, STORED, Row, content

THREADS = 4


def write_files(store: Store, folder: Path, tell: Callable[[int, int], None] = lambda done, total: None) -> int:
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
    if content(row) != record["content"]:
        raise LsapError(
            f"{store.name}: the arrays of {record['id']!r} are missing or have changed since they were written "
            "(their SHA-256 differs); restore the store, or export the run again"
        )
    parts = encoded(record["id"], {part: from_named_arrays(part, row) for part in STORED})
    out.put({key: value for key, value in record.items() if key not in ADDED}, parts)
    return {part: atomic.sha256(data) for part, data in parts.items()} != record["sha256"]
