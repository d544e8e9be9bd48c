"""`--class`: a conditional generator from its file to edits, and what is refused on the way."""

import json

import numpy as np
import pytest
from PIL import Image

from lsap_jax.cli import main
from lsap_jax.models.generator_file import load_generator
from lsap_jax.pixels import to_uint8
from lsap_jax.spaces import statistics
from lsap_jax.storage.results import read_code, read_run
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
NEEDED = "this generator is conditional and needs one of its 5 classes; give --class=K, K from 0 to 4"
QUICK = ("--space=z", "--steps=1", "--batch_size=2")


def run(*argv):
    return main([str(a) for a in argv])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with c.safetensors of 5 classes, images/, classes.csv and the finished run `run`."""
    folder = tmp_path_factory.mktemp("work")
    tiny_generator(classes=5, discriminator=False).save(folder / "c.safetensors")
    (folder / "images").mkdir()
    for name, image in zip("ab", tiny_images(2), strict=True):
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
    (folder / "classes.csv").write_text("id,class\na,3\nb,0\n")
    assert invert(folder, "run", "--class", folder / "classes.csv") == 0
    return folder


@pytest.fixture
def few_samples(monkeypatch):
    """Latent statistics of few samples."""
    whole = statistics.compute_statistics
    few = {"samples": 400, "anchor_samples": 300}
    monkeypatch.setattr(statistics, "compute_statistics", lambda G, report=None: whole(G, **few, report=report))


def invert(folder, out, *options):
    images, generator = folder / "images", folder / "c.safetensors"
    return run("invert", images, "--generator", generator, "--out", folder / out, *QUICK, *options)


def refused(capsys, *argv):
    """The message of a command that ends with status 2."""
    capsys.readouterr()
    assert run(*argv) == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message and "Traceback" not in message
    return message


def test_samples_are_those_of_the_class(capsys, work, tmp_path):
    argv = ("generate", "--generator", work / "c.safetensors", "--seeds=7-8", "--batch_size=2", "--out", tmp_path / "s")
    assert NEEDED in refused(capsys, *argv)
    assert "--class=5: there is no class 5; the 5 classes are 0 to 4" in refused(capsys, *argv, "--class=5")
    assert "--class=-1: there is no class -1" in refused(capsys, *argv, "--class=-1")
    assert "1.5: is not a file; give the number of a class, or a CSV" in refused(capsys, *argv, "--class=1.5")
    assert not (tmp_path / "s").exists()
    (tmp_path / "seeds.csv").write_text("id,class\n7,2\n8,4\n")
    assert run(*argv, "--class", tmp_path / "seeds.csv") == 0
    G = load_generator(work / "c.safetensors")
    z = np.stack([np.random.RandomState(seed).randn(G.z_dim) for seed in (7, 8)]).astype(np.float32)
    wanted = to_uint8(np.asarray(G.synthesis(G.mapping(z, np.eye(5, dtype=np.float32)[[2, 4]]))))
    for name, image in zip(("seed0007", "seed0008"), wanted, strict=True):
        shown = np.asarray(Image.open(tmp_path / "s" / f"{name}.png")).astype(int)
        assert np.abs(shown - image).max() <= 1


def test_a_run_has_its_classes(capsys, work):
    """Recorded with every image, used by `verify`, and the only ones that the run goes on with."""
    assert read_run(work / "run")["classes"]["labels"] == [0, 3]
    assert [int(read_code(work / "run", id)["c"].argmax()) for id in "ab"] == [3, 0]
    capsys.readouterr()
    assert run("verify", work / "run") == 0 and "2 images rendered again: all match" in capsys.readouterr().out
    assert invert(work, "run", "--class", work / "classes.csv") == 0
    argv = ("invert", work / "images", "--generator", work / "c.safetensors", *QUICK, "--out", work / "run")
    assert "classes.labels was [0, 3], is [3]" in refused(capsys, *argv, "--class=3")
    (work / "swapped.csv").write_text("id,class\na,0\nb,3\n")
    assert "classes.by_id_sha256 was" in refused(capsys, *argv, "--class", work / "swapped.csv")
    assert NEEDED in refused(capsys, *argv)


def test_invert_refuses_before_it_writes(capsys, work, tmp_path):
    argv = ("invert", work / "images", "--generator", work / "c.safetensors", *QUICK, "--out", tmp_path / "r")
    assert f"space z: {NEEDED}" in refused(capsys, *argv)
    (tmp_path / "short.csv").write_text("id,class\na,1\n")
    assert "short.csv: has no class for 'b'" in refused(capsys, *argv, "--class", tmp_path / "short.csv")
    assert NEEDED in refused(capsys, "compare", *argv[1:4], "--presets=w", "--out", tmp_path / "r")
    tiny_generator(discriminator=False).save(tmp_path / "g.safetensors")
    plain = ("invert", work / "images", "--generator", tmp_path / "g.safetensors", *QUICK, "--out", tmp_path / "r")
    for given in ("--class=3", f"--class={work / 'classes.csv'}"):
        assert "this generator is unconditional and takes no class" in refused(capsys, *plain, given)
    assert not (tmp_path / "r").exists()


def test_directions_are_those_of_a_class(capsys, work, tmp_path):
    argv = ("find-directions", "--generator", work / "c.safetensors", "--method=ganspace", "--samples=200", "--space=w")
    argv = (*argv, "--components=2", "--nopicture", "--out")
    assert "samples of one of the 5 classes" in refused(capsys, *argv, tmp_path / "none.safetensors")
    assert "a.csv: is not the number of a class" in refused(capsys, *argv, tmp_path / "none", "--class=a.csv")
    for k in (0, 1):
        assert run(*argv, tmp_path / f"{k}.safetensors", f"--class={k}") == 0
    from lsap_jax.editing.direction_file import read_directions

    zero, one = (read_directions(tmp_path / f"{k}.safetensors")[0] for k in (0, 1))
    assert not np.allclose(zero.vector, one.vector) and one.source.endswith(", class 1")


def test_the_file_of_a_conditional_generator(capsys, shared_file, tmp_path):
    source = shared_file("cases/conditional_without_label/cond.pt")
    assert run("convert", source, tmp_path / "c.safetensors") == 0 and (tmp_path / "c.samples.png").is_file()
    argv = ("generate", "--generator", tmp_path / "c.safetensors", "--seeds=0-1", "--out", tmp_path / "s")
    assert NEEDED in refused(capsys, *argv)
    assert run(*argv, "--class=3") == 0


@pytest.mark.slow
def test_edits_and_measures_take_the_class_of_the_code(capsys, work, few_samples, quick_whitening, tmp_path):
    argv = ("edit", work / "run", "--direction=random:0", "--strengths=0,2", "--out", work / "edits")
    assert run(*argv) == 0 and run("verify", work / "edits") == 0
    label = np.load(work / "edits" / "codes" / "a" / "random-0" / "2.npz")["c"]
    assert label.argmax() == 3
    assert "samples of one of the 5 classes" in refused(
        capsys, "edit", work / "run", "--direction=ganspace:0", "--out", tmp_path / "e"
    )
    assert run("edit", work / "run", "--interpolate=a:b", "--points=3", "--out", work / "between") == 0
    assert run("verify", work / "between") == 0
    assert run("evaluate", work / "run") == 0 and "nscd" in capsys.readouterr().out
    found = json.loads((work / "run" / "evaluation.json").read_text())
    assert "of the image's class" in found["metrics"]["nscd"]["formula"]
    assert run("export", work / "run", tmp_path / "codes.npz", "--ws") == 0
    with np.load(tmp_path / "codes.npz") as arrays:
        assert arrays["c"].shape == (2, 5) and arrays["ws"].shape == (2, 6, 16)


@pytest.mark.slow
def test_flat_spaces_need_no_class(capsys, work):
    assert invert(work, "flat", "--space=w+") == 0
    assert "classes" not in read_run(work / "flat") and set(read_code(work / "flat", "a")) == {"w"}
    assert run("verify", work / "flat") == 0
    capsys.readouterr()
    assert run("evaluate", work / "flat") == 0
    told = capsys.readouterr()
    assert (
        "NSCD and KID are left out" in told.err
        and "nscd" not in told.out
        and "ms_ssim" in told.out
        or "ssim" in told.out
    )


@pytest.mark.slow
def test_codes_of_a_run_start_another_with_its_class(work, few_samples):
    assert invert(work, "again", "--class", work / "classes.csv", "--space=w+", "--init", work / "run") == 0
    assert run("verify", work / "again") == 0


@pytest.mark.slow
def test_a_share_and_the_rest_make_the_same_run(work):
    classes = ("--class", work / "classes.csv", "--batch_size=1")
    for share in ("0/2", "1/2"):
        assert invert(work, "shares", *classes, f"--shard={share}") == 0
    assert invert(work, "whole", *classes) == 0
    for part in ("codes/a.npz", "codes/b.npz", "images/a.png", "images/b.png", "metrics.csv"):
        assert (work / "shares" / part).read_bytes() == (work / "whole" / part).read_bytes()


@pytest.mark.slow
def test_a_comparison_and_its_edits(work, few_samples, quick_whitening):
    argv = ("compare", work / "images", "--generator", work / "c.safetensors", "--out", work / "both", "--steps=1")
    assert run(*argv, "--presets=z,pn", "--class", work / "classes.csv") == 0
    assert read_run(work / "both" / "pn")["classes"]["labels"] == [0, 3]
    assert run(*argv, "--presets=z,pn", "--class", work / "classes.csv") == 0
    edits = ("--config.directions=random:0", "--config.strengths=0,1", "--attributes=none", "--out", work / "quality")
    assert run("edit-quality", work / "both" / "z", *edits) == 0
