"""`lsap-jax edit --identity`: what is kept of faces, in the manifest, in metrics.csv, in print and on the page."""

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import small_faces
from small_runs import write_run

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.cli.edit import identity_lines
from lsap_jax.editing.edit_record import EDIT, read_edit
from lsap_jax.editing.edit_run import edit_run
from lsap_jax.editing.edit_worker import EditWorker
from lsap_jax.editing.identity_kept import identities_kept, without_face
from lsap_jax.editing.random import random_direction
from lsap_jax.editing.series import along, towards
from lsap_jax.errors import LsapError
from lsap_jax.metrics.identity import compare_identities
from lsap_jax.metrics.significance import bootstrap_interval
from lsap_jax.models.generator_file import load_generator
from lsap_jax.rendering.render import space_of
from lsap_jax.report.edit_report import write_edit_report
from lsap_jax.runs.finished import FinishedJob
from lsap_jax.runs.ray_engine import WorkerActor
from lsap_jax.storage.atomic import LOCK
from lsap_jax.storage.checked_json import sealed
from lsap_jax.storage.metrics_table import read_metrics_table
from lsap_jax.storage.results import read_code, read_image, read_manifest, read_run
from lsap_jax.storage.shards import Shard
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")
IDS = ("0", "1", "sub/2")
STRENGTHS = (-2.0, 0.0, 1.5)
LABELS = ("-2", "0", "1.5")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with g.safetensors, a run, and its edits by which faces are told apart later."""
    folder = tmp_path_factory.mktemp("work")
    tiny_generator(discriminator=False).save(folder / "g.safetensors")
    G = load_generator(folder / "g.safetensors")
    write_run(folder / "run", G, folder / "g.safetensors", "f/z+", IDS)
    space = space_of(read_run(folder / "run"), G)
    other = read_code(folder / "run", "1")
    series = [
        along(G, space, random_direction(G, space, 0), STRENGTHS),
        towards(G, space, "0", "1", other, (0, 0.5)),
        towards(G, space, "sub/2", "1", other, (0, 1)),
    ]
    edit_run(G, folder / "run", folder / "plain", series, batch_size=4)
    return folder, G, space, series


@pytest.fixture
def meter(work, monkeypatch):
    """No face in the reconstruction of image 1, nor in image 0 at strength 1.5."""
    plain = work[0] / "plain"
    faceless = [read_image(plain, "1", "images/random-0/0"), read_image(plain, "0", "images/random-0/1.5")]
    return small_faces.meter(monkeypatch, lambda picture: not any(np.array_equal(picture, one) for one in faceless))


def edited(work, out, meter, **options):
    folder, G, _, series = work
    return edit_run(G, folder / "run", out, series, batch_size=4, identity=meter, **options)


def tree(folder):
    """File -> its lines, sorted, but for locks and the empty list of failures that shards leave."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith((LOCK, "failures"))]
    lines = {path: sorted(path.read_bytes().splitlines(True)) for path in files}
    return {str(path.relative_to(folder)): found for path, found in lines.items()}


def test_similarities_are_those_of_the_saved_pictures(work, meter, tmp_path):
    out = tmp_path / "out"
    assert edited(work, out, meter).done == len(IDS)
    manifest = read_manifest(out)
    assert {id: one["metrics"]["face"] for id, one in manifest.items()} == {"0": 1, "1": 0, "sub/2": 1}
    for id in IDS:
        shown = [read_image(out, id, f"images/random-0/{label}") for label in LABELS]
        own = [read_image(work[0] / "run", id)] * len(shown)
        expected = compare_identities(meter.embedder, meter.detector, own, shown).similarity
        found = [manifest[id]["metrics"].get(f"identity/random-0/{label}", np.nan) for label in LABELS]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert id == "1" or found[1] == pytest.approx(1, abs=1e-12)
    assert "identity/random-0/1.5" not in manifest["0"]["metrics"]
    assert read_metrics_table(out, EDIT) == {id: one["metrics"] for id, one in manifest.items()}
    plain = tree(work[0] / "plain")
    for name, lines in tree(out).items():
        if name not in ("edit.json", "manifest.jsonl", "metrics.csv", "metrics.csv.sha256"):
            assert lines == plain[name]


def test_means_leave_out_what_has_no_face_and_count_it(work, meter, tmp_path, capsys):
    out = tmp_path / "out"
    edited(work, out, meter)
    edit, manifest = read_edit(out), read_manifest(out)
    assert edit["identity"]["name"] == "dlib_resnet" and edit["identity"]["detector"] == "0" * 64
    kept = {(one.series, one.label): one for one in identities_kept(edit, manifest)}
    assert [key[1] for key in kept if key[0] == "to-1"] == ["0", "0.5", "1"]  # of two ways to image 1
    assert {key: one.missing for key, one in kept.items() if one.missing} == {
        ("random-0", "1.5"): 1,
        ("to-1", "1"): 1,  # the picture of image 1, which has no face
    }
    values = [manifest[id]["metrics"]["identity/random-0/-2"] for id in ("0", "sub/2")]
    assert kept["random-0", "-2"].interval == bootstrap_interval(np.array(values))
    assert kept["to-1", "0.5"].interval.n == 1 and without_face(manifest) == 1
    lines = identity_lines(out)
    assert "by dlib's face recognition ResNet, 128 features" in lines[0]
    assert f"1.5: {values_text(manifest)} (1 without a face)" in lines[1]
    assert lines[-1] == "  reconstructions without a face: 1"
    page = write_edit_report(out).read_text()
    assert page.count(">no face</p>") == 3 + 1 + 1 and page.count(">identity 1.00</p>") >= 2
    assert "Mean identity similarity of run (f/z+): cosine of the face embeddings of recon" in page
    assert f"<td>{kept['random-0', '1.5'].text}</td>" in page and "Reconstructions without a face: 1." in page
    assert main(["verify", str(out)]) == 0
    table = out / "metrics.csv"
    table.write_bytes(table.read_bytes().replace(b"1.0", b"0.9", 1))
    assert main(["verify", str(out)]) == 1 and "metrics.csv: has changed" in capsys.readouterr().out
    for file in (table, out / "metrics.csv.sha256"):
        file.unlink()
    assert edited(work, out, meter).skipped == len(IDS) and main(["verify", str(out)]) == 0


def values_text(manifest):
    return f"{manifest['sub/2']['metrics']['identity/random-0/1.5']:.4g}"


def test_resumed_and_in_shards_it_is_the_same_files(work, meter, tmp_path):
    whole = tmp_path / "whole"
    edited(work, whole, meter)
    again = tmp_path / "again"
    shutil.copytree(whole, again)
    lines = (again / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (again / "manifest.jsonl").write_bytes(lines[0] + lines[1][:20])  # killed in the second line
    (again / "metrics.csv").unlink()
    assert edited(work, again, meter).skipped == 1
    for index in (1, 0):
        edited(work, tmp_path / "parts", meter, shard=Shard(index=index, count=2))
    for folder in (again, tmp_path / "parts"):
        assert tree(folder) == tree(whole)


def test_another_network_or_none_is_refused(work, meter, tmp_path):
    out = tmp_path / "out"
    edited(work, out, meter)
    record = replace(meter.embedder.record, weights="others")
    other = replace(meter, embedder=meter.embedder.replace(record=record))
    for one, key in ((other, "identity.weights was '', is 'others'"), (None, "identity.name was 'dlib_resnet', is")):
        with pytest.raises(LsapError, match=f"was started with other settings .*{key}"):
            edited(work, out, one)
    with pytest.raises(LsapError, match="identity.name was 'absent', is 'dlib_resnet'"):
        edited(work, work[0] / "plain", meter)


def test_without_it_nothing_is_said_of_identity(work):
    plain = work[0] / "plain"
    assert "identity" not in (plain / "edit.json").read_text() and not (plain / "metrics.csv").exists()
    assert all(one["metrics"] == {} for one in read_manifest(plain).values())
    assert identity_lines(plain) == [] and "identity" not in write_edit_report(plain).read_text().lower()


def test_an_edit_folder_of_others_is_refused_in_one_line(work, tmp_path):
    shutil.copytree(work[0] / "plain", tmp_path / "out")
    record = read_run(tmp_path / "out", EDIT)
    for wrong in ("dlib", {"network": 3}, None):
        (tmp_path / "out" / "edit.json").write_bytes(sealed({**record, "identity": wrong}))
        with pytest.raises(LsapError, match=r"edit.json: its 'identity.name' is missing or cannot be of this package"):
            read_edit(tmp_path / "out")


def test_another_process_compares_faces_too(work, meter):
    folder, G, space, series = work
    described = {"series": [{"labels": list(s.labels)} for s in series], "generator": {"img_resolution": 16}}
    worker = EditWorker(G, space, series, 4, described, identity=meter)
    run = folder / "run"
    jobs = [
        FinishedJob(id=id, image=read_image(run, id, "targets"), start=read_code(run, id), picture=read_image(run, id))
        for id in IDS[:2]
    ]
    there = WorkerActor().compute(pickle.loads(pickle.dumps(worker.shipment())), [jobs[0], None, jobs[1]])
    here = worker([jobs[0], None, jobs[1]])
    assert there[1] is None
    for k in (0, 2):
        assert there[k].metrics == here[k].metrics and there[k].metrics["face"] == (k == 0)


def test_arrays_are_measured_alike(work, meter, tmp_path):
    folder, G, space, _ = work
    codes = [read_code(folder / "run", id) for id in IDS]
    stacked = {key: np.stack([code[key] for code in codes]) for key in codes[0]}
    found = lsap_jax.edit(G, space, stacked, random_direction(G, space, 0), STRENGTHS, identity=meter)
    edited(work, tmp_path / "out", meter)
    manifest = read_manifest(tmp_path / "out")
    saved = [[manifest[id]["metrics"].get(f"identity/random-0/{label}", np.nan) for id in IDS] for label in LABELS]
    assert found.identity.shape == (3, 3)
    np.testing.assert_allclose(found.identity, saved, atol=1e-3)
    images = lsap_jax.render(G, space, stacked)
    given = lsap_jax.edit(G, space, stacked, random_direction(G, space, 0), [0.0], images=images, identity=meter)
    np.testing.assert_allclose(given.identity, [[1, np.nan, 1]], atol=1e-6)
    assert lsap_jax.edit(G, space, stacked, random_direction(G, space, 0), [0.0]).identity is None


def test_the_command_counts_pictures_without_a_face(work, tmp_path, capsys):
    """In 16 px no face is found."""
    options = ("--direction=random:0", "--strengths=0,1", "--batch_size=4", "--identity=dlib")
    assert main(["edit", str(work[0] / "run"), "--out", str(tmp_path / "out"), *options]) == 0
    said = capsys.readouterr().out
    assert "identity kept, by dlib's face recognition ResNet" in said and "0: –   1: –" in said
    assert "reconstructions without a face: 3" in said
    assert (tmp_path / "out" / "metrics.csv").read_text() == "id,face\n0,0.0\n1,0.0\nsub/2,0.0\n"
