"""Commands on runs: invert, verify, report, export, demo; interrupted, killed and resumed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image
from refiner_trainings import PYRAMID, with_encoder

import convert_weights
from convert_weights.archive import Archive
from convert_weights.recognise import opened
from convert_weights.torch_file import read_zip
from lsap_jax.cli import main, progress
from lsap_jax.models.basecode import BasecodeEncoder
from lsap_jax.models.generator_file import load_generator
from lsap_jax.models.network_file import attach, save
from lsap_jax.models.styleres import StyleRes
from lsap_jax.networks.basecode import BasecodeConfig, variable_shapes
from lsap_jax.networks.styleres import StyleResConfig, param_shapes
from lsap_jax.runs.saving import Progress
from lsap_jax.storage.results import read_code, read_failures, read_manifest, read_run
from lsap_jax.testing import tiny_generator, tiny_images
from lsap_jax.training.initial import initial_params

pytestmark = pytest.mark.usefixtures("quick_compilation")

COUNT = 4
QUICK = ("--space=f/z+", "--steps=4", "--config.chunk=2", "--batch_size=4")


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """Compiled code is kept for this module and the processes it starts."""
    folder = str(tmp_path_factory.mktemp("compiled"))
    options = {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in options.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with g.safetensors, images/ and a finished run."""
    folder = tmp_path_factory.mktemp("work")
    tiny_generator(discriminator=False).save(folder / "g.safetensors")
    (folder / "images" / "sub").mkdir(parents=True)
    for i, image in enumerate(tiny_images(COUNT)):
        Image.fromarray(image).save(folder / "images" / (f"sub/{i}.png" if i == 3 else f"{i}.png"))
    assert (
        run("invert", folder / "images", "--generator", folder / "g.safetensors", "--out", folder / "run", *QUICK) == 0
    )
    return folder


def run(*argv):
    return main([str(a) for a in argv])


def tree(folder):
    """File -> bytes of what a resume must reproduce."""
    files = (p for part in ("codes", "images", "targets", "curves") for p in (folder / part).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in [*files, folder / "metrics.csv"]}


def test_invert_leaves_the_run_folder(work):
    assert set(read_manifest(work / "run")) == {"0", "1", "2", "sub/3"}
    assert len(tree(work / "run")) == 4 * COUNT + 1
    text = (work / "run" / "report.html").read_text()
    assert text.count("sub/3") > 0 and f"<dt>preset</dt><dd>{read_run(work / 'run')['preset']}, " in text
    z = read_code(work / "run", "sub/3")["z"]
    np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 4, rtol=1e-5)


def test_a_second_run_skips_what_is_finished(work, capsys):
    before = {p: p.stat().st_mtime_ns for p in (work / "run" / "codes").rglob("*.npz")}
    argv = ("invert", work / "images", "--generator", work / "g.safetensors", "--out", work / "run", *QUICK)
    assert run(*argv) == 0
    captured = capsys.readouterr()
    assert f"{COUNT} images done, {COUNT} of them earlier" in captured.out and "mse" in captured.out
    assert f"report: {work / 'run' / 'report.html'}" in captured.out
    assert "\x1b" not in captured.out + captured.err and "\r" not in captured.out + captured.err
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert run(*argv, "--seed=5") == 2
    assert "seed was 0, is 5" in capsys.readouterr().err


def test_failed_images_are_named_and_the_status_says_so(work, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    images = [work / "images" / "0.png", tmp_path / "broken.png"]
    argv = (*images, "--generator", work / "g.safetensors", "--out", tmp_path / "run", *QUICK)
    assert run("invert", *argv) == 1
    captured = capsys.readouterr()
    assert "broken.png: " in captured.err and "1 images done, 1 failed" in captured.out
    assert len(read_failures(tmp_path / "run")) == 1 and len(read_manifest(tmp_path / "run")) == 1


def test_verify_finds_what_does_not_match(work, tmp_path, capsys):
    assert run("verify", work / "run") == 0
    assert f"{COUNT} images" in capsys.readouterr().out
    spoilt = tmp_path / "run"
    subprocess.run(["cp", "-r", work / "run", spoilt], check=True)
    image = spoilt / "images" / "1.png"
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    assert run("verify", spoilt, "--batch_size=2") == 1
    out = capsys.readouterr().out
    assert "1: " in out and "1.png: has changed" in out and "1 do not match" in out
    G = load_generator(work / "g.safetensors")
    G.replace(params=jax.tree.map(lambda a: a + 1, G.params)).save(tmp_path / "other.safetensors")
    assert run("verify", work / "run", "--generator", tmp_path / "other.safetensors") == 2
    assert "the right file" in capsys.readouterr().err


def test_verify_compares_pixels_not_only_digests(work, monkeypatch, capsys):
    def darker(codes, refinement):
        return np.full((len(codes["z"]), 16, 16, 3), -1, np.float32)

    monkeypatch.setattr("lsap_jax.rendering.render.renderer", lambda *_: darker)
    assert run("verify", work / "run") == 1
    assert f"{COUNT} do not match" in capsys.readouterr().out


def test_report_is_written_anew(work, capsys):
    page = work / "run" / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert run("report", work / "run") == 0
    assert page.read_bytes() == before and capsys.readouterr().out.strip() == str(page)


def test_exports_agree_with_the_codes(work, tmp_path, capsys):
    assert run("export", work / "run", tmp_path / "all.npz", "--ws") == 0
    assert run("export", work / "run", "--format=pt", tmp_path / "all.bin", "--ws") == 0
    assert run("export", work / "run", tmp_path / "z.npy", "--array=z") == 0
    arrays = np.load(tmp_path / "all.npz")
    ids = arrays["ids"].tolist()
    assert ids == sorted(read_manifest(work / "run")) == (tmp_path / "z.npy.ids.txt").read_text().split()
    for i, name in enumerate(ids):
        for key, array in read_code(work / "run", name).items():
            np.testing.assert_array_equal(arrays[key][i], array)
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), arrays["z"])
    with open(tmp_path / "all.bin", "rb") as file:
        tensors = read_zip(Archive(file, (tmp_path / "all.bin").stat().st_size))
        assert tensors["ids"] == ids
        for key in ("z", "f", "ws"):
            assert tensors[key].shape == arrays[key].shape
            np.testing.assert_array_equal(tensors[key].load().reshape(arrays[key].shape), arrays[key])
    G = load_generator(work / "g.safetensors")
    np.testing.assert_allclose(arrays["ws"], G.map_rows(arrays["z"]), rtol=1e-4, atol=1e-5)


def test_a_run_that_went_through_a_store_serves_as_before(work, tmp_path, capsys):
    assert run("export", work / "run", "--format=zarr", tmp_path / "store") == 0
    assert run("export", tmp_path / "store", "--format=files", tmp_path / "run") == 0
    assert tree(tmp_path / "run") == tree(work / "run")
    assert run("verify", tmp_path / "run") == 0
    assert f"{COUNT} images" in capsys.readouterr().out
    assert run("report", tmp_path / "run") == 0


def test_one_array_as_pt_is_a_bare_tensor(work, tmp_path):
    assert run("export", work / "run", tmp_path / "z.pt", "--array=z") == 0
    assert run("export", work / "run", tmp_path / "z.npy", "--array=z") == 0
    with opened(tmp_path / "z.pt") as contents:
        assert contents.tensor is not None and contents.tensor.dtype == "float32"
        np.testing.assert_array_equal(contents.tensor.load(), np.load(tmp_path / "z.npy"))
    assert (tmp_path / "z.pt.ids.txt").read_text() == (tmp_path / "z.npy.ids.txt").read_text() != ""


def test_exports_that_cannot_be(work, tmp_path, capsys):
    assert run("export", work / "run", tmp_path / "x.npy") == 2
    assert "--array=NAME" in capsys.readouterr().err
    assert run("export", work / "run", tmp_path / "x.npz", "--array=s") == 2
    assert run("export", work / "run", tmp_path / "x.tar") == 2
    assert list(tmp_path.iterdir()) == []


def test_exported_z_codes_start_another_run(work, tmp_path, capsys):
    argv = ("invert", work / "images", "--generator", work / "g.safetensors", *QUICK)
    assert run("export", work / "run", tmp_path / "z.pt", "--array=z") == 0
    assert convert_weights.read(tmp_path / "z.pt").parts["codes"].config["source_name"] == "tensor"  # it is bare
    assert run(*argv, "--out", tmp_path / "file", "--init", tmp_path / "z.pt") == 0
    assert run(*argv, "--out", tmp_path / "again", "--init", work / "run") == 0
    fresh, again = (read_manifest(f) for f in (work / "run", tmp_path / "again"))
    assert all(again[name]["metrics"]["mse"] < fresh[name]["metrics"]["mse"] for name in fresh)
    assert run(*argv, "--out", tmp_path / "file") == 2  # other starts are another run
    assert "config.init.codes" in capsys.readouterr().err


def test_another_encoder_is_used_and_found_again(work, tmp_path, capsys):
    config = BasecodeConfig(base_resolution=4, out_channels=8, widths=(4, 4, 8))
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, np.float32), variable_shapes(config))
    save(tmp_path / "e", BasecodeEncoder(config=config, params=variables), {})
    argv = ("invert", work / "images", "--generator", work / "g.safetensors", "--out", tmp_path / "run")
    assert run(*argv, *QUICK, "--basecode", tmp_path / "e") == 0
    assert run("verify", tmp_path / "run") == 0
    f = [read_code(folder, "0")["f"] for folder in (work / "run", tmp_path / "run")]
    assert np.abs(f[0] - f[1]).max() > 1e-3


@pytest.mark.slow  # test_readme.py runs that of the bundled one
def test_demo_of_another_generator(work, tmp_path, capsys):
    argv = ("--generator", work / "g.safetensors", "--images", work / "images", "--steps=2", "--out", tmp_path / "d")
    assert run("demo", *argv) == 0
    out = capsys.readouterr().out
    assert out.count("all match") == 2 and out.strip().endswith(f"open in a browser: {tmp_path / 'd' / 'index.html'}")
    page = (tmp_path / "d" / "index.html").read_text()
    for address in re.findall(r'<a href="([^"]+)"', page):
        assert (tmp_path / "d" / address).is_file()
    assert page.count("report.html") == 3 and (tmp_path / "d" / "faces.png").is_file()
    parts = (".", "zplus", "edits", "edits_zplus")
    assert {len(read_manifest(tmp_path / "d" / part)) for part in parts} == {COUNT}


@pytest.mark.slow
def test_demo_with_styleres(work, tmp_path, capsys):
    """A generator with an encoder and StyleRes' networks has a third run, whose faces and edits are shown."""
    G = with_encoder(**PYRAMID)
    shape = StyleResConfig(resolution=8, channels=8, encoder_channels=16, tap=0, width=6)
    attach(G, StyleRes(config=shape, params=initial_params(param_shapes(shape), 0))).save(tmp_path / "g.safetensors")
    out = tmp_path / "d"
    argv = ("--generator", tmp_path / "g.safetensors", "--images", work / "images", "--steps=2", "--out", out)
    assert run("demo", *argv) == 0
    assert capsys.readouterr().out.count("all match") == 3
    page = (out / "index.html").read_text()
    addresses = re.findall(r'<a href="([^"]+)"', page)
    assert {"styleres/report.html", "edits_styleres/report.html"} <= set(addresses)
    assert all((out / address).is_file() for address in addresses)
    assert read_run(out / "styleres")["refinement"]["method"] == "styleres"
    assert len(read_manifest(out / "edits_styleres")) == COUNT


@pytest.mark.parametrize("family", ["stylegan2", pytest.param("stylegan1", marks=pytest.mark.slow)])
def test_interrupted_killed_and_resumed_is_the_same_run(work, tmp_path, family):
    """Ctrl-C after the first images, SIGKILL after a few more, then the rest: byte for byte an uninterrupted run."""
    many, generator = tmp_path / "many", work / "g.safetensors"
    if family != "stylegan2":
        generator = tmp_path / "g.safetensors"
        tiny_generator(family=family, discriminator=False).save(generator)
    many.mkdir()
    for i, image in enumerate(tiny_images(24, seed=1)):
        Image.fromarray(image).save(many / f"{i:02d}.png")

    def argv(out):
        options = ("--space=z+", "--steps=150", "--config.chunk=75", "--batch_size=2")
        return [str(a) for a in ("invert", many, "--generator", generator, "--out", out, *options)]

    assert run(*argv(tmp_path / "a" / "run")) == 0
    broken = tmp_path / "b" / "run"
    status, done, errors = stopped(argv(broken), broken, signal.SIGINT)
    assert status == 130 and 0 < done < 24
    assert f"{done} of 24 images are finished" in errors and "same command again" in errors
    assert run("verify", broken) == 0
    status, done_then, _ = stopped(argv(broken), broken, signal.SIGKILL)
    assert status == -signal.SIGKILL and done < done_then < 24
    assert run(*argv(broken)) == 0
    assert tree(broken) == tree(tmp_path / "a" / "run")


def stopped(argv, folder, number):
    """(status, finished images, stderr) of a process that gets a signal as soon as it has finished more images."""
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from lsap_jax.cli import main; sys.exit(main())"
    )
    before = finished(folder)
    process = subprocess.Popen(
        [sys.executable, "-c", code, *argv], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + 120
    while finished(folder) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    return process.returncode, finished(folder), errors


def finished(folder):
    with contextlib.suppress(OSError):
        return (folder / "manifest.jsonl").read_bytes().count(b"\n")
    return 0


def test_progress_as_text():
    state = dict(done=3, failed=1, total=8, step=50, steps=100, images_per_second=0.5, loss=0.25, eta_seconds=4000.0)
    expected = "3/8 images, 1 failed  step 50/100  loss 0.25  0.5 images/s  1:06:40 left"
    assert progress.line(Progress(**state)) == expected
    state |= dict(done=7, loss=float("nan"), images_per_second=0.0, eta_seconds=None)
    assert progress.line(Progress(**state)) == "7/8 images, 1 failed"


def everything(reader: int) -> bytes:
    """What a terminal was sent: it arrives in pieces, and the end is an error."""
    pieces = []
    try:
        while piece := os.read(reader, 10_000):
            pieces.append(piece)
    except OSError:
        pass
    os.close(reader)
    return b"".join(pieces)


def test_progress_on_a_terminal_is_one_live_line():
    reader, writer = os.openpty()
    with os.fdopen(writer, "w") as terminal, progress.reporter(terminal) as report:
        report(Progress(done=1, failed=0, total=4, step=1, steps=2, images_per_second=1.0, loss=1.0, eta_seconds=3.0))
    shown = everything(reader).decode()
    assert "1/4 images" in shown and "0:03 left" in shown and "\x1b" in shown
