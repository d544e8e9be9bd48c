"""Sharded stores: a run folder there and back, interrupted exports, damage, and other readers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
from test_results import RUN, do_run, result, tree

from lsap_jax.cli import main
from lsap_jax.errors import LsapError
from lsap_jax.storage import store as stores
from lsap_jax.storage import to_store
from lsap_jax.storage.atomic import write_files as write_bytes
from lsap_jax.storage.checked_json import sealed
from lsap_jax.storage.from_store import write_files
from lsap_jax.storage.metrics_table import write_table
from lsap_jax.storage.results import read_failures, read_manifest
from lsap_jax.storage.run_folder import RunFolder
from lsap_jax.storage.store import open_place, open_store
from lsap_jax.storage.to_store import write_store

IDS = ["a", "a.png", "deep/er/b", "deep/c", "e", "f f", "ü"]
SAME = {".lock", "manifest.jsonl"}  # the one is empty, of the other the order of the lines may differ


@pytest.fixture(scope="module", autouse=True)
def small_and_quick():
    """Three rows per shard, so that seven images have three shards, the last one ragged. Nothing waits for the disk:
    what a power loss leaves is told by the tests of the run folder.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_store, "SHARD_ROWS", 3)
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """A finished run whose order is not that of the ids, with a column that `evaluate` added; and its store."""
    folder = tmp_path_factory.mktemp("originals")
    do_run(folder / "run", IDS[::-1])
    table = (folder / "run/metrics.csv").read_text().splitlines()
    added = [f"{line},{'nscd' if i == 0 else 0.1 * i}" for i, line in enumerate(table)]
    write_table(folder / "run", ("\n".join(added) + "\n").encode())
    (folder / "run/evaluation.json").write_bytes(sealed({"images": 7}))
    write_store(folder / "run", str(folder / "s"))
    return folder


@pytest.fixture
def run(originals, tmp_path) -> Path:
    return shutil.copytree(originals / "run", tmp_path / "run")


@pytest.fixture
def stored(originals, tmp_path) -> Path:
    """A store of `run`."""
    return shutil.copytree(originals / "s", tmp_path / "s")


def same_results(folder: Path, other: Path) -> bool:
    """Whether two run folders hold the same bytes but for the order of the manifest."""
    one, two = tree(folder), tree(other)
    assert read_manifest(folder) == read_manifest(other)
    return one.keys() == two.keys() and all(one[name] == two[name] for name in one.keys() - SAME)


def test_there_and_back_is_the_same_run_byte_for_byte(run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "s.zarr")]) == 0
    assert f"s.zarr: {len(IDS)} images, images [7, 8, 8, 3], " in capsys.readouterr().out
    assert main(["export", str(tmp_path / "s.zarr"), "--format=files", str(tmp_path / "back")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/back: 7 images\n"
    assert same_results(run, tmp_path / "back")
    with RunFolder.open(tmp_path / "back", RUN) as folder:
        assert folder.finished().keys() == set(IDS)  # every SHA-256 compared
    assert list(read_failures(tmp_path / "back")) == ["bad"]


def test_arrays_have_the_images_on_the_first_axis_in_the_order_of_the_ids(stored):
    store = open_store(str(stored))
    assert store.ids == tuple(sorted(IDS))
    for i, id in enumerate(store.ids):
        expected = result(id)
        for name, array in {f"codes/{key}": a for key, a in expected["codes"].items()}.items():
            np.testing.assert_array_equal(store.arrays[name][i].read().result(), array)
        np.testing.assert_array_equal(store.arrays["targets"][i].read().result(), expected["targets"])
        np.testing.assert_array_equal(store.arrays["curves/loss"][i].read().result()[:30], expected["curves"]["loss"])
        for name, value in expected["metrics"].items():
            assert store.arrays[f"metrics/{name}"][i].read().result() == value
    assert store.arrays["curves/loss"].shape == (7, 30) and store.arrays["images"].dtype == ts.uint8


def test_a_chunk_is_one_image_and_a_shard_several(stored):
    store = open_store(str(stored))
    layout = store.arrays["codes/f"].chunk_layout
    assert layout.read_chunk.shape == (1, 4, 4, 8) and layout.write_chunk.shape == (3, 4, 4, 8)
    assert len([path for path in (stored / "images/c").rglob("*") if path.is_file()]) == 3


def test_large_images_have_small_shards(run, tmp_path, monkeypatch):
    monkeypatch.setattr(to_store, "SHARD_BYTES", 3000)  # two images' arrays of 8x8 pixels
    assert write_store(run, str(tmp_path / "s")).about["shard_rows"] == 2
    assert write_files(open_store(str(tmp_path / "s")), tmp_path / "back") == 0
    assert same_results(run, tmp_path / "back")
    monkeypatch.setattr(to_store, "SHARD_BYTES", 1)
    assert write_store(run, str(tmp_path / "t")).about["shard_rows"] == 1


def test_curves_that_ended_early_and_runs_without_any(tmp_path):
    for name, lengths in (("early", (31, 7, 20)), ("none", (0, 0, 0))):
        with RunFolder.open(tmp_path / name, {**RUN, "steps": 30}) as folder:
            for id, length in zip("abc", lengths, strict=True):
                curve = {"loss": np.arange(length, dtype=np.float32)} if length else {}
                folder.write(id, **{**result(id), "curves": curve})
            folder.finish()
        store = write_store(tmp_path / name, str(tmp_path / f"{name}.zarr"))
        assert write_files(store, tmp_path / f"{name}.back") == 0
        assert same_results(tmp_path / name, tmp_path / f"{name}.back")
    curve = open_store(str(tmp_path / "early.zarr")).arrays["curves/loss"][1].read().result()
    np.testing.assert_array_equal(curve, [*range(7), *[np.nan] * 24])


def test_other_places_through_their_urls(run, tmp_path):
    url = f"file://{tmp_path}/s.zarr"
    assert main(["export", str(run), url]) == 0
    assert main(["export", url, "--format", "files", str(tmp_path / "back")]) == 0
    assert same_results(run, tmp_path / "back")
    memory = open_place("memory://bucket/s.zarr")
    write_store(run, "memory://bucket/s.zarr", memory)
    assert write_files(open_store("memory://bucket/s.zarr", memory), tmp_path / "again") == 0
    assert same_results(run, tmp_path / "again")


class Stopped(Exception):
    pass


def stop_after(shards: int):
    calls = []

    def tell(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == shards:
            raise Stopped

    return tell


def test_an_interrupted_export_is_no_store_and_is_gone_on_with(run, tmp_path, monkeypatch):
    read: list[str] = []
    block = to_store._read_block

    def watched(folder: Path, ids: list[str], *rest):
        read.extend(ids)
        return block(folder, ids, *rest)

    monkeypatch.setattr(to_store, "_read_block", watched)
    for stop in (1, 2, 3):
        name = str(tmp_path / f"s{stop}")
        with pytest.raises(Stopped):
            write_store(run, name, tell=stop_after(stop))
        with pytest.raises(LsapError, match="is incomplete, its export was interrupted"):
            open_store(name)
        read.clear()
        assert len(write_store(run, name).ids) == 7
        assert read == sorted(IDS)[3 * stop :]  # whole shards are not done again
    assert tree(tmp_path / "s1") == tree(tmp_path / "s2") == tree(tmp_path / "s3")


def test_a_shard_whose_rows_are_torn_is_written_again(run, tmp_path):
    name = str(tmp_path / "s")
    with pytest.raises(Stopped):
        write_store(run, name, tell=stop_after(2))
    for file, change in (
        ("rows/00000.jsonl", lambda d: d[:-9]),
        ("rows/00001.jsonl", lambda d: d.replace(b"cropped", b"croqqed")),
    ):
        path = tmp_path / "s" / file
        path.write_bytes(change(path.read_bytes()))
    write_files(write_store(run, name), tmp_path / "back")
    assert same_results(run, tmp_path / "back")


def test_killed_anywhere_an_export_is_finished_by_the_same_command(run, tmp_path):
    """SIGKILL before each of the writes in turn, in a process of its own."""
    code = """
import os, signal, sys
from lsap_jax.storage import store
from lsap_jax.storage import to_store
to_store.SHARD_ROWS, left = 3, int(sys.argv[3])
write = store.write_key
def dying(*args):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*args)
to_store.write_key = dying
from pathlib import Path
to_store.write_store(Path(sys.argv[1]), sys.argv[2])
"""
    for left in (0, 2, 9):
        status = subprocess.run([sys.executable, "-c", code, run, tmp_path / "s", str(left)]).returncode
        assert status == -9
        with pytest.raises(LsapError, match="has no zarr.json" if left == 0 else "is incomplete"):
            open_store(str(tmp_path / "s"))
    write_store(run, str(tmp_path / "s"))
    write_store(run, str(tmp_path / "t"))
    assert tree(tmp_path / "s") == tree(tmp_path / "t")


def test_a_whole_store_is_left_as_it_is_and_another_runs_refused(run, stored, tmp_path):
    name = str(tmp_path / "s")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*")}
    write_store(run, name)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*")} == before
    with RunFolder.open(run, RUN) as folder:
        folder.write("new", **result("new"))
    with pytest.raises(LsapError, match="of this one when it had other images; delete it"):
        write_store(run, name)
    with pytest.raises(LsapError, match=r"holds '.*' and is not a store"):
        write_store(run, str(run))


def test_a_run_folder_is_finished_by_the_same_command(run, stored, tmp_path):
    store = open_store(str(stored))
    with pytest.raises(Stopped):
        write_files(store, tmp_path / "back", tell=stop_after(2))
    assert len(read_manifest(tmp_path / "back")) == 6 and not (tmp_path / "back/metrics.csv").exists()
    write_files(store, tmp_path / "back")
    assert same_results(run, tmp_path / "back")
    write_files(store, tmp_path / "back")
    assert same_results(run, tmp_path / "back")


def test_other_runs_are_not_mixed_with_the_store(run, stored, tmp_path):
    store = open_store(str(stored))
    with RunFolder.open(tmp_path / "other", {**RUN, "seed": 1}):
        pass
    with pytest.raises(LsapError, match="seed was 1, is 0"):
        write_files(store, tmp_path / "other")
    with RunFolder.open(tmp_path / "same", RUN) as folder:
        folder.write("a", **{**result("a"), "codes": result("b")["codes"]})
    with pytest.raises(LsapError, match="has another result of 'a'"):
        write_files(store, tmp_path / "same")


def test_another_compressor_of_png_is_told_and_recorded(run, stored, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lsap_jax.storage.file_bytes._PNG_LEVEL", 0)
    assert main(["export", str(tmp_path / "s"), "--format=files", str(tmp_path / "back")]) == 0
    assert "7 have other bytes than before and the same pixels" in capsys.readouterr().out
    with RunFolder.open(tmp_path / "back", RUN) as folder:
        assert len(folder.finished()) == 7


# Damage


FILES = ["zarr.json", "ids.txt", "rows/00001.jsonl", "files/run.json", "files/metrics.csv", "files/failures.jsonl"]
SHARDS = ["codes/z/c/1/0/0", "images/c/2/0/0/0", "targets/c/0/0/0/0", "curves/loss/c/0/0", "codes/f/zarr.json"]


@pytest.mark.parametrize("name", FILES + SHARDS)
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_damage_is_loud(stored, tmp_path, name, damage):
    path = tmp_path / "s" / name
    whole = path.read_bytes()
    changes = {
        "flipped": [place(whole, part) for part in (0.1, 0.4, 0.9)],
        "cut": [whole[:-2], whole[: len(whole) // 2]],
    }
    for number, data in enumerate(changes.get(damage, [None])):
        path.unlink() if data is None else path.write_bytes(data)
        with pytest.raises(LsapError, match=str(tmp_path / "s")) as caught:
            write_files(open_store(str(tmp_path / "s")), tmp_path / f"back{number}")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
        done = tmp_path / f"back{number}"
        if (done / "run.json").exists():  # what came before the damage is whole
            with RunFolder.open(done, RUN) as folder:
                assert len(folder.finished()) < 7 or name.startswith("files/")


def place(data: bytes, part: float) -> bytes:
    """The bytes with one bit flipped."""
    i = int(len(data) * part)
    return data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :]


def test_a_damaged_run_is_not_exported(run, tmp_path, capsys):
    image = run / "images" / "e.png"
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    assert main(["export", str(run), str(tmp_path / "s.zarr")]) == 2
    assert "images/e.png: has changed" in capsys.readouterr().err
    with pytest.raises(LsapError, match="is incomplete"):
        open_store(str(tmp_path / "s.zarr"))


def test_images_of_another_kind_are_refused(tmp_path):
    other = {**result("b"), "codes": {"z": np.zeros((5, 16), np.float32), "f": result("b")["codes"]["f"]}}
    with RunFolder.open(tmp_path / "run", RUN) as folder:
        folder.write("a", **result("a"))
        folder.write("b", **other)
    with pytest.raises(LsapError, match="arrays of 'b' differ from those of the first image"):
        write_store(tmp_path / "run", str(tmp_path / "s"))


def rewritten(folder: Path, change) -> None:
    """A description that was changed by someone who knows how its checksum is made."""
    document = json.loads((folder / "zarr.json").read_bytes())
    about = document["attributes"]["lsap_jax"]
    about.pop("check")
    change(about)
    about["check"] = stores.check_of(about)
    write_bytes({folder / "zarr.json": json.dumps(document).encode()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about: about.update(format="lsap_jax store 9"), "format 'lsap_jax store 9', this version reads"),
        (lambda about: about.update(shard_rows=0), "in shards of 0 are impossible"),
        (lambda about: about.update(images="many"), "'many' images"),
        (lambda about: about.pop("arrays"), "an entry is missing"),
        (lambda about: about["arrays"].pop("targets"), "no targets"),
        (lambda about: about["arrays"].update({"codes/../../x": about["arrays"]["codes/z"]}), "is called"),
        (lambda about: about["arrays"]["images"].update(shape=[1 << 20, 1 << 20, 3]), "more than a shard holds"),
        (lambda about: about["arrays"]["images"].update(dtype="no type"), "an entry is missing"),
        (lambda about: about.update(metrics=["../x"]), "is called"),
        (lambda about: about.update(sha256={"ids.txt": 7}), "SHA-256 is not a text"),
    ],
)
def test_hostile_descriptions_are_refused(stored, tmp_path, change, message):
    rewritten(tmp_path / "s", change)
    with pytest.raises(LsapError, match=message):
        open_store(str(tmp_path / "s"))


def test_hostile_ids_and_rows_are_refused(stored, tmp_path):
    for file, change, message in (
        ("ids.txt", lambda d: d.replace(b"deep/c", b"../c"), "'../c' is not a plain relative path"),
        ("ids.txt", lambda d: d.replace(b"deep/c", b"e"), "7 different ids"),
        ("ids.txt", lambda d: d.replace(b"deep/c", b"\xff"), "does not describe the images"),
        ("rows/00000.jsonl", lambda d: d.splitlines(keepends=True)[0], "does not describe the images"),
        ("rows/00000.jsonl", lambda d: b"[]\n" * 3, "does not describe the images"),
        ("files/run.json", lambda d: b"[1]", "its run.json or failures.jsonl is damaged"),
        ("files/failures.jsonl", lambda d: b'{"id": "x"}\n', "its run.json or failures.jsonl is damaged"),
    ):
        path = tmp_path / "s" / file
        whole, description = path.read_bytes(), (tmp_path / "s/zarr.json").read_bytes()
        path.write_bytes(change(whole))
        digest = stores.atomic.sha256(path.read_bytes())
        rewritten(tmp_path / "s", lambda about, file=file, digest=digest: about["sha256"].update({file: digest}))
        with pytest.raises(LsapError, match=message):
            write_files(open_store(str(tmp_path / "s")), tmp_path / "back")
        path.write_bytes(whole)
        (tmp_path / "s/zarr.json").write_bytes(description)


def test_what_is_no_store_is_said(run, stored, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "zarr").mkdir()
    (tmp_path / "zarr/zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    for source, target, message in (
        ("none", "x --format=files", "is not a store, it has no zarr.json"),
        ("empty", "x --format=files", "is not a store"),
        ("run", "x --format=files", "is not a store"),
        ("zarr", "x --format=files", "a Zarr store of format None"),
        ("run/run.json", "x --format=files", "run.json: is a file; a store is a folder"),
        ("s", "x.npz", "is a store, not a run folder; `lsap-jax export"),
        ("run", "x.zarr --ws", "--ws: goes with npy, pt, npz"),
        ("run", "x.zarr --array=z", "--array: goes with"),
        ("run", "x.files", "suffix is not one of npy, pt, npz, zarr"),
        ("run", "nowhere://x.zarr", "nowhere://x.zarr"),
    ):
        name, *options = target.split()
        goal = name if "://" in name else str(tmp_path / name)
        assert main(["export", str(tmp_path / source), goal, *options]) == 2
        assert message in capsys.readouterr().err, (source, target)
        assert not (tmp_path / "x.zarr").exists() and not (tmp_path / "x").exists()


def test_a_place_that_cannot_be_written_is_said(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LsapError, match="file/s: cannot be read or written"):
        write_store(run, str(tmp_path / "file" / "s"))


def test_another_reader_of_zarr_agrees(stored):
    zarr = pytest.importorskip("zarr", minversion="3")
    store = open_store(str(stored))
    group = zarr.open_group(str(stored), mode="r")
    assert group.attrs["lsap_jax"]["format"] == stores.FORMAT
    for name, array in store.arrays.items():
        np.testing.assert_array_equal(group[name][...], array.read().result())
