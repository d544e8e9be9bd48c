"""`lsap-jax evaluate --identity`: columns, their summary, images without a face, and other networks than before."""

import csv
import json
import pickle

import numpy as np
import pytest
import small_faces
from small_runs import write_run

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.cli.evaluate import summary
from lsap_jax.metrics.identity import face_embeddings, identity_similarity
from lsap_jax.models.generator_file import load_generator
from lsap_jax.rendering.render import space_of
from lsap_jax.runs.evaluate_run import EvaluationWorker, evaluate_run
from lsap_jax.runs.finished import FinishedJob
from lsap_jax.runs.ray_engine import WorkerActor
from lsap_jax.storage.metrics_table import read_metrics_table
from lsap_jax.storage.results import read_code, read_evaluation, read_image, read_run
from lsap_jax.storage.shards import Shard
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
IDS = ("a", "b", "c", "d", "e")
SIMILARITY, DISTANCE = "identity_dlib_resnet", "identity_dlib_resnet_distance"
TABLES = ("metrics.csv", "evaluation.json")


@pytest.fixture(scope="module")
def G(tmp_path_factory):
    file = tmp_path_factory.mktemp("generator") / "g.safetensors"
    tiny_generator(discriminator=False).save(file)
    return lsap_jax.with_statistics(load_generator(file)), file


@pytest.fixture
def run(G, tmp_path):
    return made(G, tmp_path / "run")


def made(G, folder, ids=IDS):
    return write_run(folder, G[0], G[1], "f/z+", ids, tiny_images(len(ids)))


def pictures(run, part):
    return np.stack([read_image(run, id, part) for id in IDS])


def meter_without(patch, run, *faceless, weights=""):
    """A meter that finds no face in these pictures of the run, (id, part) each."""
    others = [read_image(run, *one) for one in faceless]
    return small_faces.meter(patch, lambda picture: not any(np.array_equal(picture, o) for o in others), weights)


def test_columns_are_those_of_the_saved_pictures(G, run, monkeypatch):
    meter = meter_without(monkeypatch, run, ("b", "targets"), ("c", "images"))
    assert evaluate_run(G[0], run, sets=False, batch_size=2, identity=meter).done == len(IDS)
    with open(run / "metrics.csv", newline="") as file:
        cells = {row["id"]: row for row in csv.DictReader(file)}
    targets, images = (
        face_embeddings(meter.embedder, meter.detector, pictures(run, p))[0] for p in ("targets", "images")
    )
    similarity, distance = identity_similarity(targets, images), np.linalg.norm(targets - images, axis=1)
    for k, id in enumerate(IDS):
        if id in "bc":
            assert cells[id][SIMILARITY] == cells[id][DISTANCE] == "" and cells[id]["face"] == {"b": "", "c": "0.0"}[id]
            continue
        np.testing.assert_allclose(float(cells[id][SIMILARITY]), similarity[k], rtol=1e-6)
        np.testing.assert_allclose(float(cells[id][DISTANCE]), distance[k], rtol=1e-5)
        assert cells[id]["face"] == "1.0"
    record = read_evaluation(run)
    there = np.isfinite(similarity)
    np.testing.assert_allclose(record["means"][SIMILARITY], similarity[there].mean(), rtol=1e-6)
    np.testing.assert_allclose(record["means"]["face"], 0.75)
    found = record["identity"]
    low, high = found["intervals"][SIMILARITY]
    assert low <= record["means"][SIMILARITY] <= high
    assert (found["compared"], found["targets_without_face"], found["reconstructions_without_face"]) == (3, 1, 1)
    assert found["same_person"] == (distance[there] < 0.6).sum()
    assert record["metrics"][SIMILARITY]["network"].startswith("dlib's face recognition ResNet, 128 features")
    said = summary("run", record)
    assert f"  {SIMILARITY:24} {record['means'][SIMILARITY]:10.4g}   [{low:.3g}, {high:.3g}]" in said
    assert "  identity: 3 images compared by dlib's face recognition ResNet" in said
    assert "distance below 0.6, one person by dlib's documentation: " in said
    assert "targets without a face: 1; reconstructions without one: 1" in said
    assert main(["report", str(run)]) == 0 and SIMILARITY in (run / "report.html").read_text()
    assert main(["verify", str(run)]) == 0


def test_shards_and_other_batches_leave_the_same_tables(G, run, tmp_path, monkeypatch):
    meter = meter_without(monkeypatch, run, ("b", "targets"))
    evaluate_run(G[0], run, sets=False, batch_size=2, identity=meter)
    parts = made(G, tmp_path / "parts")
    for index, left in ((1, 3), (0, 0)):
        options = {"batch_size": 2, "identity": meter, "shard": Shard(index=index, count=2)}
        assert evaluate_run(G[0], parts, sets=False, **options).left == left
    for name in TABLES:
        assert (parts / name).read_bytes() == (run / name).read_bytes()
    alone = made(G, tmp_path / "alone")
    evaluate_run(G[0], alone, sets=False, batch_size=1, identity=meter)
    one, other = read_metrics_table(run), read_metrics_table(alone)
    for id in IDS:
        assert {name: one[id].get(name) for name in (SIMILARITY, DISTANCE, "face")} == {
            name: other[id].get(name) for name in (SIMILARITY, DISTANCE, "face")
        }


def test_another_process_compares_faces_too(G, run, monkeypatch):
    meter = meter_without(monkeypatch, run, ("b", "images"))
    worker = EvaluationWorker(G[0], space_of(read_run(run), G[0]), (), None, False, 2, {}, identity=meter)
    jobs = [
        FinishedJob(id=id, image=read_image(run, id, "targets"), start=read_code(run, id), picture=read_image(run, id))
        for id in ("a", "b")
    ]
    there = WorkerActor().compute(pickle.loads(pickle.dumps(worker.shipment())), [jobs[0], None, jobs[1]])
    here = worker([jobs[0], None, jobs[1]])
    assert there[1] is None and there[0].metrics == here[0].metrics and there[2].metrics == here[2].metrics
    assert SIMILARITY in there[0].metrics and there[2].metrics["face"] == 0 and SIMILARITY not in there[2].metrics


def test_another_network_measures_anew_and_leaves_no_old_values(G, run, monkeypatch):
    first = meter_without(monkeypatch, run, weights="first")
    unfinished = {"sets": False, "batch_size": 2, "shard": Shard(index=0, count=2)}
    evaluate_run(G[0], run, identity=first, **unfinished)
    second = meter_without(monkeypatch, run, ("a", "targets"), weights="second")
    evaluate_run(G[0], run, identity=second, **unfinished)
    assert len(list((run / "evaluation").iterdir())) == 2  # each network has its own measurements
    evaluate_run(G[0], run, sets=False, batch_size=2, identity=first)
    assert SIMILARITY in read_metrics_table(run)["a"]
    assert read_evaluation(run)["metrics"][SIMILARITY]["weights"] == "first"
    evaluate_run(G[0], run, sets=False, batch_size=2, identity=second)
    table = read_metrics_table(run)
    assert SIMILARITY not in table["a"] and "face" not in table["a"] and SIMILARITY in table["b"]
    assert read_evaluation(run)["metrics"][SIMILARITY]["weights"] == "second"


def test_without_it_nothing_is_said_of_identity(G, run, tmp_path, monkeypatch):
    plain = made(G, tmp_path / "plain")
    for folder in (run, plain):
        evaluate_run(G[0], folder, sets=False, batch_size=2)
    before = read_metrics_table(run)
    evaluate_run(G[0], run, sets=False, batch_size=2, identity=meter_without(monkeypatch, run))
    evaluate_run(G[0], run, sets=False, batch_size=2)
    assert (run / "evaluation.json").read_bytes() == (plain / "evaluation.json").read_bytes()
    assert "identity" not in (plain / "evaluation.json").read_text()
    after = read_metrics_table(run)  # the columns stay, as those of other networks do
    assert all(SIMILARITY in row for row in after.values())
    assert before == {
        id: {name: value for name, value in row.items() if name in before[id]} for id, row in after.items()
    }


def test_arrays_are_measured_alike(G, run, monkeypatch):
    meter = meter_without(monkeypatch, run, ("b", "targets"))
    evaluate_run(G[0], run, sets=False, batch_size=2, identity=meter)
    space, codes = space_of(read_run(run), G[0]), [read_code(run, id) for id in IDS]
    stacked = {key: np.stack([code[key] for code in codes]) for key in codes[0]}
    found = lsap_jax.evaluate(G[0], space, stacked, pictures(run, "targets"), [], 2, identity=meter)
    table = read_metrics_table(run)
    for name in (SIMILARITY, DISTANCE, "face"):
        np.testing.assert_allclose(found[name], [table[id].get(name, np.nan) for id in IDS], atol=1e-3)


def test_the_command_counts_pictures_without_a_face(G, tmp_path, capsys):
    """In 16 px no face is found. Two images are too few for KID."""
    run = made(G, tmp_path / "run", IDS[:2])
    assert main(["evaluate", str(run), "--batch_size=2", "--identity=dlib"]) == 0
    assert "0 images compared by dlib's face recognition ResNet" in (said := capsys.readouterr().out)
    assert "targets without a face: 2; reconstructions without one: 0" in said
    record = json.loads((run / "evaluation.json").read_text())
    assert record["identity"]["intervals"] == {SIMILARITY: None, DISTANCE: None} and SIMILARITY not in record["means"]
    assert main(["evaluate", str(run), "--identity", str(run / "run.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
