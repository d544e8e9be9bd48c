"""`lsap-jax invert --masks --context` with IDInvert's generator and encoder: semantic diffusion of a folder."""

import numpy as np
import pytest
from PIL import Image

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.data.context import composed
from lsap_jax.models.idinvert import IdinvertEncoder
from lsap_jax.models.network_file import attach
from lsap_jax.networks import idinvert
from lsap_jax.networks.latent_encoder import LatentEncoderConfig
from lsap_jax.storage.results import read_code, read_manifest, read_run
from lsap_jax.testing import random_leaves, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")
IDS = ("a", "b")


def run(*argv) -> int:
    return main([str(a) for a in argv])


@pytest.fixture(scope="module")
def work(quick_compilation, tmp_path_factory):
    """A folder with g.safetensors, targets/, masks/, context.png and the run out/ of them."""
    folder = tmp_path_factory.mktemp("diffusion")
    config = LatentEncoderConfig(num_ws=6, w_dim=16, widths=(4, 4, 4))
    params = random_leaves(idinvert.param_shapes(config), np.random.default_rng(0))
    G = tiny_generator(family="stylegan1", discriminator=False)
    attach(G, IdinvertEncoder(config=config, params=params)).save(folder / "g.safetensors")
    (folder / "targets").mkdir()
    (folder / "masks").mkdir()
    for k, (id, image) in enumerate(zip(IDS, tiny_images(3), strict=False)):
        Image.fromarray(image).save(folder / "targets" / f"{id}.png")
        mask = np.zeros((16, 16), np.uint8)
        mask[4 : 12 + k, 4:12] = 255
        Image.fromarray(mask).save(folder / "masks" / f"{id}.png")
    Image.fromarray(tiny_images(3)[2]).save(folder / "context.png")
    assert invert(folder, folder / "out") == 0
    return folder


def invert(folder, out, *more) -> int:
    options = ("--config=idinvert_diffusion", "--steps=3", "--batch_size=2", "--generator", folder / "g.safetensors")
    masks = ("--masks", folder / "masks", "--context", folder / "context.png")
    return run("invert", folder / "targets", *options, *masks, "--out", out, *more)


def test_the_inside_of_each_target_is_on_the_context(work):
    masks = np.stack([np.asarray(Image.open(work / "masks" / f"{id}.png")) for id in IDS]) / np.float32(255)
    both = np.stack([composed(tiny_images(3)[k], tiny_images(3)[2], mask) for k, mask in enumerate(masks)])
    for k, id in enumerate(IDS):
        np.testing.assert_array_equal(np.asarray(Image.open(work / "out" / "targets" / f"{id}.png")), both[k])
        assert "inverted on a context under a mask" in read_manifest(work / "out")[id]["notes"][-1]
    record = read_run(work / "out")
    assert record["masked"] is True and record["config"]["loss"]["domain"] == 0
    G = lsap_jax.load_generator(work / "g.safetensors")
    found = lsap_jax.invert(G, both, "idinvert_diffusion", ids=IDS, masks=masks, steps=3, batch_size=2)
    plain = lsap_jax.invert(G, both, "idinvert_diffusion", ids=IDS, steps=3, batch_size=2)
    for k, id in enumerate(IDS):
        np.testing.assert_array_equal(read_code(work / "out", id)["w"], found.codes["w"][k])
    assert np.abs(plain.codes["w"] - found.codes["w"]).max() > 1e-3
    assert run("verify", work / "out") == 0


def test_another_context_is_another_run_and_what_is_missing_is_said(work, tmp_path, capsys):
    (tmp_path / "contexts").mkdir()
    Image.fromarray(tiny_images(4)[3]).save(tmp_path / "contexts" / "a.png")
    masks = ("--masks", work / "masks")
    other = ("--context", tmp_path / "contexts")
    assert invert(work, tmp_path / "out", *other) == 1
    assert (tmp_path / "out" / "failures.jsonl").read_text().count("its context: ") == 1
    assert list(read_manifest(tmp_path / "out")) == ["a"]
    capsys.readouterr()
    lines = (work / "out" / "manifest.jsonl").read_bytes()
    assert invert(work, work / "out") == 0
    assert invert(work, work / "out", "--context", tmp_path / "contexts" / "a.png") == 2
    assert "has changed" in capsys.readouterr().err
    assert invert(work, tmp_path / "out", "--context", work / "nothing.png") == 2
    assert "is neither a picture nor a folder of pictures" in capsys.readouterr().err
    start = ("invert", work / "targets", "--generator", work / "g.safetensors", "--out", tmp_path / "other")
    assert run(*start, *other) == 2
    assert "needs --masks" in capsys.readouterr().err
    assert run(*start, *other, *masks, "--refine=pti") == 2
    assert "is for inversions without --refine" in capsys.readouterr().err
    assert (work / "out" / "manifest.jsonl").read_bytes() == lines
