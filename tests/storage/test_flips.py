"""Every bit of a run folder matters: with any one of them flipped, what is read of it is refused.

Run as a program (`python tests/storage/test_flips.py FOLDER`) this counts the flips that are noticed in every file of a
folder, of a run or of edits.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from lsap_jax.errors import LsapError
from lsap_jax.storage.checked_json import sealed
from lsap_jax.storage.matching import Layout
from lsap_jax.storage.metrics_table import metrics_csv, read_metrics_table, write_table
from lsap_jax.storage.results import RUN, read_bytes, read_evaluation, read_failures, read_manifest, read_run
from lsap_jax.storage.run_folder import RunFolder

EDIT = Layout("edit.json", "lsap_jax edit 2", "edit")
UNREAD = (".lock", "report.html")


def read_all(folder: Path) -> object:
    """All that `lsap-jax verify` reads of a folder before it renders."""
    edit = (folder / EDIT.file).is_file()
    run = read_run(folder, EDIT if edit else RUN)
    manifest, failures = read_manifest(folder), read_failures(folder)
    tables = () if edit else (read_metrics_table(folder), read_evaluation(folder))
    files = [(id, part) for id, record in manifest.items() for part in record["sha256"]]
    data = [read_bytes(folder, id, part, manifest=manifest) for id, part in files]
    return run, manifest, failures, tables, data


def noticed(folder: Path, file: Path, every: int = 1) -> tuple[int, int]:
    """How many flips of single bits of a file are refused, of how many."""
    whole = file.read_bytes()
    refused = count = 0
    try:
        for bit in range(0, 8 * len(whole), every):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            file.write_bytes(flipped)
            count += 1
            try:
                read_all(folder)
            except LsapError:
                refused += 1
    finally:
        file.write_bytes(whole)
    return refused, count


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A run of two images with a failure, and with what `evaluate` writes."""
    folder = tmp_path_factory.mktemp("small")
    with RunFolder.open(folder, {"config": {"lr": 0.5}, "seed": 0, "generator": {"name": "g\u00b2"}}) as run:
        for id in ("a", "=b"):
            own = {"codes": {"z": np.ones(2, np.float32)}, "curves": {"loss": np.ones(1, np.float32)}}
            picture = np.zeros((2, 2, 3), np.uint8)
            pictures = {"images": picture, "targets": picture}
            run.write(id, metrics={"mse": 0.25}, input_sha256="0" * 64, notes=["\u00b2"], **own, **pictures)
        run.fail("c", "is empty", "c.png")
        run.finish()
    write_table(folder, metrics_csv({id: {"mse": 0.25, "nscd": 0.5} for id in ("a", "=b")}))
    (folder / "evaluation.json").write_bytes(sealed({"means": {"nscd": 0.5}}))
    return folder


FILES = ["run.json", "manifest.jsonl", "failures.jsonl", "metrics.csv", "metrics.csv.sha256", "evaluation.json"]
FILES += ["codes/a.npz", "images/a.png", "targets/=b.png", "curves/a.npz"]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_of_any_byte_is_refused(small, name):
    read_all(small)
    refused, count = noticed(small, small / name, every=9)
    assert refused == count > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_is_refused(small, name):
    refused, count = noticed(small, small / name)
    assert refused == count == 8 * (small / name).stat().st_size


def main(folder: Path) -> None:
    read_all(folder)
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in UNREAD):
        refused, count = noticed(folder, file)
        print(f"{str(file.relative_to(folder)):34} {refused:6} of {count:6} flips refused")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
