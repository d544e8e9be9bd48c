"""Embedding by an encoder alone: on arrays and as a command, with a new kind of encoder as a row of the registry."""

import csv
import signal
import subprocess
import sys
from pathlib import Path

import colour
import numpy as np
import pytest
from PIL import Image

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.encoding.attach import with_encoder
from lsap_jax.errors import LsapError
from lsap_jax.models.network_file import load_encoder, save
from lsap_jax.networks.view import View
from lsap_jax.pixels import to_float
from lsap_jax.runs.shipping import sha256_of
from lsap_jax.storage.results import read_arrays, read_code, read_manifest, read_run
from lsap_jax.testing import ColourEncoder, colour_encoder, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation", "rows")
COUNT = 5
ASSETS = Path(lsap_jax.__file__).parent / "assets"


@pytest.fixture(scope="module")
def rows():
    with pytest.MonkeyPatch.context() as patch:
        colour.add_rows(patch)
        yield


@pytest.fixture(scope="module")
def work(quick_compilation, rows, tmp_path_factory):
    """A folder with g.safetensors, e.safetensors, images/ and the run of one process, encoded/."""
    folder = tmp_path_factory.mktemp("work")
    G = tiny_generator(discriminator=False)
    G.save(folder / "g.safetensors")
    save(folder / "e.safetensors", colour_encoder(G), {})
    (folder / "images").mkdir()
    for i, image in enumerate(tiny_images(COUNT)):
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
    assert main(argv(folder, folder / "encoded")) == 0
    return folder


def argv(work, out, *more):
    """Arguments of `lsap-jax encode` in batches of two."""
    words = ["encode", work / "images", "--generator", work / "g.safetensors", "--encoder", work / "e.safetensors"]
    return [str(word) for word in (*words, "--batch_size=2", "--out", out, *more)]


def tree(folder):
    files = (p for part in ("codes", "images", "targets", "curves") for p in (folder / part).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in [*files, folder / "metrics.csv"]}


def test_codes_are_what_the_encoder_makes_in_any_batch():
    G, images = tiny_generator(), tiny_images(COUNT)
    E = colour_encoder(G)
    inv = lsap_jax.encode(G, E, images, batch_size=2)
    small = to_float(images).reshape(COUNT, 8, 2, 8, 2, 3).mean(axis=(2, 4))  # near enough to Lanczos for a mean
    np.testing.assert_allclose(inv.codes["w"], E(small), atol=0.02)
    assert inv.space.name == "w+" and inv.ids == tuple("01234")
    assert np.ptp(inv.codes["w"][:, 0], axis=0).max() > 0.1
    assert all(curve.shape == (COUNT, 1) for curve in inv.curves.values())
    np.testing.assert_allclose(inv.images, lsap_jax.render(G, inv.space, inv.codes), atol=1e-6)
    np.testing.assert_allclose(
        inv.metrics["mse"], np.square(inv.images - to_float(images)).mean(axis=(1, 2, 3)), rtol=1e-5
    )
    one = lsap_jax.encode(G, E, images[3:], ids=["3", "4"], batch_size=1)
    for name, code in one.codes.items():
        np.testing.assert_array_equal(code, inv.codes[name][3:])
    np.testing.assert_array_equal(one.images, inv.images[3:])


def test_an_encoder_of_another_generator_is_refused():
    other = tiny_generator(img_resolution=32)
    with pytest.raises(LsapError, match=r"makes ws of .rows, width. \(8, 16\), this generator takes \(6, 16\)"):
        with_encoder(tiny_generator(), colour_encoder(other))
    with pytest.raises(LsapError, match="this generator comes without one"):
        lsap_jax.encode(tiny_generator(), None, tiny_images(1))


class BarredEncoder(ColourEncoder):
    """An encoder of cars in small: it sees the middle rows of what the generator makes."""

    view = View(6, 8, "bilinear")


def test_pictures_between_bars(tmp_path):
    """Pictures of 4 by 3 are fitted as the encoder needs it, and any other fit is refused with what to do."""
    G = tiny_generator(discriminator=False)
    plain = colour_encoder(G)
    E = BarredEncoder(config=plain.config, params=plain.params)
    pictures = tiny_images(2)[:, 2:14]
    inv = lsap_jax.encode(G, E, pictures)
    seen = [np.asarray(Image.fromarray(one).resize((8, 6), Image.Resampling.BILINEAR)) for one in pictures]
    np.testing.assert_allclose(inv.codes["w"], E(to_float(np.stack(seen))), atol=1e-6)
    with pytest.raises(LsapError, match="fit='crop': .* pictures of 6 x 8 px.* set fit='bars'"):
        lsap_jax.encode(G, E, pictures, fit="crop")
    with pytest.raises(LsapError, match="fit='crop': .* set fit='bars'"):
        lsap_jax.invert(with_encoder(G, E), pictures, "w+", steps=1, **{"init.detail": "encoder"})


def test_a_new_kind_of_encoder_is_a_row(work):
    E = load_encoder(work / "e.safetensors")
    assert E.kind == "colour" and sha256_of(E) == sha256_of(colour_encoder(tiny_generator(discriminator=False)))


def test_an_encoded_run_is_a_run(work, capsys):
    run, manifest = read_run(work / "encoded"), read_manifest(work / "encoded")
    assert run["steps"] == 0 and run["space"] == "w+" and len(manifest) == COUNT
    E = load_encoder(work / "e.safetensors")
    assert run["encoder"] == {"name": str(work / "e.safetensors"), "sha256": sha256_of(E)}
    assert not any(about["also_loss"] for about in run["metrics"].values()), "nothing was minimised"
    assert run["generator"]["sha256"] == lsap_jax.load_generator(work / "g.safetensors").sha256
    inv = lsap_jax.encode(lsap_jax.load_generator(work / "g.safetensors"), E, tiny_images(COUNT))
    for i in range(COUNT):
        np.testing.assert_array_equal(read_code(work / "encoded", str(i), manifest=manifest)["w"], inv.codes["w"][i])
        assert len(read_arrays(work / "encoded", str(i), "curves", manifest=manifest)["loss"]) == 1
    with open(work / "encoded" / "metrics.csv") as table:
        assert [float(row["mse"]) for row in csv.DictReader(table)] == pytest.approx(inv.metrics["mse"].tolist())
    assert (work / "encoded" / "report.html").is_file()
    assert main(["verify", str(work / "encoded")]) == 0  # without the encoder's file, which codes do not need
    assert f"{COUNT} images rendered again: all match" in capsys.readouterr().out
    out = work / "edits"
    assert main(["edit", str(work / "encoded"), "--direction=random:0", "--strengths=0,1", "--out", str(out)]) == 0
    still = out / "images" / "2" / "random-0" / "0.png"
    assert still.read_bytes() == (work / "encoded" / "images" / "2.png").read_bytes()


def test_a_killed_encode_goes_on_byte_for_byte(work, tmp_path):
    out = tmp_path / "run"
    dead = subprocess.run([sys.executable, colour.__file__, "4", *argv(work, out)], capture_output=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()
    assert 0 < len(read_manifest(out)) < COUNT
    assert main(argv(work, out)) == 0
    assert tree(out) == tree(work / "encoded")


def test_shards_and_another_batch_size_leave_the_same_files(work, tmp_path):
    for index in (1, 0):
        assert main(argv(work, tmp_path / "shards", f"--shard={index}/2")) == 0
    assert tree(tmp_path / "shards") == tree(work / "encoded")
    words = argv(work, tmp_path / "large")
    assert main([*words[: words.index("--batch_size=2")], "--batch_size=4", *words[-2:]]) == 0
    assert tree(tmp_path / "large") == tree(work / "encoded")


def test_another_encoder_is_another_run(work, tmp_path, capsys):
    G = lsap_jax.load_generator(work / "g.safetensors")
    save(tmp_path / "other.safetensors", colour_encoder(G, seed=1), {})
    words = argv(work, work / "encoded")
    words[words.index("--encoder") + 1] = str(tmp_path / "other.safetensors")
    assert main(words) == 2
    assert "was started with other settings (encoder.sha256 was" in capsys.readouterr().err


def test_configurations_with_steps_or_another_start_are_refused(work, tmp_path, capsys):
    for words, reason in (
        (("--config=w+", "--config.steps=3"), "configuration w+: takes 3 steps"),
        (("--config=encode", "--config.init.detail=w_avg"), "configuration encode: begins at init.detail='w_avg'"),
    ):
        assert main(argv(work, tmp_path / "run", *words)) == 2
        assert f"{reason}, and encode takes the codes of an encoder as they are" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_inversion_starts_from_an_encoder(work, tmp_path):
    words = argv(work, tmp_path / "run", "--steps=2", "--config.chunk=3", "--space=w+")
    assert main(["invert", *words[1:]]) == 0
    manifest = read_manifest(tmp_path / "run")
    for id in manifest:
        curve = read_arrays(tmp_path / "run", id, "curves", manifest=manifest)["mse"]
        first = read_arrays(work / "encoded", id, "curves")["mse"]
        assert curve[0] == pytest.approx(first[0], rel=1e-5) and len(curve) == 3


def test_encode_and_refine_at_once(work, tmp_path, capsys):
    assert main(argv(work, tmp_path / "both", "--refine=colour")) == 0
    assert main(["refine", str(work / "encoded"), "--method=colour", "--out", str(tmp_path / "after")]) == 0
    both, after = (tree(tmp_path / name) for name in ("both", "after"))
    assert {k: v for k, v in both.items() if not k.startswith("curves")} == after
    for id in map(str, range(COUNT)):
        one, other = ((tmp_path / name / "refined" / f"{id}.npz").read_bytes() for name in ("both", "after"))
        assert one == other
    assert read_run(tmp_path / "both")["refinement"] == read_run(tmp_path / "after")["refinement"]
    assert main(argv(work, tmp_path / "none", "--refine=dip")) == 2
    assert "method 'dip': this version of lsap_jax does not have it" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.slow  # test_readme.py runs the command
@pytest.mark.skipif(not (ASSETS / "toonhead64.safetensors").is_file(), reason="no bundled generator in this checkout")
def test_the_bundled_encoder(tmp_path):
    """As the README has it: `lsap-jax encode IMAGES --generator toonhead64 --out DIR`."""
    samples = sorted((ASSETS / "samples").glob("*.png"))[:3]
    assert main(["encode", *map(str, samples), "--generator", "toonhead64", "--out", str(tmp_path / "run")]) == 0
    manifest = read_manifest(tmp_path / "run")
    assert len(manifest) == 3 and "encoder" not in read_run(tmp_path / "run")
    assert np.mean([record["metrics"]["mse"] for record in manifest.values()]) < 0.1  # faces like the samples' own
    assert main(["verify", str(tmp_path / "run")]) == 0
