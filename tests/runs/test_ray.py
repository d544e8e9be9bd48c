"""Runs on a Ray cluster: actors that die, errors that are none of theirs, SIGTERM, and Ray that is not there."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import colour
import numpy as np
import pytest
from PIL import Image
from small_runs import write_run

from convert_weights.perceptual import BACKBONES
from lsap_jax.cli import TERMINATED, main
from lsap_jax.configuration import load_config
from lsap_jax.data import from_arrays
from lsap_jax.errors import LsapError
from lsap_jax.inversion import memory
from lsap_jax.inversion.jobs import Job
from lsap_jax.models.network_file import save
from lsap_jax.runs import ray_engine
from lsap_jax.runs.run import InversionWorker, run
from lsap_jax.runs.stream import Batch
from lsap_jax.storage.flight import Preempted
from lsap_jax.storage.results import read_manifest, read_run
from lsap_jax.storage.weights_file import write_weights
from lsap_jax.testing import colour_encoder, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
DEADLINE = 120.0  # seconds after which something hangs
STORE = 100 * 2**20  # bytes of the object store
COUNT = 16  # so many that some are left when the first one is done, however fast the machine is


def tree(folder):
    files = (p for part in ("codes", "images", "targets", "curves") for p in (folder / part).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in [*files, folder / "metrics.csv"]}


@pytest.fixture(scope="module")
def cluster(quick_compilation):
    """Ray on this machine alone, with two processors' worth of actors."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
        with warnings.catch_warnings():  # as in ray_engine
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            try:
                ray.init(address="local", num_cpus=2, num_gpus=0, object_store_memory=STORE, **options)
            except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                pytest.skip(f"Ray does not start on this machine: {error}")
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def problem(quick_compilation, tmp_path_factory):
    """A generator, a source, a configuration, and the run of one process."""
    G = tiny_generator(discriminator=False)
    source = from_arrays(tiny_images(COUNT), None, resolution=16, channels=3)
    config = load_config("z+", {"steps": 200, "batch_size": 1, "chunk": 100})
    out = tmp_path_factory.mktemp("local") / "run"
    assert run(G, source, config, out, generator_name="tiny").done == COUNT
    return G, source, config, out


def computing():
    """Processes of actors of this process's cluster that are in the middle of a batch."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::WorkerActor.compute"):
                raylet = parent(folder.name)
                if parent(raylet) == str(os.getpid()):
                    yield int(folder.name)
        except OSError:  # it has ended
            continue


def parent(pid):
    status = (Path("/proc") / pid / "status").read_text()
    return next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:"))


def kill_one(out, killed, over):
    """Kills an actor in the middle of a batch as soon as something is saved, unless the run is over before."""
    while not over.wait(0.01):
        if (out / "manifest.jsonl").exists():
            for pid in computing():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are found by /proc")
def test_a_killed_actor_loses_nothing(cluster, problem, tmp_path):
    G, source, config, alone = problem
    out, killed, heard, over = tmp_path / "run", [], [], threading.Event()
    killer = threading.Thread(target=kill_one, args=(out, killed, over))
    killer.start()
    try:
        with pytest.warns(UserWarning, match="a Ray actor was lost; the batch of '.+' is computed again"):
            summary = run(
                G, source, config, out, generator_name="tiny", engine="ray", actors=2, progress=heard.append
            )  # fmt: skip
    finally:
        over.set()
        killer.join()
    assert killed and summary.done == COUNT and summary.failed == 0
    assert (out / "manifest.jsonl").read_bytes().count(b"\n") == len(read_manifest(out)) == COUNT
    assert tree(out) == tree(alone)
    assert heard[-1].done == COUNT and any(0 < p.done < COUNT for p in heard)
    assert {k: v for k, v in read_run(out).items() if k != "devices"} == {
        k: v for k, v in read_run(alone).items() if k != "devices"
    }
    assert read_run(out)["devices"] == read_run(alone)["devices"]


@pytest.mark.slow
def test_an_error_in_an_actor_is_the_same_as_here(cluster, problem, tmp_path):
    G, source, config, _ = problem
    start = {"2": {"z": np.zeros((3, 16), np.float32)}}
    said = []
    for engine in ("local", "ray"):
        with pytest.raises(LsapError, match="2: the start code 'z' has shape") as caught:
            run(G, source, config, tmp_path / engine, generator_name="tiny", start=start, engine=engine)
        said.append(str(caught.value))
    assert said[0] == said[1] and type(caught.value) is LsapError
    assert "2" not in read_manifest(tmp_path / "ray")


@pytest.mark.slow
def test_stopped_before_an_actor_is_there(cluster, problem, tmp_path, monkeypatch):
    G, source, config, _ = problem
    monkeypatch.setattr(ray_engine, "POLL", 0.0)
    monkeypatch.setattr(ray_engine, "PATIENCE", 0.0)
    with (
        pytest.raises(Preempted, match="before a Ray actor was ready"),
        pytest.warns(UserWarning, match="find a place"),
    ):
        asked = iter((False, True))
        run(G, source, config, tmp_path / "run", generator_name="tiny", engine="ray", stop=lambda: next(asked))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_every_command_leaves_the_files_of_one_process(cluster, quick_whitening, tmp_path, monkeypatch):
    colour.add_rows(monkeypatch)
    G, file = tiny_generator(discriminator=False), tmp_path / "g.safetensors"
    G.save(file)
    save(tmp_path / "e.safetensors", colour_encoder(G), {})
    face = np.ascontiguousarray(pytest.importorskip("skimage").data.astronaut()[:256, 96:352])
    faces = [np.zeros((40, 40, 3), np.uint8), face]
    for place, more in (("here", ()), ("there", ("--engine=ray", "--actors=2"))):
        work = tmp_path / place
        write_run(work / "run", G, file, "f/z+", ("a", "b", "c"), tiny_images(3))
        (work / "faces").mkdir()
        for i, picture in enumerate(faces):
            Image.fromarray(picture).save(work / "faces" / f"{i}.png")
        for words in (
            f"edit {work}/run --direction random:0 --strengths=-1,0,1 --batch_size 3 --out {work}/edits",
            f"evaluate {work}/run --batch_size 2",
            f"refine {work}/run --method colour --batch_size 2 --out {work}/refined",
            f"encode {work}/run/targets --generator {file} --encoder {tmp_path}/e.safetensors --refine colour "
            f"--batch_size 2 --out {work}/encoded",
            f"align {work}/faces --resolution 16 --out {work}/aligned",
        ):
            assert main([*words.split(), *more]) == words.startswith("align")  # one picture has no face
    for name in ("edits", "run", "refined", "encoded", "aligned"):
        files = [path.relative_to(tmp_path / "here") for path in (tmp_path / "here" / name).rglob("*.*")]
        compared = [one for one in files if one.suffix in (".npz", ".png", ".csv")]
        assert compared
        for one in compared:
            here, there = (tmp_path / place / one for place in ("here", "there"))
            assert here.read_bytes() == there.read_bytes(), one


@pytest.mark.slow  # a second cluster
def test_sigterm_saves_what_is_finished_and_another_engine_goes_on(tmp_path, capsys):
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    tiny_generator(discriminator=False).save(tmp_path / "g.safetensors")
    (tmp_path / "images").mkdir()
    for i, image in enumerate(tiny_images(COUNT)):
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "images" / "0.png").write_bytes(b"nothing")
    argv = ["invert", tmp_path / "images", "--generator", tmp_path / "g.safetensors", "--space=z+", "--steps=300"]

    def command(name, *more):
        return [*map(str, argv), "--batch_size=1", "--out", str(tmp_path / name), *more]

    environment = {**os.environ, "RAY_ADDRESS": "local", "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": str(STORE)}
    child = subprocess.Popen(
        [sys.executable, "-m", "lsap_jax", *command("run", "--engine=ray", "--actors=1")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip
    until = time.monotonic() + DEADLINE
    while not (tmp_path / "run" / "manifest.jsonl").exists() and child.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    said = child.communicate(timeout=DEADLINE)[0]
    assert child.returncode == TERMINATED, said
    assert "SIGTERM: stopped; the batches that Ray had under way will be computed anew" in said
    assert 0 < len(read_manifest(tmp_path / "run")) < COUNT - 1
    capsys.readouterr()
    assert main(command("run")) == main(command("alone")) == 1
    assert f"{COUNT - 1} images done, " in capsys.readouterr().out
    assert tree(tmp_path / "run") == tree(tmp_path / "alone")


def test_without_ray_the_remedy_is_told(tmp_path, monkeypatch, capsys):
    tiny_generator(discriminator=False).save(tmp_path / "g.safetensors")
    Image.fromarray(tiny_images(1)[0]).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "ray", None)

    def invert(*more):
        argv = ["invert", tmp_path / "a.png", "--generator", tmp_path / "g.safetensors", "--space=z", "--steps=1"]
        assert main([str(a) for a in (*argv, "--out", tmp_path / "run", *more)]) == 2
        return capsys.readouterr().err

    assert "engine='ray' needs Ray" in (said := invert("--engine=ray")) and "pip install '.[ray]'" in said
    assert "--engine=ray distributes the images; leave --shard out" in invert("--engine=ray", "--shard=0/2")
    assert "--batch_size=auto: looks at the devices of this process" in invert("--engine=ray", "--batch_size=auto")
    assert "--actors=2: is for --engine=ray" in invert("--actors=2")
    assert not (tmp_path / "run").exists()


def test_engines_that_cannot_be_are_refused(problem, tmp_path):
    G, source, config, _ = problem
    for options, message in (
        ({"engine": "spark"}, "engine='spark': choose one of local, ray"),
        ({"engine": "local", "actors": 2}, "actors=2: is for engine='ray'"),
    ):
        with pytest.raises(LsapError, match=message):
            run(G, source, config, tmp_path / "run", generator_name="tiny", **options)


@pytest.mark.parametrize(
    ("resources", "asked", "expected"),
    [({"GPU": 3.0}, None, (3, 1)), ({"GPU": 3.0}, 5, (5, 1)), ({}, None, (2, 0)), ({}, 4, (4, 0))],
)
def test_as_many_actors_as_gpus_or_nodes(resources, asked, expected):
    given = {}
    kind = SimpleNamespace(remote=object)
    nodes = [(True, 8), (True, 8), (False, 8), (True, 0)]
    ray = SimpleNamespace(
        cluster_resources=lambda: resources,
        nodes=lambda: [{"Alive": alive, "Resources": {"CPU": count}} for alive, count in nodes],
        remote=lambda cls: SimpleNamespace(options=lambda **options: given.update(options) or kind),
    )
    assert (len(ray_engine._hire(ray, asked)), given["num_gpus"]) == expected


def test_a_batch_that_is_lost_again_and_again_is_an_error():
    job = Job(id="a/b", image=np.zeros((1, 1, 3), np.uint8))
    task = ray_engine.Task(batch=Batch(indices=(0, 1), items=(), jobs=(None, job)))
    for _ in range(ray_engine.ATTEMPTS - 1):
        with pytest.warns(UserWarning, match="'a/b' is computed again .gone"):
            task = ray_engine._after(task, RuntimeError("gone\nfor long"))
    with pytest.raises(LsapError, match="the batch of 'a/b' was lost with its actor 5 times .gone"):
        ray_engine._after(task, RuntimeError("gone"))


def test_lpips_weights_go_to_actors_as_values(tmp_path):
    rng, file = np.random.default_rng(0), tmp_path / "lpips.safetensors"
    backbone = {name: rng.random(shape, np.float32) for name, shape in BACKBONES["squeezenet1_1"].items()}
    lin = {f"lin{k}.weight": rng.random(c, np.float32) for k, c in enumerate((64, 128, 256, 384, 384, 512, 512))}
    write_weights(file, "lpips", {**backbone, **lin}, {"name": "squeezenet1_1", "version": "0.1"}, {})
    config = load_config("z", {"steps": 1, "batch_size": 3, "perceptual.weights": str(file)})
    G = tiny_generator(img_resolution=64, discriminator=False)
    worker = InversionWorker(G, config)
    shipment = pickle.loads(pickle.dumps(worker.shipment()))
    assert shipment.cargo.files.keys() == {"perceptual.weights"}
    file.unlink()
    actor = ray_engine.WorkerActor()
    assert actor.ready(shipment)["batch_size"] == worker.batch_size
    found = actor.worker.inverter.judges["perceptual"]
    assert found.judge.name == "lpips_squeeze" and found.record == worker.inverter.judges["perceptual"].record


def test_an_actor_short_of_memory_names_the_batch_that_fits_there(monkeypatch):
    class Short(InversionWorker):
        def __init__(self):
            self.inverter = SimpleNamespace(config=SimpleNamespace(batch_size=12))

        def __call__(self, jobs):
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    actor = ray_engine.WorkerActor()
    actor.worker = Short()
    monkeypatch.setattr(memory, "largest_batch", lambda inverter, images: images - 4)
    with pytest.raises(LsapError, match="batch_size=12 does not fit into the memory of the device; 7 would"):
        actor.compute(None, [])
    actor.worker.inverter.config.batch_size = 1
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        actor.compute(None, [])
