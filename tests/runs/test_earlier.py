"""Runs of versions that did not know some of today's settings: resumed, refined, edited, measured and verified."""

import copy

import colour
import pytest
from PIL import Image

from lsap_jax.cli import main
from lsap_jax.configuration import filled, flat, load_config, recorded
from lsap_jax.editing.edit_worker import EditWorker
from lsap_jax.runs.refining import RefiningWorker
from lsap_jax.runs.run import InversionWorker
from lsap_jax.storage.results import read_manifest, read_run
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation", "quick_whitening")
COUNT = 3


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A run, without its last image, of a version that had neither `loss.noise` nor `noise_maps` nor `converge`."""
    colour.add_rows(monkeypatch)
    tiny_generator(discriminator=False).save(tmp_path / "g.safetensors")
    (tmp_path / "images").mkdir()
    for i, image in enumerate(tiny_images(COUNT - 1)):
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
    with monkeypatch.context() as patch:
        forget(patch, InversionWorker)
        assert main(invert(tmp_path)) == 0
    assert "noise" not in read_run(tmp_path / "run")["config"]["loss"]
    Image.fromarray(tiny_images(COUNT)[-1]).save(tmp_path / "images" / f"{COUNT - 1}.png")
    return tmp_path


def forget(patch, worker):
    """Has a worker describe itself as that version did."""
    describe = worker.describe

    def earlier(self):
        found = copy.deepcopy(describe(self))
        config = (found if "config" in found else found["run"])["config"]
        del config["loss"]["noise"], config["noise_maps"], config["converge"]
        return found

    patch.setattr(worker, "describe", earlier)


def invert(work, *more):
    words = ["invert", work / "images", "--generator", work / "g.safetensors", "--out", work / "run", "--space=w"]
    return [str(word) for word in (*words, "--steps=1", "--batch_size=1", "--config.chunk=2", *more)]


def test_they_go_on_and_serve_as_before(work, monkeypatch, capsys):
    assert main(invert(work)) == 0
    assert f"{COUNT} images done, {COUNT - 1} of them earlier" in capsys.readouterr().out
    assert main(invert(work, "--config.converge.patience=5")) == 2
    assert "config.converge.patience was 0, is 5" in capsys.readouterr().err
    run = str(work / "run")
    assert main(["verify", run]) == 0 and main(["evaluate", run]) == 0
    refine = ["refine", run, "--method=colour", "--out", str(work / "refined")]
    edit = ["edit", run, "--direction=random:0", "--strengths=0,1", "--out", str(work / "edits")]
    for words, worker in ((refine, RefiningWorker), (edit, EditWorker)):
        with monkeypatch.context() as patch:
            forget(patch, worker)
            assert main(words) == 0
        assert main(words) == 0
        assert f"{COUNT} of them earlier" in capsys.readouterr().out
    assert len(read_manifest(work / "edits")) == COUNT


def test_what_is_recorded_comes_before_the_defaults():
    plain = load_config("w", {"steps": 7, "loss.mse": 3.0}).to_dict()
    whole = flat(recorded(plain))
    assert whole == flat(load_config("w", {"steps": 7, "loss.mse": 3.0}))
    del plain["loss"]["pn"], plain["optimizer"]
    assert flat(recorded(plain)) == whole
    assert filled({}) == load_config("f/z+").to_dict()
    digest = {"init": {"codes": "0" * 64}}  # of --init, which is no key of a configuration
    assert filled(digest)["init"] == {**load_config("f/z+").init.to_dict(), **digest["init"]}
