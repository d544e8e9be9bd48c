"""Commands that compute image by image, by shards, killed, and in another process: edit, evaluate and align."""

import json
import pickle
import signal
import subprocess
import sys

import colour
import numpy as np
import pytest
from PIL import Image
from small_runs import write_run

from lsap_jax.cli import main
from lsap_jax.editing.edit_worker import EditWorker
from lsap_jax.editing.random import random_direction
from lsap_jax.editing.series import along, mixed, towards
from lsap_jax.errors import LsapError
from lsap_jax.faces.aligned_folder import Folder
from lsap_jax.faces.detect import Faces
from lsap_jax.faces.upright import Meant, Small
from lsap_jax.models.generator_file import load_generator
from lsap_jax.rendering.render import space_of
from lsap_jax.runs.align_faces import AlignWorker, FaceJob, align_faces
from lsap_jax.runs.evaluate_run import EvaluationWorker
from lsap_jax.runs.finished import FinishedJob
from lsap_jax.runs.ray_engine import WorkerActor
from lsap_jax.spaces.statistics import with_statistics
from lsap_jax.storage.atomic import read_records
from lsap_jax.storage.flight import Preempted
from lsap_jax.storage.results import read_code, read_image, read_manifest, read_run
from lsap_jax.storage.shards import Shard
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation", "quick_whitening")
IDS = ("a", "b", "c", "d", "e")
TABLES = ("metrics.csv", "evaluation.json")


@pytest.fixture(scope="module")
def work(quick_compilation, tmp_path_factory):
    """A folder with g.safetensors and a run whose images are not its targets."""
    folder = tmp_path_factory.mktemp("work")
    G = tiny_generator(discriminator=False)
    G.save(folder / "g.safetensors")
    write_run(folder / "run", G, folder / "g.safetensors", "f/z+", IDS, tiny_images(len(IDS)))
    return folder


@pytest.fixture(scope="module")
def G(work):
    return with_statistics(load_generator(work / "g.safetensors"))


def jobs_of(work, ids):
    """Finished images as jobs, with an empty place among them."""
    run, manifest = work / "run", read_manifest(work / "run")
    jobs = [
        FinishedJob(
            id=id,
            image=read_image(run, id, "targets", manifest=manifest),
            start=read_code(run, id, manifest=manifest),
            picture=read_image(run, id, manifest=manifest),
        )
        for id in ids
    ]
    return [jobs[0], None, *jobs[1:]]


def in_another_process(worker, jobs):
    """(outcomes of the worker that a Ray actor makes of the shipment, outcomes here)."""
    shipment = pickle.loads(pickle.dumps(worker.shipment()))
    return WorkerActor().compute(shipment, jobs), worker(jobs)


def test_another_process_edits_too(work, G):
    space = space_of(read_run(work / "run"), G)
    other = read_code(work / "run", "b")
    series = [
        along(G, space, random_direction(G, space), (-1.0, 0.0, 1.0)),
        towards(G, space, "a", "b", other, (0, 0.5)),
        mixed(G, space, "c", "b", other, ("middle",)),
    ]
    described = {"series": [{"labels": list(s.labels)} for s in series], "generator": {"img_resolution": 16}}
    worker = EditWorker(G, space, series, 6, described)
    assert [list(batch) for batch in worker.batches(3)] == [[0, 1], [2]]
    there, here = in_another_process(worker, jobs_of(work, ("a", "c")))
    assert there[1] is None and here[1] is None
    for place, names in ((0, ["random-0", "to-b"]), (2, ["random-0", "with-b"])):
        edits, expected = there[place].parts["edits"], here[place].parts["edits"]
        assert list(edits) == list(expected) == names and edits["random-0"][1] is None
        for name in names:
            for one, two in zip(edits[name], expected[name], strict=True):
                if one is not None:
                    np.testing.assert_array_equal(one[1], two[1])
                    np.testing.assert_array_equal(one[0]["z"], two[0]["z"])
    with pytest.raises(Preempted, match="stopped after 1 of 3 directions"):
        worker(jobs_of(work, ("a", "c")), stop=lambda: True)


def test_another_process_measures_too(work, G):
    space = space_of(read_run(work / "run"), G)
    worker = EvaluationWorker(G, space, (), None, True, 2, {})
    there, here = in_another_process(worker, jobs_of(work, ("a", "b")))
    assert there[1] is None and here[2].metrics["mse"] != here[0].metrics["mse"]
    for one, two in ((there[i], here[i]) for i in (0, 2)):
        assert one.metrics == two.metrics and {"nscd", "psnr", "ms_ssim"} <= one.metrics.keys()
        for part in ("targets", "images"):
            np.testing.assert_array_equal(one.parts["features"][part], two.parts["features"][part])


def copied(work, folder):
    G = load_generator(work / "g.safetensors")
    return write_run(folder / "run", G, work / "g.safetensors", "f/z+", IDS, tiny_images(len(IDS)))


def evaluated(run, *more):
    return main(["evaluate", str(run), "--batch_size=2", *more])


def test_an_evaluation_in_shards_or_killed_is_the_same(work, tmp_path, capsys):
    assert evaluated(work / "run") == 0
    expected = {name: (work / "run" / name).read_bytes() for name in TABLES}
    assert not (work / "run" / "evaluation").exists()
    run = copied(work, tmp_path)
    assert evaluated(run, "--shard=1/2") == 0
    captured = capsys.readouterr()
    assert "2 images measured" in captured.out and "3 images are still to be done" in captured.err
    assert not (run / "evaluation.json").exists()
    words = [colour.__file__, "2", "evaluate", str(run), "--batch_size=2"]
    dead = subprocess.run([sys.executable, *words], capture_output=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()
    (scratch,) = (run / "evaluation").iterdir()
    assert 2 <= len(read_manifest(scratch)) < len(IDS) and not (run / "evaluation.json").exists()
    assert evaluated(run) == 0
    for name in TABLES:
        assert (run / name).read_bytes() == expected[name]
    assert not (run / "evaluation").exists() and main(["verify", str(run)]) == 0


def test_an_evaluation_of_a_damaged_run_is_refused_until_it_is_mended(work, tmp_path, capsys):
    run = copied(work, tmp_path)
    file = run / "targets" / "b.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert evaluated(run) == 2
    assert "b.png: has changed since it was written" in capsys.readouterr().err.splitlines()[-1]
    assert not (run / "evaluation.json").exists()
    file.write_bytes(whole)
    assert evaluated(run) == 0
    assert json.loads((run / "evaluation.json").read_text())["images"] == len(IDS)


ONE = Faces(
    np.array([[20, 20, 44, 44]], np.float32),
    np.array([0.99], np.float32),
    np.array([[[24, 28], [40, 28], [32, 34], [26, 40], [38, 40]]], np.float32),
)
SETTINGS = {"resolution": 16, "face": "clear", "enlarge": 9.0, "profiles": True, "min_face": 20.0}


class NoDetector:
    """Its faces are `ONE`."""

    sha256 = "0" * 64
    params: dict = {}  # noqa: RUF012


@pytest.fixture
def faces(monkeypatch):
    monkeypatch.setattr("lsap_jax.faces.upright.find_meant", lambda _, all, *__, **___: [Meant(ONE, 0)] * len(all))


def photographs(folder):
    from lsap_jax.data import open_images

    folder.mkdir()
    for i, image in enumerate(tiny_images(len(IDS), 64)):
        Image.fromarray(image).save(folder / f"{IDS[i]}.png")
    (folder / "f.png").write_bytes(b"nothing")
    return open_images(folder, resolution=16, channels=3)


def aligned_tree(out):
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file() and ".lock" not in p.name}


def test_shards_align_into_one_folder(tmp_path, faces):
    source = photographs(tmp_path / "in")
    whole = align_faces(NoDetector(), source, SETTINGS, tmp_path / "whole", batch_size=2)
    assert (whole.done, whole.failed) == (5, 1)
    out = tmp_path / "parts"
    first = align_faces(NoDetector(), source, SETTINGS, out, batch_size=2, shard=Shard(index=1, count=2))
    assert (first.done, first.left, first.whole) == (2, 4, True)
    with pytest.raises(LsapError, match="face was 'clear', is 'only'"):
        align_faces(NoDetector(), source, {**SETTINGS, "face": "only"}, out, shard=Shard(index=0, count=2))
    last = align_faces(NoDetector(), source, SETTINGS, out, batch_size=2, shard=Shard(index=0, count=2))
    assert (last.done, last.failed, last.left) == (3, 1, 0)
    assert aligned_tree(out) == aligned_tree(tmp_path / "whole")
    assert {record["id"] for record in read_records(out / "alignment.jsonl")} == set(IDS)


def test_what_a_killed_shard_has_aligned_counts(tmp_path, faces, monkeypatch):
    source, out = photographs(tmp_path / "in"), tmp_path / "out"
    write = Folder.write

    def dying(self, record, png):
        write(self, record, png)
        raise KeyboardInterrupt

    monkeypatch.setattr(Folder, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        align_faces(NoDetector(), source, SETTINGS, out, batch_size=1, shard=Shard(index=0, count=2))
    monkeypatch.setattr(Folder, "write", write)
    assert [path.name for path in out.glob("alignment.*.jsonl")] == ["alignment.0-of-2.jsonl"]
    found = align_faces(NoDetector(), source, SETTINGS, out, batch_size=1)
    assert (found.done, found.skipped, found.failed) == (5, 1, 1)
    assert not list(out.glob("alignment.*.jsonl"))


def test_another_process_finds_faces_too():
    from lsap_jax.faces.detect import load_detector

    worker = AlignWorker(load_detector(), SETTINGS)
    small = Small(np.zeros((32, 32, 3), np.uint8), (32, 32))
    there, here = in_another_process(worker, [FaceJob(id="a", small=small), None])
    assert there == here and here[1] is None and "no face found" in here[0].reason
    assert pickle.loads(pickle.dumps(worker.shipment()))().describe() == worker.describe()
