"""`lsap-jax refine --masks`: which masks are found and used, what a broken one does, and what decides a resume."""

import pickle
import shutil
import signal
import subprocess
import sys

import colour
import numpy as np
import pytest
from PIL import Image
from small_runs import write_run

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.configuration import load_config
from lsap_jax.inversion.jobs import Job
from lsap_jax.runs.finished import finished_images
from lsap_jax.runs.refining import RefiningWorker, refining
from lsap_jax.spaces import parse_space
from lsap_jax.storage.results import read_arrays, read_code, read_failures, read_manifest, read_run
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation", "colour_rows")
IDS = ("a", "b", "sub/c", "sub/d", "e")
MASKED = ("a", "sub/c", "e")
SHIFT = "transforms/b16.torgb/scale_shift/shift"


@pytest.fixture(scope="module")
def work(quick_compilation, colour_rows, tmp_path_factory):
    """A folder with g.safetensors, a run in W+, masks/ of some of its images, larger than those, and refined/."""
    folder = tmp_path_factory.mktemp("work")
    G = tiny_generator(discriminator=False)
    G.save(folder / "g.safetensors")
    write_run(folder / "run", G, folder / "g.safetensors", "w+", IDS, tiny_images(len(IDS)))
    for i, id in enumerate(MASKED):
        draw(folder / "masks" / f"{id}.png", 8 * (i + 2))
    assert main(argv(folder, folder / "refined")) == 0
    return folder


@pytest.fixture
def masks(work, tmp_path):
    """A copy of the masks that a test may change."""
    return shutil.copytree(work / "masks", tmp_path / "masks")


def draw(file, size, seed=0):
    """A mask of large random squares."""
    file.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng([seed, size]).integers(0, 256, (4, 4), np.uint8)
    Image.fromarray(np.kron(coarse, np.ones((size // 4, size // 4), np.uint8))).save(file)


def argv(work, out, masks=None, *more):
    """Arguments of `lsap-jax refine` in batches of two, with work/masks by default."""
    words = ["refine", work / "run", "--method=colour", "--batch_size=2", "--out", out]
    return [str(word) for word in [*words, f"--masks={masks or work / 'masks'}", *more]]


def tree(folder):
    files = (p for part in ("codes", "images", "targets", "refined") for p in (folder / part).rglob("*.*"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in [*files, folder / "metrics.csv"]}


def test_files_are_what_arrays_are(work):
    """The same refinement as by `lsap_jax.refine` with masks of 16 px, and without where there is none."""
    G = lsap_jax.load_generator(work / "g.safetensors")
    masks = np.ones((len(IDS), 16, 16), np.float32)
    for id in MASKED:
        with Image.open(work / "masks" / f"{id}.png") as picture:
            small = picture.resize((16, 16), Image.Resampling.LANCZOS)
        masks[IDS.index(id)] = np.asarray(small, np.float32) / 255
    codes = {"w": np.stack([read_code(work / "run", id)["w"] for id in IDS])}
    given = lsap_jax.refine(G, ("w+", codes), tiny_images(len(IDS)), "colour", masks=masks, batch_size=2)
    plain = lsap_jax.refine(G, ("w+", codes), tiny_images(len(IDS)), "colour", batch_size=2)
    for i, id in enumerate(IDS):
        shift = read_arrays(work / "refined", id, "refined")[SHIFT]
        np.testing.assert_array_equal(shift, given.refinement.transforms["b16.torgb"].shift[i])
        gap = np.abs(shift - plain.refinement.transforms["b16.torgb"].shift[i]).max()
        assert gap > 1e-3 if id in MASKED else gap < 1e-6


def test_the_run_says_which_images_have_masks(work, tmp_path, capsys):
    assert main(argv(work, tmp_path / "out")) == 0
    assert f"2 of 5 images have no mask in {work / 'masks'}: refined without one" in capsys.readouterr().err
    assert read_run(tmp_path / "out")["refinement"]["masked"] is True
    for id, record in read_manifest(tmp_path / "out").items():
        assert any("refined under a mask, SHA-256" in note for note in record["notes"]) == (id in MASKED)
    assert main(["verify", str(tmp_path / "out")]) == 0
    for i, id in enumerate(IDS):
        draw(tmp_path / "all" / f"{id}.png", 4 * (i + 1))
    capsys.readouterr()
    assert main(argv(work, tmp_path / "whole", tmp_path / "all")) == 0
    assert "no mask" not in capsys.readouterr().err


def test_a_killed_refine_with_masks_goes_on_byte_for_byte(work, tmp_path, masks):
    out = tmp_path / "out"
    dead = subprocess.run([sys.executable, colour.__file__, "4", *argv(work, out)], capture_output=True)
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()
    assert 0 < len(read_manifest(out)) < len(IDS)
    assert main(argv(work, out, masks)) == 0, "the same masks in another place"
    assert tree(out) == tree(work / "refined")


def test_shards_leave_the_same_files(work, tmp_path):
    for index in (1, 0):
        assert main(argv(work, tmp_path / "out", None, f"--shard={index}/2")) == 0
    assert tree(tmp_path / "out") == tree(work / "refined")


def test_a_mask_that_has_changed_is_refused(work, tmp_path, masks, capsys):
    """Of an image whose batch is finished, too; and so is one that is gone, or new."""
    before = tree(work / "refined")

    def refused(id):
        assert main(argv(work, work / "refined", masks)) == 2
        assert "has changed since it was done" in (said := capsys.readouterr().err) and f": {id}" in said
        assert tree(work / "refined") == before

    draw(masks / "sub/c.png", 24, seed=1)
    refused(f"sub/c with mask {masks / 'sub/c.png'}")
    (masks / "sub/c.png").unlink()
    refused("sub/c")
    shutil.copy(work / "masks/sub/c.png", masks / "sub/c.png")
    draw(masks / "b.png", 16)
    refused(f"b with mask {masks / 'b.png'}")
    (masks / "b.png").unlink()
    assert main(argv(work, work / "refined", masks)) == 0 and tree(work / "refined") == before


def test_with_masks_and_without_are_two_runs(work, tmp_path, capsys):
    words = argv(work, work / "refined")
    assert main([word for word in words if "--masks" not in word]) == 2
    assert "was started with other settings (refinement.masked was True, is 'absent')" in capsys.readouterr().err
    plain = [word for word in argv(work, tmp_path / "plain") if "--masks" not in word]
    assert main(plain) == 0 and "masked" not in read_run(tmp_path / "plain")["refinement"]
    assert main(argv(work, tmp_path / "plain")) == 2
    assert "(refinement.masked was 'absent', is True)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "reason"),
    {
        "cut off": (lambda file: file.write_bytes(file.read_bytes()[:-40]), "its mask: damaged or cut off"),
        "a folder": (lambda file: (file.unlink(), file.mkdir()), "its mask: not a regular file"),
        "oblong": (lambda file: Image.new("L", (16, 8)).save(file), "its mask: is 16x8 pixels; a mask is square"),
    }.values(),
    ids=("cut off", "a folder", "oblong"),
)
def test_a_broken_mask_fails_its_image_alone_until_it_is_mended(work, tmp_path, masks, capsys, spoil, reason):
    out = tmp_path / "out"
    spoil(masks / "sub/c.png")
    assert main(argv(work, out, masks)) == 1
    said = capsys.readouterr()
    assert "4 images done, 1 failed" in said.out and f"failed: {work / 'run'}: sub/c with mask" in said.err
    assert set(read_manifest(out)) == set(IDS) - {"sub/c"} and reason in read_failures(out)["sub/c"]["reason"]
    for id in read_manifest(out):
        name = f"refined/{id}.npz"
        assert (out / name).read_bytes() == (work / "refined" / name).read_bytes()
    shutil.rmtree(masks)
    shutil.copytree(work / "masks", masks)
    assert main(argv(work, out, masks)) == 0
    assert tree(out) == tree(work / "refined") and read_failures(out) == {}


def test_masks_that_belong_to_nothing_are_refused(work, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder, message in (
        (tmp_path / "none", "is not a folder of masks"),
        (tmp_path / "empty", "has no mask of any"),
    ):
        assert main(argv(work, tmp_path / "out", folder)) == 2
        assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_digest_of_an_image_is_that_which_is_recorded(work):
    """With a mask or without, it is told without the image being loaded."""
    G, manifest = lsap_jax.load_generator(work / "g.safetensors"), read_manifest(work / "run")
    files = {id: work / "masks" / f"{id}.png" for id in MASKED}
    source = finished_images(work / "run", manifest, G, files)
    recorded = {id: record["input_sha256"] for id, record in read_manifest(work / "refined").items()}
    for index, id in enumerate(source.ids):
        assert recorded[id] == source.sha256(index) == source.load(index).sha256
        assert (source.load(index).mask is not None) == (id in MASKED)


def test_images_are_embedded_and_refined_under_masks_in_one_go(work, tmp_path, masks, capsys):
    """The codes are those without masks; what refines is that of `refine --masks` on them."""
    (tmp_path / "images").mkdir()
    for id, image in zip(("a", "b"), tiny_images(2), strict=True):
        Image.fromarray(image).save(tmp_path / "images" / f"{id}.png")
    common = ("--generator", work / "g.safetensors", "--batch_size=2", "--steps=1", "--config.chunk=2", "--space=w")
    invert = ["invert", tmp_path / "images", *common, "--out"]

    def run(*words):
        return main([str(word) for word in words])

    one, plain = tmp_path / "one", tmp_path / "plain"
    assert run(*invert, one, "--refine=colour", "--masks", masks, "--config.refine.share=0.5") == 0
    assert run(*invert, plain) == 0
    two = ("refine", plain, "--method=colour", "--masks", masks, "--config.refine.share=0.5", "--out", tmp_path / "two")
    assert run(*two) == 0
    assert read_run(one)["refinement"] == read_run(tmp_path / "two")["refinement"]
    for part, file in (("codes", "a.npz"), ("refined", "a.npz"), ("refined", "b.npz"), ("images", "a.png")):
        assert (one / part / file).read_bytes() == (tmp_path / "two" / part / file).read_bytes()
    notes = {id: record["notes"] for id, record in read_manifest(one).items()}
    assert "refined under a mask" in notes["a"][-1] and not any("mask" in note for note in notes["b"])
    draw(masks / "a.png", 16, seed=9)
    capsys.readouterr()
    (one / "images" / "b.png").unlink()
    lines = (one / "manifest.jsonl").read_bytes().splitlines(True)
    (one / "manifest.jsonl").write_bytes(b"".join(line for line in lines if b'"id": "b"' not in line))
    again = (*invert, one, "--refine=colour", "--masks", masks, "--config.refine.share=0.5")
    assert run(*again) == 2 and f"a.png with mask {masks / 'a.png'}: has changed" in capsys.readouterr().err
    assert run(*invert, plain, "--masks", masks) == 2  # without --refine masks are for the loss of another run
    assert "was started with other settings (masked" in capsys.readouterr().err
    assert run(*invert, tmp_path / "still", "--masks", masks, "--steps=0") == 2
    assert "is for --refine or for steps, and there is neither" in capsys.readouterr().err
    assert run(*invert, plain, "--config.refine.share=1") == 2
    assert "is an option of a method of refinement; name the method with --refine" in capsys.readouterr().err


def test_another_process_refines_with_masks_too(work):
    G, source = lsap_jax.load_generator(work / "g.safetensors"), tiny_images(len(IDS))
    config = load_config("encode", {"batch_size": 2})
    worker = RefiningWorker(G, parse_space("w+"), config, refining(G, "colour"), masked=True)
    half = np.repeat([[0.0], [1.0]], 8, 0) * np.ones((1, 16), np.float32)
    jobs = [
        Job(id=id, image=source[i], mask=mask, start=read_code(work / "run", id))
        for i, (id, mask) in enumerate((("a", half), ("b", None)))
    ]
    other = pickle.loads(pickle.dumps(worker.shipment()))()
    assert other.describe()["refinement"]["masked"] is True
    plain = RefiningWorker(G, parse_space("w+"), config, refining(G, "colour"))
    there, here, bare = ([one.parts["refined"][SHIFT] for one in made(jobs)] for made in (other, worker, plain))
    np.testing.assert_array_equal(there, here)
    assert np.abs(here[0] - bare[0]).max() > 1e-3 and np.abs(here[1] - bare[1]).max() < 1e-6
