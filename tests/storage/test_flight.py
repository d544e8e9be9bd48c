"""A run that is asked to stop in the middle of a batch, and goes on from there with the same bytes."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lsap_jax.cli import TERMINATED, main
from lsap_jax.configuration import load_config
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Job
from lsap_jax.storage.flight import Preempted, drop_flight, flight_path, load_flight, save_flight
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")


def after(count: int):
    """Says stop when it is asked for the `count`th time."""
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return asked[0] >= count

    return stop


def test_what_is_saved_comes_back_to_the_same_devices(tmp_path):
    state = {"z": jnp.arange(12.0).reshape(2, 6), "step": jnp.int32(3), "active": jnp.array([True, False])}
    curves = [{"loss": np.float32([[1.5, 2.5]])}, {"loss": np.float32([[0.5, np.nan]])}]
    path = flight_path(tmp_path, {"images": ["a", None]})
    assert path != flight_path(tmp_path, {"images": ["a"]}) and load_flight(path, state) is None
    save_flight(path, state, curves)
    found, drawn = load_flight(path, jax.tree.map(jnp.zeros_like, state))
    assert jax.tree.structure(found) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, found, state)
    assert all(found[k].dtype == state[k].dtype and found[k].sharding == state[k].sharding for k in state)
    for a, b in zip(drawn, curves, strict=True):
        np.testing.assert_array_equal(a["loss"], b["loss"])
    assert load_flight(path, {**state, "z": jnp.zeros((2, 5))}) is None  # another program's
    (path / "flight.json").unlink()  # killed before it was whole
    assert load_flight(path, state) is None
    save_flight(path, state, curves[:1])
    assert len(load_flight(path, state)[1]) == 1
    for file in (p for p in (path / "state").rglob("*") if p.is_file()):  # damaged, in whichever file
        data = file.read_bytes()
        for spoilt in (data[: len(data) // 2], data[:-1] + bytes([data[-1] ^ 1]) if data else b"x"):
            file.write_bytes(spoilt)
            assert load_flight(path, state) is None
        file.write_bytes(data)
    assert load_flight(path, state) is not None
    drop_flight(path)
    drop_flight(path)
    assert load_flight(path, state) is None and not path.exists()


@pytest.mark.parametrize("space", ["f/z+", pytest.param("w+", marks=pytest.mark.slow)])
def test_a_stopped_batch_goes_on_with_the_same_bits(tmp_path, tiny, space):
    options = {"steps": 7, "chunk": 2, "batch_size": 4, "latent_noise.scale": 0.05 if space == "w+" else 0.0}
    inverter = Inverter(tiny, load_config(space, options))
    jobs = [Job(id=str(i), image=image) for i, image in enumerate(tiny_images(3))]
    whole = inverter(jobs)
    path = inverter.flight_of(tmp_path, jobs)
    for times in (1, 2):  # stopped, and stopped again
        with pytest.raises(Preempted, match=f"stopped after {[2, 6][times - 1]} of 7 steps"):
            inverter(jobs, None, path, after(times))
    reported: list[int] = []
    parts = inverter(jobs, lambda step, *_: reported.append(step), path, lambda: True)
    assert reported == [7]  # the last chunk alone; nothing is saved after it
    for a, b in zip(whole, parts, strict=True):
        for name in a.codes:
            np.testing.assert_array_equal(a.codes[name], b.codes[name])
        for name in a.curve:
            np.testing.assert_array_equal(a.curve[name], b.curve[name])
        np.testing.assert_array_equal(a.image, b.image)
        assert a.metrics == b.metrics
    other = [*jobs[:2], None]
    assert inverter.flight_of(tmp_path, other) != path
    masks = [np.full(jobs[0].image.shape[:2], grey, np.uint8) for grey in (0, 255)]
    masked = {inverter.flight_of(tmp_path, [replace(jobs[0], mask=mask), *jobs[1:]]) for mask in masks}
    assert len(masked | {path}) == 3, "steps under another mask are another batch's"


COUNT = 3
QUICK = ("--space=z+", "--steps=600", "--config.chunk=4", "--batch_size=2")


def tree(folder):
    files = (p for part in ("codes", "images", "targets", "curves") for p in (folder / part).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in [*files, folder / "metrics.csv"]}


@pytest.mark.slow
def test_sigterm_saves_the_batch_and_the_same_command_goes_on(tmp_path, capsys):
    tiny_generator(discriminator=False).save(tmp_path / "g.safetensors")
    (tmp_path / "images").mkdir()
    for i, image in enumerate(tiny_images(COUNT)):
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
    argv = ["invert", tmp_path / "images", "--generator", tmp_path / "g.safetensors", *QUICK]

    def command(out):
        return [*map(str, argv), "--out", str(out)]

    assert main(command(tmp_path / "whole")) == 0
    code = (
        "import sys, lsap_jax.cli.progress as p; p.Plain.__init__.__defaults__ = (0.0,); "  # a line after every chunk
        "from lsap_jax.cli import main; sys.exit(main())"
    )
    out = tmp_path / "parts"
    child = subprocess.Popen(
        [sys.executable, "-c", code, *command(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert child.stderr is not None
    line = next(line for line in child.stderr if "step" in line)  # the first chunk is over
    begun = time.monotonic()
    child.send_signal(signal.SIGTERM)
    said = line + child.communicate(timeout=60)[1]
    assert child.returncode == TERMINATED == 143, said
    assert "SIGTERM: stopped after" in said and "run the same command again" in said
    assert time.monotonic() - begun < 30
    assert list((out / "flight").glob("*/flight.json")) and not (out / "metrics.csv").exists()
    capsys.readouterr()
    assert main(command(out)) == 0
    assert tree(out) == tree(tmp_path / "whole") and not (out / "flight").exists()


def test_a_run_that_is_stopped_between_batches_starts_no_other(tmp_path, tiny):
    from lsap_jax.data import from_arrays
    from lsap_jax.runs.run import run
    from lsap_jax.storage.results import read_manifest

    source = from_arrays(tiny_images(3), None, resolution=16, channels=3, fit="crop")
    config = load_config("z+", {"steps": 2, "batch_size": 2})
    with pytest.raises(Preempted, match="between two batches"):
        run(tiny, source, config, tmp_path / "run", generator_name="tiny", stop=after(2))
    assert len(read_manifest(tmp_path / "run")) == 2
    assert run(tiny, source, config, tmp_path / "run", generator_name="tiny").done == 3
