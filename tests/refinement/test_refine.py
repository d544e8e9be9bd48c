"""Result refinement: on arrays, of a run folder, and all that is done with a refined run; the method is a row."""

import csv
import signal
import subprocess
import sys

import colour
import jax
import numpy as np
import pytest
from small_runs import write_run

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.errors import LsapError
from lsap_jax.pixels import to_float, to_uint8
from lsap_jax.refinement.methods import make_refiner
from lsap_jax.rendering.refinement import from_arrays, take
from lsap_jax.runs.refine import refine_run
from lsap_jax.runs.refining import refining
from lsap_jax.storage.flight import Preempted
from lsap_jax.storage.metrics_table import write_table
from lsap_jax.storage.results import read_arrays, read_code, read_failures, read_image, read_manifest, read_run
from lsap_jax.testing import ColourRefiner, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation", "colour_rows")
IDS = ("a", "b", "sub/c", "sub/d", "e")
COUNT = len(IDS)


@pytest.fixture(scope="module")
def work(quick_compilation, colour_rows, tmp_path_factory):
    """A folder with g.safetensors, a run in F/Z+ whose images are not its targets, and that run refined/."""
    folder = tmp_path_factory.mktemp("work")
    G = tiny_generator(discriminator=False)
    G.save(folder / "g.safetensors")
    write_run(folder / "run", G, folder / "g.safetensors", "f/z+", IDS, tiny_images(COUNT))
    assert main(argv(folder, folder / "refined")) == 0
    return folder


def argv(work, out, *more):
    """Arguments of `lsap-jax refine` in batches of two."""
    words = ["refine", work / "run", "--method=colour", "--batch_size=2", "--out", out, *more]
    return [str(word) for word in words]


def tree(folder):
    parts = ("codes", "images", "targets", "refined")
    files = (p for part in parts for p in (folder / part).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in [*files, folder / "metrics.csv"]}


# On arrays


@pytest.fixture(scope="module")
def G():
    return tiny_generator(discriminator=False)


@pytest.fixture(scope="module")
def inv(quick_compilation, G):
    return lsap_jax.invert(G, tiny_images(COUNT), "w+", steps=1, chunk=2)


@pytest.fixture(scope="module")
def refined(inv, G, colour_rows):
    return lsap_jax.refine(G, inv, tiny_images(COUNT), "colour", batch_size=2)


def test_the_mean_colour_is_the_targets(G, inv, refined):
    targets = to_float(tiny_images(COUNT))
    unclipped = G.synthesis(inv.codes["w"])
    shift = refined.refinement.transforms[G.config.layers[-1].name].shift
    np.testing.assert_allclose((unclipped + shift).mean((1, 2)), targets.mean((1, 2)), atol=1e-5)
    np.testing.assert_allclose(refined.images, np.clip(unclipped + shift, -1, 1), atol=1e-5)
    np.testing.assert_array_equal(refined.codes["w"], inv.codes["w"])
    mse = np.square(refined.images - targets).mean((1, 2, 3))
    np.testing.assert_allclose(refined.metrics["mse"], mse, rtol=1e-5)
    assert refined.ids == inv.ids and (refined.metrics["mse"] < inv.metrics["mse"]).all()


def test_no_image_sees_its_neighbours(G, inv, refined):
    """Alone, in other company and by names, an image has the same refinement, bit for bit on processors."""
    codes = {name: code[3:] for name, code in inv.codes.items()}
    alone = lsap_jax.refine(G, (inv.space, codes), tiny_images(COUNT)[3:], "colour", ids=inv.ids[3:], batch_size=1)
    jax.tree.map(np.testing.assert_array_equal, alone.refinement, take(refined.refinement, slice(3, None)))
    np.testing.assert_array_equal(alone.images, refined.images[3:])
    named = lsap_jax.refine(G, ("w+", inv.codes), tiny_images(COUNT), "colour")
    jax.tree.map(np.testing.assert_array_equal, named.refinement, refined.refinement)


def test_what_is_shown_is_what_renders_edits_and_measures(G, refined):
    space, codes, refinement = refined.space, refined.codes, refined.refinement
    shown = lsap_jax.render(G, space, codes, refinement=refinement)
    np.testing.assert_allclose(shown, refined.images, atol=1e-6)
    edited = lsap_jax.edit(G, space, codes, "random:0", [0, 2], images=refined.images, refinement=refinement)
    np.testing.assert_array_equal(edited.images[0], refined.images)
    plain = lsap_jax.edit(G, space, codes, "random:0", [2])
    assert np.abs(edited.images[1] - plain.images[0]).max() > 0.01  # the refinement stays
    found = lsap_jax.evaluate(G, space, codes, tiny_images(COUNT), refinement=refinement)
    for name, value in refined.metrics.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


def test_masks_and_options_reach_the_method(G, inv, refined):
    masks = np.zeros((COUNT, 16, 16), np.float32)
    masks[:, :8] = 1
    half = lsap_jax.refine(G, inv, tiny_images(COUNT), "colour", masks=masks, share=0.5)
    gap = to_float(tiny_images(COUNT)) - np.asarray(G.synthesis(inv.codes["w"]))
    shift = half.refinement.transforms[G.config.layers[-1].name].shift[:, 0, 0]
    np.testing.assert_allclose(shift, 0.5 * gap[:, :8].mean((1, 2)), atol=1e-5)
    assert half.method["options"] == {"share": 0.5} and refined.method["options"] == {"share": 1.0}


def test_targets_are_fitted_as_they_were_when_they_were_inverted(G, inv):
    wide = tiny_images(COUNT)[:, 2:14]
    barred = np.pad(wide, ((0, 0), (2, 2), (0, 0), (0, 0)))
    asked = lsap_jax.refine(G, inv, wide, "colour", fit="bars")
    np.testing.assert_array_equal(asked.images, lsap_jax.refine(G, inv, barred, "colour").images)
    assert (asked.images != lsap_jax.refine(G, inv, wide, "colour").images).any()
    with pytest.raises(LsapError, match="fit 'bar' is unknown"):
        lsap_jax.refine(G, inv, wide, "colour", fit="bar")


def test_an_f_space_by_name_has_the_base_resolution_of_its_codes(G, inv):
    codes = {"w": inv.codes["w"], "f": np.zeros((COUNT, 8, 8, 8), np.float32)}
    found = lsap_jax.refine(G, ("f/w+", codes), tiny_images(COUNT), "colour")
    assert found.space.base_resolution == 8
    shown = lsap_jax.render(G, "f/w+", found.codes, refinement=found.refinement)
    np.testing.assert_allclose(shown, found.images, atol=1e-6)
    with pytest.raises(LsapError, match=r"base_resolution 5: choose one of this generator's \(4, 8, 16\)"):
        lsap_jax.refine(G, ("f/w+", {**codes, "f": codes["f"][:, :5, :5]}), tiny_images(COUNT), "colour")


def test_what_cannot_be_refined_is_refused(G, inv):
    images = tiny_images(COUNT)
    for arguments, message in (
        ((inv, images, "dip"), "method 'dip': this version of lsap_jax does not have it; it has .*colour"),
        (((inv.space, {"w": inv.codes["w"][:2]}), images, "colour"), "codes of 2 images and 5 targets"),
        ((("f/z", inv.codes), images, "colour"), "codes of space f/z have z, f"),
    ):
        with pytest.raises(LsapError, match=message):
            lsap_jax.refine(G, *arguments)
    with pytest.raises(LsapError, match="method 'colour': has no option 'steps'; its options: share"):
        lsap_jax.refine(G, inv, images, "colour", steps=3)
    with pytest.raises(LsapError, match="image 0: what refines it, or its picture, is not finite"):
        lsap_jax.refine(G, inv, images, "colour", share=float("nan"))


def test_a_refiner_is_made_of_its_row(G):
    refiner, options = make_refiner("colour", G, options={"share": 2.0})
    assert isinstance(refiner, ColourRefiner) and refiner.share == options["share"] == 2.0


# Of a run folder


def test_a_refined_run_is_a_run(work):
    G = lsap_jax.load_generator(work / "g.safetensors")
    run, before = read_run(work / "refined"), read_run(work / "run")
    assert run["refinement"] == {"method": "colour", "options": {"share": 1.0}, "seed": 0, "weights": None}
    assert run["run"] == {"name": "run"} and run["config"] == {**before["config"], "batch_size": 2}
    manifest = read_manifest(work / "refined")
    assert set(manifest) == set(IDS) and (work / "refined" / "report.html").is_file()
    codes = {name: [] for name in ("z", "f")}
    refinements, images = [], []
    for id in IDS:
        for part in ("codes", "targets"):
            assert manifest[id]["sha256"][part] == read_manifest(work / "run")[id]["sha256"][part]
        code = read_code(work / "refined", id, manifest=manifest)
        codes = {name: [*codes[name], code[name]] for name in codes}
        refinements.append(from_arrays(read_arrays(work / "refined", id, "refined", manifest=manifest)))
        images.append(read_image(work / "refined", id, manifest=manifest))
        assert (images[-1] != read_image(work / "run", id)).any()
    stacked = {name: np.stack(code) for name, code in codes.items()}
    refinement = jax.tree.map(lambda *leaves: np.stack(leaves), *refinements)
    shown = lsap_jax.render(G, "f/z+", stacked, refinement=refinement)
    np.testing.assert_array_equal(to_uint8(shown), np.stack(images))
    with open(work / "refined" / "metrics.csv") as table:
        rows = {row["id"]: float(row["mse"]) for row in csv.DictReader(table)}
    mse = np.square(shown - to_float(tiny_images(COUNT))).mean((1, 2, 3))
    assert [rows[id] for id in IDS] == pytest.approx(mse.tolist(), rel=1e-5)


def test_a_killed_refine_goes_on_byte_for_byte(work, tmp_path, capsys):
    out = tmp_path / "out"
    dead = subprocess.run([sys.executable, colour.__file__, "4", *argv(work, out)], capture_output=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()
    done = len(read_manifest(out))
    assert 0 < done < COUNT
    assert main(argv(work, out)) == 0
    assert f"{COUNT} images done, {done} of them earlier" in capsys.readouterr().out
    assert tree(out) == tree(work / "refined")


def test_shards_and_another_batch_size_leave_the_same_files(work, tmp_path):
    for index in (1, 0):
        assert main(argv(work, tmp_path / "shards", f"--shard={index}/2")) == 0
    assert tree(tmp_path / "shards") == tree(work / "refined")
    words = argv(work, tmp_path / "large")
    assert main([word.replace("batch_size=2", "batch_size=5") for word in words]) == 0
    assert tree(tmp_path / "large") == tree(work / "refined")


def test_options_of_the_method_are_keys(work, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(argv(work, out, "--config.refine.share=0.5")) == 0
    assert read_run(out)["refinement"]["options"] == {"share": 0.5}
    name = "transforms/b16.torgb/scale_shift/shift"
    half, whole = (read_arrays(folder, "a", "refined")[name] for folder in (out, work / "refined"))
    np.testing.assert_allclose(half, whole / 2, rtol=1e-5, atol=1e-7)
    capsys.readouterr()
    for words, message in (
        (("--config.refine.steps=3",), "method 'colour': has no option 'steps'; its options: share"),
        (("--config.refine.share=much",), "--config.refine.share=much: float is needed, as in 1.0"),
        (("--config.steps=3",), "--config.steps: this command has no configuration"),
        ((), "refinement.options.share was 0.5, is 1.0"),
    ):
        assert main(argv(work, out, *words)) == 2
        assert message in capsys.readouterr().err


def test_a_refine_that_has_to_stop_saves_the_images_that_are_done(work, tmp_path):
    G, out = lsap_jax.load_generator(work / "g.safetensors"), tmp_path / "out"
    asked = iter((False, True))  # before the first batch, and after its first images
    how = refining(G, "colour")
    with pytest.raises(Preempted, match="stopped after 2 of the 5 images of a batch were refined"):
        refine_run(G, work / "run", out, how, batch_size=5, stop=lambda: next(asked))
    assert len(read_manifest(out)) == 2
    assert refine_run(G, work / "run", out, how, batch_size=5).skipped == 2
    assert tree(out) == tree(work / "refined")


@pytest.mark.slow
def test_what_is_done_with_a_run_is_done_with_a_refined_one(work, tmp_path, capsys):
    folder = str(work / "refined")
    assert main(["verify", folder]) == 0
    assert f"{COUNT} images rendered again: all match" in capsys.readouterr().out
    before = (work / "refined" / "metrics.csv").read_text()
    assert main(["evaluate", folder]) == 0 and main(["report", folder]) == 0
    after = (work / "refined" / "metrics.csv").read_text()
    write_table(work / "refined", before.encode())
    with_nscd = {row["id"]: row for row in csv.DictReader(after.splitlines())}
    for row in csv.DictReader(before.splitlines()):
        assert with_nscd[row["id"]]["mse"] == row["mse"] and float(with_nscd[row["id"]]["nscd"]) > 0
    assert main(["export", folder, str(tmp_path / "codes.npz")]) == 0
    with np.load(tmp_path / "codes.npz") as arrays:
        assert arrays["z"].shape[0] == COUNT
        name = "refined/transforms/b16.torgb/scale_shift/shift"
        np.testing.assert_array_equal(
            arrays[name][0], read_arrays(work / "refined", sorted(IDS)[0], "refined")[name.removeprefix("refined/")]
        )
    assert main(["export", folder, "--format=zarr", str(tmp_path / "store")]) == 0
    assert main(["export", str(tmp_path / "store"), "--format=files", str(tmp_path / "back")]) == 0
    assert tree(tmp_path / "back") == tree(work / "refined")


def test_edits_keep_what_refines_an_image(work, tmp_path, capsys):
    words = ["--direction=random:0", "--strengths=-1,0,1", "--batch_size=6"]
    assert main(["edit", str(work / "refined"), *words, "--out", str(tmp_path / "edits")]) == 0
    assert main(["edit", str(work / "run"), *words, "--out", str(tmp_path / "plain")]) == 0
    for id in IDS:
        still = tmp_path / "edits" / "images" / id / "random-0" / "0.png"
        assert still.read_bytes() == (work / "refined" / "images" / f"{id}.png").read_bytes()
        own = tmp_path / "edits" / "refined" / f"{id}.npz"
        assert own.read_bytes() == (work / "refined" / "refined" / f"{id}.npz").read_bytes()
        moved = [tmp_path / name / "images" / id / "random-0" / "1.png" for name in ("edits", "plain")]
        assert moved[0].read_bytes() != moved[1].read_bytes()
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "edits")]) == 0
    assert f"{3 * COUNT} edits of {COUNT} images rendered again: all match" in capsys.readouterr().out
    file = tmp_path / "edits" / "refined" / "a.npz"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert main(["verify", str(tmp_path / "edits")]) == 1


def test_other_refinements_and_codes_are_refused(work, tmp_path, capsys):
    def refused(*words):
        assert main([str(word) for word in words]) == 2
        return capsys.readouterr().err

    assert "was started with other settings (refinement.seed was 0, is 1)" in refused(
        *argv(work, work / "refined", "--seed=1")
    )
    assert "is refined already, by 'colour'" in refused(
        "refine", work / "refined", "--method=colour", "--out", tmp_path / "twice"
    )
    assert "is the run that is refined; name another folder" in refused(
        "refine", work / "run", "--method=colour", "--out", work / "run"
    )
    assert "method 'dip': this version of lsap_jax does not have it" in refused(
        "refine", work / "run", "--method=dip", "--out", tmp_path
    )
    assert "--method is missing" in refused("refine", work / "run", "--out", tmp_path / "x")
    assert not (tmp_path / "twice").exists()


def test_a_code_that_has_changed_fails_that_image(work, tmp_path, capsys):
    G = lsap_jax.load_generator(work / "g.safetensors")
    write_run(tmp_path / "run", G, work / "g.safetensors", "z", ("a", "b"), tiny_images(2))
    file = tmp_path / "run" / "codes" / "a.npz"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    words = ["refine", tmp_path / "run", "--method=colour", "--out", tmp_path / "out"]
    assert main([str(word) for word in words]) == 1
    assert set(read_manifest(tmp_path / "out")) == {"b"}
    assert "codes/a.npz: has changed since it was written" in read_failures(tmp_path / "out")["a"]["reason"]
