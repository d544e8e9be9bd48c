"""Folders from elsewhere: nothing in one leads out of it, and what this package cannot have written is refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_results import IDS, RUN, do_run, result

from lsap_jax.data import ImageError
from lsap_jax.editing.edit_record import EDIT, read_edit
from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison.runs import read_comparison
from lsap_jax.faces import aligned_folder
from lsap_jax.report.run_report import write_run_report
from lsap_jax.runs.finished import FinishedJob, codes_of, finished_images
from lsap_jax.storage.atomic import sha256
from lsap_jax.storage.checked_json import encode_record, parse_record, sealed, unsealed
from lsap_jax.storage.inside import inside, read_inside
from lsap_jax.storage.matching import Layout, begin
from lsap_jax.storage.metrics_table import metrics_csv, quoted, read_metrics_table, unquoted, write_table
from lsap_jax.storage.results import read_arrays, read_code, read_failures, read_image, read_manifest, read_run
from lsap_jax.storage.run_folder import RunFolder
from lsap_jax.storage.to_store import write_store

OUTSIDE = [
    "../secret",
    "a/../../secret",
    "/etc/passwd",
    "C:\\secret",
    "a\\b",
    "a\0b",
    "\x1b[31m",
    ".",
    "a//b",
    "",
    7,
    None,
]
MARKS = ["", "=", "+", "-", "@", "'", "''=", "a=", "'a", "\t"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    do_run(folder)
    return folder


@pytest.fixture
def run(whole, tmp_path) -> Path:
    (tmp_path / "secret.npz").write_bytes((whole / "codes/a.npz").read_bytes())
    return shutil.copytree(whole, tmp_path / "run")


def rewrite(run: Path, change, name: str = "manifest.jsonl") -> None:
    """The first line, changed by someone who knows how its check is made."""
    first, *others = (run / name).read_bytes().splitlines(keepends=True)
    record = parse_record(first)
    change(record)
    (run / name).write_bytes(b"".join([encode_record(record), *others]))


def refused(run: Path, tmp_path: Path, match: str) -> None:
    """Every reader of a run says the same, in one line."""
    readers = (read_manifest, read_failures, write_run_report, lambda folder: RunFolder.open(folder, RUN))
    for read in (*readers, lambda folder: write_store(folder, str(tmp_path / "store"))):
        with pytest.raises(LsapError, match=match) as caught:
            read(run)
        assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize("part", ["targets", "images", "codes"])
def test_images_without_a_part_are_refused_by_what_needs_it(tiny, run, part):
    rewrite(run, lambda record: record["sha256"].pop(part))
    manifest = read_manifest(run)
    source = finished_images(run, manifest, tiny, parts=("codes", "targets", "images", "refined"))
    with pytest.raises(ImageError, match=f"a has no {part}"):
        source.load(sorted(manifest).index("a"))


def test_codes_of_other_shapes_do_not_come_together():
    jobs = [
        FinishedJob(id=id, image=np.zeros((2, 2, 3), np.uint8), start={"w": np.zeros(d)})
        for id, d in (("a", 3), ("b", 4))
    ]
    with pytest.raises(LsapError, match="^b: its codes have other names or shapes"):
        codes_of(jobs)


@pytest.mark.parametrize("steps", ["many", -1, 10**9, [1], None])
def test_a_store_has_no_room_for_impossible_steps(run, tmp_path, steps):
    record, _ = unsealed((run / "run.json").read_bytes())
    (run / "run.json").write_bytes(sealed({**record, "steps": steps}))
    with pytest.raises(LsapError, match=r"run\.json has .* steps; restore the file"):
        write_store(run, str(tmp_path / "store"))


@pytest.mark.parametrize("id", OUTSIDE)
def test_ids_that_lead_elsewhere_are_refused_by_every_reader(run, tmp_path, id):
    rewrite(run, lambda record: record.update(id=id))
    refused(run, tmp_path, "manifest.jsonl: holds a record that cannot be of this package: the id ")


@pytest.mark.parametrize(
    "part", ["codes/../../../secret", "codes/", "secrets", "codes//etc/x", "../codes", "images/a\\b"]
)
def test_parts_that_lead_elsewhere_are_refused_by_every_reader(run, tmp_path, part):
    digest = sha256((tmp_path / "secret.npz").read_bytes())
    rewrite(run, lambda record: record["sha256"].update({part: digest}))
    refused(run, tmp_path, "cannot be of this package: the part ")


@pytest.mark.parametrize(
    "change",
    [
        *(
            lambda record, key=key: record.pop(key)
            for key in ("id", "input_sha256", "sha256", "metrics", "flags", "notes")
        ),
        *(lambda record, key=key: record.update({key: None}) for key in ("input_sha256", "sha256", "metrics", "flags")),
        *(
            lambda record, value=value: record["metrics"].update(mse=value)
            for value in (None, [], "1e5", True, 10**400)
        ),
        *(lambda record, value=value: record["sha256"].update(codes=value) for value in (None, "0", 7, "A" * 64)),
        lambda record: record.update(notes=[7]),
    ],
)
def test_records_with_missing_or_wrong_fields_are_refused(run, tmp_path, change):
    rewrite(run, change)
    refused(run, tmp_path, "manifest.jsonl: holds a record that cannot be of this package: ")


def test_failures_are_checked_too(run):
    for change in (lambda r: r.update(id="../x"), lambda r: r.pop("reason"), lambda r: r.update(input=None)):
        before = (run / "failures.jsonl").read_bytes()
        rewrite(run, change, "failures.jsonl")
        with pytest.raises(LsapError, match="failures.jsonl: holds a record that cannot be of this package"):
            read_failures(run)
        (run / "failures.jsonl").write_bytes(before)


@pytest.mark.parametrize(
    "data",
    [b"null", b"[]", b"[" * 10**5, b'{"a":' * 10**5, b'{"format": NaN}', b'{"a": 1' + b"0" * 5000 + b"}", b"\xff\xfe"],
)
def test_json_of_any_kind_is_refused_in_one_line(run, data):
    for name, read in (("run.json", read_run), ("manifest.jsonl", read_manifest), ("failures.jsonl", read_failures)):
        (run / name).write_bytes(data + b"\n")
        with pytest.raises(LsapError, match=f"{name}: (is damaged, it |line 1 has changed)") as caught:
            read(run)
        assert len(str(caught.value)) < 400 and str(caught.value).isprintable()


def test_links_out_of_the_folder_are_refused_and_links_inside_are_not(run, tmp_path):
    (run / "codes/a.npz").unlink()
    (run / "codes/a.npz").symlink_to(tmp_path / "secret.npz")  # of the right SHA-256
    with pytest.raises(LsapError, match="a.npz: is a link out of "):
        read_code(run, "a")
    shutil.move(run / "targets", tmp_path / "targets")
    (run / "targets").symlink_to(tmp_path / "targets")
    with pytest.raises(LsapError, match="targets/a.png: is a link out of "):
        read_image(run, "a", "targets")
    with RunFolder.open(run, RUN) as folder, pytest.raises(LsapError, match="is a link out of "):
        folder.write("new", **result("new"))
    assert not (tmp_path / "targets/new.png").exists()
    shutil.copy(run / "images/a.png", run / "moved.png")
    (run / "images/a.png").unlink()
    (run / "images/a.png").symlink_to("../moved.png")
    read_image(run, "a")
    for name in ("manifest.jsonl", "run.json", "metrics.csv"):
        shutil.move(run / name, tmp_path / name)
        (run / name).symlink_to(tmp_path / name)
    for read in (read_manifest, read_run, read_metrics_table):
        with pytest.raises(LsapError, match="is a link out of "):
            read(run)


def test_only_regular_files_are_read(run):
    for name, read in (("codes/a.npz", lambda run: read_code(run, "a")), ("run.json", read_run)):
        (run / name).unlink()
        os.mkfifo(run / name)
        with pytest.raises(LsapError, match=f"{name}: is not a regular file"):
            read(run)


@pytest.mark.parametrize("name", ["../a", "a/../b", "/a", "a\\b", "a\0b", "a//b", ""])
def test_names_that_are_not_inside(tmp_path, name):
    with pytest.raises(LsapError, match="is not a path inside the folder"):
        inside(tmp_path, name)


def test_names_inside_are_found_also_through_a_link_to_the_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real/a:b").write_bytes(b"x")
    assert read_inside(tmp_path / "link", "a:b") == b"x" == read_inside(os.path.relpath(tmp_path / "real"), "a:b")
    with pytest.raises(FileNotFoundError):
        read_inside(tmp_path / "real", "absent")


def test_files_of_the_right_digest_that_are_something_else_are_refused(run):
    for data in (b"", b"PK\x03\x04", b"\x93NUMPY", np.array([{}], object).dumps(), b"\x89PNG\r\n\x1a\n" + bytes(40)):
        for name, part in (("codes/a.npz", "codes"), ("images/a.png", "images"), ("curves/a.npz", "curves")):
            (run / name).write_bytes(data)
            rewrite(run, lambda record, part=part, data=data: record["sha256"].update({part: sha256(data)}))
            with pytest.raises(LsapError, match=f"{name}: cannot be decoded"):
                (read_image if part == "images" else read_arrays)(run, "a", part)


def test_cells_are_no_formulas_and_read_back(tmp_path):
    begin(tmp_path, Layout("run.json", "lsap_jax run 2", "run"), {})
    rows = {f"{mark}{id}": {"mse": -0.5, "=cmd": 2.0} for mark in MARKS for id in ("b", "-1", "cmd|' /C calc'!A1")}
    write_table(tmp_path, metrics_csv(rows))
    assert read_metrics_table(tmp_path) == rows
    cells = [cell for line in (tmp_path / "metrics.csv").read_text().splitlines() for cell in line.split(",")]
    assert not [cell for cell in cells if cell.lstrip('"').startswith(("=", "+", "@", "\t"))]
    assert {cell for cell in cells if cell.startswith("-")} == {"-0.5"}
    assert all(unquoted(quoted(f"{mark}x")) == f"{mark}x" for mark in MARKS)


def test_the_table_survives_a_kill_between_any_two_writes(run, monkeypatch):
    before, rows = read_metrics_table(run), {id: {"mse": 1.0} for id in IDS}
    calls = []
    for stop in range(1, 4):
        real, calls = os.replace, []

        def replace(a, b, stop=stop, real=real, calls=calls):
            calls.append(b)
            if len(calls) == stop:
                raise KeyboardInterrupt
            real(a, b)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "replace", replace)
            write_table(run, metrics_csv(rows))
        assert read_metrics_table(run) in (before, rows)
    write_table(run, metrics_csv(rows))
    assert (run / "metrics.csv.sha256").read_text() == f"{sha256(metrics_csv(rows))}  metrics.csv\n"


def test_an_alignment_from_elsewhere_names_no_file_outside(tmp_path):
    settings = dict.fromkeys(aligned_folder.SETTINGS, 0)
    with aligned_folder.opened(tmp_path / "a", settings) as folder:
        folder.write({"id": "x"}, b"png")
    (tmp_path / "secret.png").write_bytes(b"png")
    (tmp_path / "a" / f"{aligned_folder.DONE}.jsonl").write_bytes(
        encode_record({"id": "../secret", "sha256": sha256(b"png")})
    )
    with (
        pytest.raises(LsapError, match="cannot be of this package"),
        aligned_folder.opened(tmp_path / "a", settings),
    ):
        pass


def test_settings_of_other_types_are_told(tmp_path):
    (tmp_path / "run.json").write_bytes(sealed({"format": ["lsap_jax run 2"]}))
    with pytest.raises(LsapError, match="this version reads 'lsap_jax run 2'"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"format": "lsap_jax run 02"}))
    with pytest.raises(LsapError, match="format is 'lsap_jax run 02'"):
        read_run(tmp_path)


@pytest.mark.parametrize("depth", [1, 40, 62, 63, 100, 990, 1000, 10_000, 100_000])
def test_json_is_parsed_to_a_depth_and_refused_beyond(depth):
    data = b'{"a": ' + b"[" * depth + b"]" * depth + b"}\n"
    if depth < 64:
        record, sealed_ = unsealed(data)
        assert not sealed_ and parse_record(encode_record(record)) == record == unsealed(sealed(record))[0]
        return
    for read in (parse_record, unsealed):
        with pytest.raises(ValueError, match="is nested too deeply"):
            read(data)


EDITS = {
    "format": EDIT.format,
    "space": "z",
    "run": {"name": "r", "config": {}},
    "generator": {"name": "g", "sha256": "0", "img_resolution": 16},
    "series": [{"name": "s", "only": None, "labels": ["0"], "sha256": "0", "mix": ["a", "b"]}],
}


@pytest.mark.parametrize(
    "change", [{"series": None}, {"series": [{}]}, {"run": []}, {"generator": {"name": 7}}, {"space": 1}]
)
def test_edits_with_missing_or_wrong_fields_are_refused(tmp_path, change):
    (tmp_path / EDIT.file).write_bytes(sealed(EDITS))
    assert read_edit(tmp_path) == EDITS
    (tmp_path / EDIT.file).write_bytes(sealed({**EDITS, **change}))
    with pytest.raises(LsapError, match="edit.json: its '.*' is missing or cannot be of this package"):
        read_edit(tmp_path)


@pytest.mark.parametrize("change", [{"mix": ["a"]}, {"mix": None}, {"labels": []}])
def test_series_that_are_none_are_refused(tmp_path, change):
    (tmp_path / EDIT.file).write_bytes(sealed({**EDITS, "series": [{**EDITS["series"][0], **change}]}))
    with pytest.raises(LsapError, match="cannot be of this package"):
        read_edit(tmp_path)


@pytest.mark.parametrize("folder", ["../x", "/x", "a/../../x", None])
def test_comparisons_name_runs_inside_alone(tmp_path, folder):
    record = {"format": "lsap_jax comparison 2", "presets": [{"preset": "z", "folder": folder}]}
    (tmp_path / "comparison.json").write_bytes(sealed(record))
    with pytest.raises(LsapError, match="is not a path inside the folder|is missing or cannot be of this package"):
        read_comparison(tmp_path)
