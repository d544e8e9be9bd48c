"""The run folder: what is written and read, resume, and what is refused."""

import csv
import json
import math
import os
import threading
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from lsap_jax.errors import LsapError
from lsap_jax.storage import atomic
from lsap_jax.storage.atomic import held
from lsap_jax.storage.file_bytes import npz_bytes
from lsap_jax.storage.matching import Rule
from lsap_jax.storage.metrics_table import metrics_csv, read_metrics_table, write_table
from lsap_jax.storage.results import RUN as RUN_LAYOUT
from lsap_jax.storage.results import read_arrays, read_code, read_failures, read_image, read_manifest, read_run
from lsap_jax.storage.run_folder import Kind, RunFolder

RUN = {
    "config": {"space": "f/z+", "steps": 30, "loss": {"mse": 1.0, "perceptual": 10.0}, "batch_size": 4},
    "seed": 0,
    "space": "f/z+",
    "generator": {"name": "tiny", "sha256": "ab" * 32},
    "devices": ["cpu:0"],
}
IDS = ["a", "a.png", "deep/er/b", "ü"]


def result(id: str) -> dict:
    """What an inversion of this id yields."""
    rng = np.random.default_rng(list(id.encode()))
    psnr = math.inf if id == "a" else 30.0
    return {
        "codes": {"z": rng.normal(size=(6, 16)).astype(np.float32), "f": rng.normal(size=(4, 4, 8)).astype(np.float32)},
        "images": rng.uniform(-1, 1, (8, 8, 3)).astype(np.float32),
        "targets": rng.integers(0, 256, (8, 8, 3), np.uint8),
        "curves": {"loss": rng.uniform(size=30).astype(np.float32)},
        "metrics": {"ssim": 0.9, "mse": rng.uniform(), "lpips": np.float32(0.1), "psnr": psnr},
        "flags": ["non-finite"] if id == "ü" else [],
        "notes": ["cropped 9x8 to 8x8"],
        "input_sha256": atomic.sha256(id.encode()),
    }


def do_run(folder: Path, ids: list[str] = IDS) -> None:
    """A whole run, or the rest of one; the second image fails at first."""
    with RunFolder.open(folder, RUN) as run:
        done = run.finished()
        for id in ids:
            run.check_input(id, atomic.sha256(id.encode()))
            if id not in done:
                run.fail(id, "not yet", f"{id}.jpg")
                run.write(id, **result(id))
        run.fail("bad", "the file is empty", "bad.jpg")
        run.finish()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# What is written and read


def test_what_is_written_is_read_back(tmp_path):
    do_run(tmp_path / "run")
    folder = tmp_path / "run"
    assert sorted(tree(folder)) == sorted(
        [".lock", "run.json", "manifest.jsonl", "failures.jsonl", "metrics.csv", "metrics.csv.sha256"]
        + [f"{part}/{id}{end}" for id in IDS for part, end in
           [("codes", ".npz"), ("curves", ".npz"), ("images", ".png"), ("targets", ".png")]]
    )  # fmt: skip
    manifest = read_manifest(folder)
    assert list(manifest) == IDS
    for id in IDS:
        expected = result(id)
        code = read_code(folder, id, manifest=manifest)
        assert sorted(code) == ["f", "z"]
        for name in code:
            np.testing.assert_array_equal(code[name], expected["codes"][name])
        np.testing.assert_array_equal(read_arrays(folder, id, "curves")["loss"], expected["curves"]["loss"])
        np.testing.assert_array_equal(read_image(folder, id, "targets"), expected["targets"])
        shown = read_image(folder, id).astype(np.float32) / 127.5 - 1
        assert np.abs(shown - expected["images"]).max() <= 0.5 / 127.5 + 1e-6
        for key in ("metrics", "flags", "notes", "input_sha256"):
            assert manifest[id][key] == expected[key]
    assert read_run(folder) == {"format": "lsap_jax run 2", **RUN}
    assert read_failures(folder) == {"bad": {"id": "bad", "input": "bad.jpg", "reason": "the file is empty"}}


def test_the_table_has_a_row_per_image_by_id(tmp_path):
    do_run(tmp_path)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text("utf-8").splitlines()))
    assert list(rows[0]) == ["id", "mse", "psnr", "ssim", "lpips"]
    assert [row["id"] for row in rows] == sorted(IDS)
    assert rows[0]["psnr"] == "inf" and float(rows[1]["mse"]) == result(sorted(IDS)[1])["metrics"]["mse"]


def test_other_tools_read_the_files(tmp_path):
    do_run(tmp_path)
    with np.load(tmp_path / "codes/a.npz") as code:
        assert code["f"].shape == (4, 4, 8)
    with Image.open(tmp_path / "images/deep/er/b.png") as picture:
        assert picture.size == (8, 8)
    for line in (tmp_path / "manifest.jsonl").read_text("ascii").splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_grey_images_and_runs_without_curves(tmp_path):
    with RunFolder.open(tmp_path, RUN) as run:
        grey = {**result("a"), "images": np.zeros((8, 8, 1)), "targets": np.full((8, 8, 1), 7, np.uint8), "curves": {}}
        run.write("a", **grey)
        run.finished()
    np.testing.assert_array_equal(read_image(tmp_path, "a", "targets"), grey["targets"])
    with pytest.raises(LsapError, match="no finished curves/a"):
        read_arrays(tmp_path, "a", "curves")


def test_bytes_depend_on_the_contents_only(tmp_path, monkeypatch):
    do_run(tmp_path / "one")
    monkeypatch.setattr(time, "time", lambda: 2e9)
    do_run(tmp_path / "two", IDS[::-1])
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    assert sorted(one.pop("manifest.jsonl").splitlines()) == sorted(two.pop("manifest.jsonl").splitlines())
    assert one == two
    assert npz_bytes({"b": np.ones(2), "a": np.zeros((2, 3)).T}) == npz_bytes({"a": np.zeros((3, 2)), "b": np.ones(2)})


@pytest.mark.parametrize("change", ["code", "image", "finished", "id", "picture", "dtype"])
def test_what_must_not_be_saved_is_refused(tmp_path, change):
    with RunFolder.open(tmp_path, RUN) as run:
        id, values = "a", result("a")
        if change == "code":
            values["codes"]["z"][0, 0] = np.nan
        elif change == "image":
            values["images"][0, 0] = np.inf
        elif change == "finished":
            run.write("a", **values)
        elif change == "id":
            id = "../a"
        elif change == "picture":
            values["targets"] = values["targets"].astype(np.float32)
        else:
            values["codes"]["z"] = values["codes"]["z"].astype(ml_dtypes.bfloat16)
        before = tree(tmp_path)
        with pytest.raises((ValueError, TypeError)):
            run.write(id, **values)
        assert tree(tmp_path) == before


# Resume


def test_a_run_goes_on_where_it_stopped(tmp_path):
    do_run(tmp_path / "whole")
    with RunFolder.open(tmp_path / "part", RUN) as run:
        run.fail("a", "not yet", "a.jpg")
        run.write("a", **result("a"))
    do_run(tmp_path / "part")
    assert tree(tmp_path / "part") == tree(tmp_path / "whole")
    do_run(tmp_path / "part")
    assert tree(tmp_path / "part") == tree(tmp_path / "whole")


def test_columns_that_evaluate_added_stay(tmp_path):
    do_run(tmp_path)
    table = read_metrics_table(tmp_path)
    added = {id: {**row, "nscd": 0.25} for id, row in table.items()}
    write_table(tmp_path, metrics_csv(added))
    do_run(tmp_path)
    assert read_metrics_table(tmp_path) == added
    (first, *others), name = sorted(table), next(iter(table["a"]))
    write_table(tmp_path, metrics_csv({**added, first: {**added[first], name: 9.0}}))  # the row of another result
    do_run(tmp_path)
    assert read_metrics_table(tmp_path) == {first: table[first], **{id: added[id] for id in others}}
    (tmp_path / "metrics.csv").write_bytes(b"id,mse\na,1\n")
    do_run(tmp_path)
    assert read_metrics_table(tmp_path) == table, "a table that has changed adds nothing"


def test_two_commands_change_the_table_one_after_the_other(tmp_path):
    do_run(tmp_path)
    order: list[str] = []

    def add(name: str) -> None:
        with held(tmp_path):
            order.append(f"{name} begins")
            rows = read_metrics_table(tmp_path)
            time.sleep(0.05)
            write_table(tmp_path, metrics_csv({id: {**row, name: 1.0} for id, row in rows.items()}))
            order.append(f"{name} ends")

    threads = [threading.Thread(target=add, args=(name,)) for name in "pqr"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all({"p", "q", "r"} <= row.keys() for row in read_metrics_table(tmp_path).values())
    assert [a[0] for a in order[::2]] == [b[0] for b in order[1::2]]


def test_another_batch_size_or_device_may_resume_and_run_json_stays(tmp_path):
    do_run(tmp_path)
    other = {**RUN, "config": {**RUN["config"], "batch_size": 9}, "devices": ["cuda:0"]}
    with RunFolder.open(tmp_path, other) as run:
        assert run.run["config"]["batch_size"] == 4
    assert read_run(tmp_path)["devices"] == ["cpu:0"]


def test_other_settings_are_refused_naming_each_with_both_values(tmp_path):
    do_run(tmp_path)
    before = tree(tmp_path)
    other = json.loads(json.dumps(RUN))
    other["config"]["loss"]["perceptual"] = 5.0
    del other["config"]["steps"]
    other["seed"] = 7
    other["generator"] = {"name": "moved", "sha256": "cd" * 32}
    with pytest.raises(LsapError) as caught:
        RunFolder.open(tmp_path, other)
    message = str(caught.value)
    expected = [
        "config.loss.perceptual was 10.0, is 5.0",
        "config.steps was 30, is 'absent'",
        "seed was 0, is 7",
        f"generator.sha256 was '{'ab' * 32}', is '{'cd' * 32}'",
        "choose another folder",
        str(tmp_path),
    ]
    for part in expected:
        assert part in message
    assert "name" not in message and "mse" not in message and "\n" not in message
    assert tree(tmp_path) == before
    do_run(tmp_path)  # the refused attempt left no lock behind


def test_a_changed_input_is_named(tmp_path):
    do_run(tmp_path)
    with RunFolder.open(tmp_path, RUN) as run:
        run.check_input("a", atomic.sha256(b"a"))
        run.check_input("new", "anything")
        with pytest.raises(LsapError, match="photos/a.jpg: has changed since it was done"):
            run.check_input("a", atomic.sha256(b"b"), "photos/a.jpg")


def test_a_success_overrides_a_failure(tmp_path):
    with RunFolder.open(tmp_path, RUN) as run:
        for reason in ("once", "twice", "twice"):
            run.fail("a", reason, "a.jpg")
        assert len((tmp_path / "failures.jsonl").read_bytes().splitlines()) == 2
        assert read_failures(tmp_path)["a"]["reason"] == run.failures()["a"]["reason"] == "twice"
        run.write("a", **result("a"))
        assert not run.failures() and not read_failures(tmp_path)
        run.finish()
    assert (tmp_path / "failures.jsonl").read_bytes() == b""


# What is no run, or no longer one


def test_folders_that_are_no_run_are_not_touched(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("dear to someone")
    with pytest.raises(LsapError, match="'thesis.tex' but no run.json"):
        RunFolder.open(tmp_path / "other", RUN)
    assert list(tree(tmp_path / "other")) == ["thesis.tex"]
    for path in (tmp_path / "other/thesis.tex", tmp_path / "other/thesis.tex/run"):
        with pytest.raises(LsapError):
            RunFolder.open(path, RUN)
    for path in (tmp_path, tmp_path / "absent", tmp_path / "other/thesis.tex"):
        with pytest.raises(LsapError, match="not a run folder"):
            read_run(path)
    (tmp_path / "run.json").write_text('{"format": "another tool"}')
    with pytest.raises(LsapError, match="format is 'another tool'"):
        RunFolder.open(tmp_path, RUN)
    (tmp_path / "run.json").write_text('{"format": ')
    with pytest.raises(LsapError, match="is damaged"):
        read_run(tmp_path)


def test_of_lists_of_records_only_what_differs_is_told(tmp_path):
    kind = Kind(RUN_LAYOUT, Rule(("series",)))

    def open_with(*series):
        RunFolder.open(tmp_path, {"series": list(series)}, kind=kind).close()

    smile = {"name": "smile", "layers": "all", "labels": ["0", "1"]}
    open_with(smile, {**smile, "name": "beard"})
    with pytest.raises(LsapError, match=r"with other settings \(series.beard.layers was 'all', is '4-7'\): repeat"):
        open_with(smile, {**smile, "name": "beard", "layers": "4-7"})
    with pytest.raises(LsapError, match="series.beard.labels was .*, is 'absent'"):
        open_with(smile)


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("run.json", read_run),
        (".lock", lambda path: RunFolder.open(path, RUN)),
        ("manifest.jsonl", read_manifest),
        ("codes/a.npz", lambda path: read_code(path, "a")),
    ],
)
def test_what_cannot_be_read_is_explained(tmp_path, name, action):
    do_run(tmp_path)
    (tmp_path / name).rename(tmp_path / "moved")
    (tmp_path / name).mkdir()
    with pytest.raises(LsapError, match=f"{name}: cannot be read or written .Is a directory"):
        action(tmp_path)


@pytest.mark.parametrize("name", ["codes/a.npz", "images/deep/er/b.png", "targets/ü.png", "curves/a.npz"])
def test_a_flipped_byte_or_a_missing_file_is_loud(tmp_path, name):
    do_run(tmp_path)
    file, id = tmp_path / name, os.path.splitext(name.partition("/")[2])[0]
    whole = file.read_bytes()
    for position in (0, len(whole) // 2, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        file.write_bytes(flipped)
        with RunFolder.open(tmp_path, RUN) as run, pytest.raises(LsapError, match="has changed since it was written"):
            run.finished()
    with pytest.raises(LsapError, match=name):
        (read_image if name.endswith("png") else read_arrays)(tmp_path, id, name.partition("/")[0])
    file.unlink()
    with RunFolder.open(tmp_path, RUN) as run, pytest.raises(LsapError, match=f"{name}: is missing"):
        run.finished()
        pytest.fail("a missing file went unnoticed")
    with RunFolder.open(tmp_path, RUN) as run:
        assert list(run.finished(check=False)) == IDS


def test_the_remedy_of_a_damaged_file_works(tmp_path):
    do_run(tmp_path)
    before = tree(tmp_path)
    (tmp_path / "codes/a.png.npz").unlink()
    lines = (tmp_path / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "manifest.jsonl").write_bytes(b"".join(line for line in lines if b'"a.png"' not in line))
    do_run(tmp_path)
    after = tree(tmp_path)
    assert sorted(before.pop("manifest.jsonl").splitlines()) == sorted(after.pop("manifest.jsonl").splitlines())
    assert after == before


def test_a_torn_last_line_is_cut_off_wherever_it_is_torn(tmp_path):
    do_run(tmp_path)
    manifest = tmp_path / "manifest.jsonl"
    whole = manifest.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    tails = [whole[start:end] for end in range(start + 1, len(whole), 29)]
    tails += [whole[start:-1], bytes(50), whole[start:-40] + bytes(40)]
    for tail in tails:
        manifest.write_bytes(whole[:start] + tail)
        assert list(read_manifest(tmp_path)) == IDS[:-1]
        assert manifest.read_bytes() == whole[:start] + tail  # a reader changes nothing
        with RunFolder.open(tmp_path, RUN) as run:
            assert list(run.finished()) == IDS[:-1]
        assert manifest.read_bytes() == whole[:start]
    do_run(tmp_path)
    assert manifest.read_bytes() == whole


def test_a_line_that_has_changed_is_loud(tmp_path):
    do_run(tmp_path)
    manifest = tmp_path / "manifest.jsonl"
    whole = manifest.read_bytes()
    for old, new, line in ((b'"mse": 0.', b'"mse": 1.', 1), (b'{"id": "a"', b'["id": "a"', 1), (b"\n{", b"\n{{", 2)):
        manifest.write_bytes(whole.replace(old, new, 1))
        for action in (lambda: read_manifest(tmp_path), lambda: RunFolder.open(tmp_path, RUN)):
            with pytest.raises(LsapError, match=f"manifest.jsonl: line {line} has changed"):
                action()
    manifest.write_bytes(whole.replace(b'"cropped', b'"Cropped'))  # also in the last line, which is whole
    with pytest.raises(LsapError, match="has changed"):
        read_manifest(tmp_path)
