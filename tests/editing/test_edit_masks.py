"""Edits limited to masks: how they fade in, what stays, in folders, in Python, and in photographs."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_runs import write_run

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.data.masks import levels
from lsap_jax.editing.edit_worker import EditWorker
from lsap_jax.editing.limits import feathered, laid_over
from lsap_jax.editing.random import random_direction
from lsap_jax.editing.series import along
from lsap_jax.errors import LsapError
from lsap_jax.faces.align import cut_out
from lsap_jax.faces.aligned_folder import SETTINGS, opened
from lsap_jax.faces.paste import paste
from lsap_jax.pixels import to_float
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.transforms import ScaleShift
from lsap_jax.runs.finished import FinishedJob
from lsap_jax.storage.atomic import sha256
from lsap_jax.storage.file_bytes import png_bytes
from lsap_jax.storage.results import read_code
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
IDS, R = ("a", "sub/b"), 16
QUAD = [[10.0, 5], [10, 45], [50, 45], [50, 5]]
EDIT = "random-0/2.png"


def half(share=1.0):
    """The right half of the picture."""
    mask = np.zeros((R, R), np.float32)
    mask[:, R // 2 :] = share
    return mask


@given(
    black=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=5),
    share=st.floats(0.1, 1),
    feather=st.floats(0, 0.5),
)
def test_a_mask_fades_in_from_its_black_pixels(black, share, feather):
    mask = np.full((12, 12), share, np.float32)
    for place in black:
        mask[place] = 0
    found = feathered(mask, feather)
    y, x = np.mgrid[:12, :12]
    way = np.min([np.hypot(y - a, x - b) for a, b in black], axis=0) - 0.5 if black else np.full((12, 12), 99.0)
    t = np.clip(way / (feather * 12), 0, 1) if feather > 1e-6 else (way > 0) * 1.0
    np.testing.assert_allclose(found, mask * (3 * t**2 - 2 * t**3), atol=1e-6)
    assert found.dtype == np.float32


def test_pictures_are_mixed_by_share():
    below, edited = tiny_images(2, R)
    mixed = laid_over(below, edited, half(0.5))
    np.testing.assert_array_equal(mixed[:, : R // 2], below[:, : R // 2])
    middle = (below[:, R // 2 :].astype(float) + edited[:, R // 2 :]) / 2
    assert mixed.dtype == np.uint8 and np.abs(mixed[:, R // 2 :] - middle).max() <= 0.5
    np.testing.assert_array_equal(laid_over(below, edited, np.ones((R, R), np.float32)), edited)


@pytest.fixture(scope="module")
def work(quick_compilation, tmp_path_factory):
    """g.safetensors, photographs with faces/ of them, a refined run of these, and masks/ of the first image alone."""
    folder = tmp_path_factory.mktemp("work")
    G = tiny_generator()
    G.save(folder / "g.safetensors")
    targets = []
    with opened(folder / "faces", dict.fromkeys(SETTINGS, R)) as faces:
        for id, pixels in zip(IDS, tiny_images(2, 64), strict=True):
            file = folder / f"{id[-1]}.png"
            file.write_bytes(png_bytes(pixels))
            targets.append(cut_out(pixels, np.array(QUAD), R))
            record = {"id": id, "input": str(file), "input_sha256": sha256(file.read_bytes()), "quad": QUAD}
            faces.write(record, png_bytes(targets[-1]))
        faces.finish()
    shift = np.linspace(-0.2, 0.2, 3, dtype=np.float32).reshape(1, 1, 3)
    own = Refinement(transforms={"b16.torgb": ScaleShift(scale=np.ones_like(shift), shift=shift)})
    write_run(folder / "run", G, folder / "g.safetensors", "w+", IDS, np.stack(targets), refinements=[own, own])
    (folder / "masks").mkdir()
    Image.fromarray(levels(half())[..., 0]).save(folder / "masks" / "a.png")
    assert edit(folder, "plain") == edit(folder, "masked", "--masks", folder / "masks") == 0
    return folder


def edit(work, out, *more):
    words = ["edit", work / "run", "--direction=random:0", "--strengths=0,2", "--out", work / out, *more]
    return main([str(word) for word in words])


def pixels(path):
    return np.array(Image.open(path))


def test_edits_are_laid_over_the_original(work):
    own, plain = (pixels(work / name / "images" / "a" / EDIT) for name in ("masked", "plain"))
    target = pixels(work / "run" / "targets" / "a.png")
    np.testing.assert_array_equal(own[:, : R // 2], target[:, : R // 2])
    np.testing.assert_array_equal(own[:, R // 2 + 1 :], plain[:, R // 2 + 1 :])
    assert (np.abs(target.astype(int) - plain).max((0, 2)) > 30).all()
    np.testing.assert_array_equal(own, laid_over(target, plain, feathered(half())))
    np.testing.assert_array_equal(pixels(work / "masked" / "masks" / "a.png")[..., None], levels(half()))


def test_strength_0_and_images_without_a_mask_are_as_ever(work):
    files = [("masked/images/a/random-0/0.png", "run/images/a.png")]
    files += [(f"masked/images/sub/b/{EDIT}", f"plain/images/sub/b/{EDIT}")]
    files += [(f"masked/codes/{id}/random-0/2.npz", f"plain/codes/{id}/random-0/2.npz") for id in IDS]
    for one, other in files:
        assert (work / one).read_bytes() == (work / other).read_bytes(), one
    assert not (work / "masked" / "masks" / "sub").exists()


def test_the_folder_says_so_and_verifies(work, capsys):
    assert json.loads((work / "masked" / "edit.json").read_text())["masks"] == {"feather": 0.02}
    assert "1 of 2 images, over the original" in (work / "masked" / "report.html").read_text()
    assert main(["verify", str(work / "masked")]) == 0
    assert "4 edits of 2 images rendered again: all match" in capsys.readouterr().out
    assert edit(work, "masked") == 2 and "masks.feather was 0.02, is 'absent'" in capsys.readouterr().err
    assert edit(work, "masked", "--masks", work / "masks") == 0
    assert "1 of 2 images have no mask" in capsys.readouterr().err


def half_seen(mask):
    """A mask [1, H, H] as edits read it."""
    small = Image.fromarray(levels(mask[0])[..., 0]).resize((R, R), Image.Resampling.LANCZOS)
    return feathered(np.asarray(small, np.float32) / 255)


def test_python_gives_the_same(work):
    G = lsap_jax.load_generator(work / "g.safetensors")
    code = {key: a[None] for key, a in read_code(work / "run", "a").items()}
    target = to_float(pixels(work / "run" / "targets" / "a.png"))[None]
    mask = half()[None].repeat(2, 1).repeat(2, 2)
    plain = lsap_jax.edit(G, "w+", code, "random:0", [0, 2])
    found = lsap_jax.edit(G, "w+", code, "random:0", [0, 2], masks=mask, originals=target)
    np.testing.assert_array_equal(found.images[0], plain.images[0])
    np.testing.assert_array_equal(found.images[1, 0], laid_over(target[0], plain.images[1, 0], half_seen(mask)))
    over_own = lsap_jax.edit(G, "w+", code, "random:0", [2], masks=mask)
    np.testing.assert_array_equal(over_own.images[0, 0], laid_over(*plain.images[:, 0], half_seen(mask)))
    for wrong in ({"masks": mask[0]}, {"masks": mask[:, 1:]}, {"masks": mask * 2}, {"originals": target}):
        with pytest.raises(LsapError, match="masks"):
            lsap_jax.edit(G, "w+", code, "random:0", [2], **wrong)


def test_in_the_photograph_nothing_changes_outside_of_the_mask(work):
    both = ("--masks", work / "masks", "--paste-back", work / "faces")
    assert edit(work, "pasted", *both) == 0
    photograph, found = pixels(work / "a.png"), pixels(work / "pasted" / "pasted" / "a" / EDIT)
    changed = (found != photograph).any(-1)
    assert changed[10:40, 34:46].mean() > 0.9 and not changed[:, :29].any()  # the square's left half ends at 30
    unlimited = pixels(work / "pasted" / "pasted" / "sub" / "b" / EDIT) != pixels(work / "b.png")
    assert unlimited.any(-1)[10:40, 14:28].mean() > 0.9


def test_a_soft_mask_counts_once_in_the_photograph(work):
    (work / "soft").mkdir()
    Image.fromarray(levels(half(0.5))[..., 0]).save(work / "soft" / "a.png")
    assert edit(work, "softly", "--masks", work / "soft", "--paste-back", work / "faces") == 0
    photograph, found = pixels(work / "a.png"), pixels(work / "softly" / "pasted" / "a" / EDIT)
    whole = paste(photograph, pixels(work / "softly" / "images" / "a" / EDIT), np.array(QUAD))
    np.testing.assert_array_equal(found[12:38, 36:44], whole[12:38, 36:44])
    assert (found != photograph)[12:38, 36:44].any()


def test_what_cannot_be_a_mask_fails_its_image_alone(work, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert edit(work, "broken", "--masks", tmp_path) == 1
    (failed,) = [json.loads(line) for line in (work / "broken" / "failures.jsonl").read_text().splitlines()]
    assert failed["id"] == "a" and failed["reason"].startswith("its mask: not an image")
    assert (work / "broken" / "images" / "sub" / "b" / EDIT).exists()
    for words, message in (
        (("--masks", work / "run"), "has no mask of any of the 2 images"),
        (("--feather=0.1",), "--feather belongs to --masks"),
        (("--masks", work / "masks", "--feather=0.7"), "--feather=0.7: is a part of the picture's side"),
    ):
        assert edit(work, "refused", *words) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert message in error
    assert not (work / "refused").exists()


def test_other_processes_limit_edits_in_the_same_way(work):
    """A worker that was sent elsewhere, as to an actor of Ray, fades in as widely."""
    G, space = lsap_jax.load_generator(work / "g.safetensors"), lsap_jax.parse_space("w+")
    series = [along(G, space, random_direction(G, space, 0), [2.0])]
    described = {"series": [{"labels": ["2"]}], "generator": {"img_resolution": R}}
    worker = EditWorker(G, space, series, 2, described, feather=0.25)
    sent = pickle.loads(pickle.dumps(worker.shipment()))()
    code = read_code(work / "run", "a")
    job = FinishedJob(id="a", image=np.zeros((R, R, 3), np.uint8), start=code, mask=half())
    (here,), (there,) = (one([job]) for one in (worker, sent))
    own = here.parts["edits"]["random-0"][0][1]
    np.testing.assert_array_equal(there.parts["edits"]["random-0"][0][1], own)
    whole = EditWorker(G, space, series, 2, described)([replace(job, mask=None)])[0].parts["edits"]["random-0"][0][1]
    np.testing.assert_array_equal(own, laid_over(job.image, whole, feathered(half(), 0.25)))
