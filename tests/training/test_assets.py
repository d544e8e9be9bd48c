"""The files that a bundled generator consists of."""

import json
from functools import partial

import jax
import numpy as np
import pytest

from lsap_jax.encoding.attach import with_encoder
from lsap_jax.models.attributes import Attributes, BinaryAttribute
from lsap_jax.models.attributes_file import load_attributes, save_attributes
from lsap_jax.models.generator_file import load_generator
from lsap_jax.models.invertibility import InvertibilityNetwork
from lsap_jax.models.network_file import attach, save
from lsap_jax.models.perceptual import discriminator_scale
from lsap_jax.models.psp import PspEncoder
from lsap_jax.models.psp import param_shapes as psp_shapes
from lsap_jax.networks.attributes import AttributesConfig, initial_params
from lsap_jax.networks.invertibility import InvertibilityConfig
from lsap_jax.networks.invertibility import param_shapes as invertibility_shapes
from lsap_jax.networks.psp import PspConfig
from lsap_jax.spaces.statistics import cache_places, compute_statistics, read_statistics
from lsap_jax.testing import random_leaves, tiny_generator, tiny_images
from lsap_jax.training import assets
from lsap_jax.training.initial import initial_params as initial_params_of

pytestmark = pytest.mark.usefixtures("quick_compilation")
HELDOUT, IMAGES = 20, 60
TINY = AttributesConfig(labels=(("colour", ("blue", "red")),), resolution=8, channels=3, widths=(4, 8))
SMALL = PspConfig(units=((16, 1), (16, 2), (16, 2)), taps=(0, 1, 2), input_resolution=8, num_ws=4, w_dim=16)
MAPS = InvertibilityConfig(
    resolutions=(4,), input_resolution=8, kernel=3, pooled=False, stem=4, stages=((4, 1, 1, (1,)),), rates=(1, 2),
    pyramid=4, low=4, decoder=4, features=4, head=2,
)  # fmt: skip
WARM = BinaryAttribute("colour", ("red",), ("blue",))


@pytest.fixture(scope="module")
def made(tmp_path_factory, quick_compilation):
    """(folder that was written, generator, data, arguments)."""
    folder = tmp_path_factory.mktemp("assets")
    provenance = {"name": "tiny", "images_seen": 4, "config": {"data": str(folder / "data.npz"), "init": ""}}
    G = tiny_generator(img_resolution=8).replace(provenance_json=json.dumps(provenance))
    G.save(folder / "g.safetensors")
    E = PspEncoder(config=SMALL, params=initial_params_of(psp_shapes(SMALL), 0))
    save(
        folder / "e.safetensors", E, {"name": "train_e4e", "images_seen": 8, "config": {"stages": {}, "data": "d.npz"}}
    )
    params = random_leaves(invertibility_shapes(MAPS), np.random.default_rng(1))
    trained = {"name": "train_sam", "images_seen": 6, "config": {"method": "sam", "data": "d.npz"}}
    save(folder / "r.safetensors", InvertibilityNetwork(config=MAPS, params=params), trained)
    judge = Attributes(config=TINY, params=initial_params(TINY, jax.random.key(0)), binary={"warm": WARM})
    owner = {"name": "tiny", "sha256": G.network_sha256}
    judge = judge.replace(provenance={"accuracy": {"colour": 0.5}, "generator": owner})
    save_attributes(folder / "a.safetensors", judge)
    (folder / "d.safetensors").write_bytes(b"directions")
    data = {
        "images": tiny_images(IMAGES, 8),
        "ids": np.array([f"k{i}" for i in range(IMAGES)]),
        "label_colour": np.array(["blue", "red"] * (IMAGES // 2)),
    }
    np.savez(folder / "data.npz", **data)
    out = folder / "out"
    out.mkdir()
    before = tiny_generator(seed=5, img_resolution=8)
    before.save(out / "tiny.safetensors")
    (out / cache_places(before)[0].name).write_bytes(b"of the generator before")
    scales = {before.bare("discriminator").sha256: 0.5, "another generator's": 0.25}
    (out / "discriminator_scales.json").write_text(json.dumps(scales))
    arguments = {"generator": "g", "encoder": "e", "refiner": "r", "attributes": "a", "directions": "d"}
    argv = [f"--{name}={folder / file}.safetensors" for name, file in arguments.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "compute_statistics", partial(compute_statistics, samples=200, anchor_samples=100))
        patch.setattr(assets, "write_model_card", partial(assets.write_model_card, samples=20))
        patch.setattr(assets, "JUDGED", 40)
        argv += [f"--data={folder / 'data.npz'}", f"--heldout={HELDOUT}", f"--out={out}", "--credit=Nobody"]
        assert assets.main(argv) == 0
    network = InvertibilityNetwork(config=MAPS, params=params)
    return out, attach(with_encoder(G, E), network), data, argv


def test_everything_that_belongs_to_a_generator_is_there(made):
    out, G, data, _ = made
    found = load_generator(out / "tiny.safetensors")
    assert found.sha256 == G.sha256 and found.provenance["config"]["data"] == "data.npz"
    (statistics,) = out.glob("*.statistics")
    assert read_statistics(statistics, found) is not None and statistics.name.startswith(found.network_sha256[:16])
    own = pytest.approx(discriminator_scale(found), rel=1e-6)
    scales = json.loads((out / "discriminator_scales.json").read_text())
    assert scales == {"another generator's": 0.25, found.bare("discriminator").sha256: own}
    assert load_attributes(out / "tiny.attributes.safetensors").accuracy == {"colour": 0.5}
    assert (out / "tiny.directions.safetensors").read_bytes() == b"directions"
    names = {path.stem for path in (out / "samples").iterdir()}
    assert len(names) == assets.SAMPLES and names <= set(data["ids"][-HELDOUT:])


def test_the_card_says_what_the_classifier_sees(made):
    out, *_ = made
    card = (out / "MODEL_CARD.md").read_text()
    assert "Credit: Nobody" in card and "## Attributes of 40 samples" in card and "colour 50.0 %" in card
    assert "- Encoder: 8 training images seen (train_e4e)." in card
    assert "- Networks of SAM: 6 training images seen (train_sam)." in card
    assert card.count("points (") == len(TINY.labels)


def test_what_does_not_fit_is_refused(made, tmp_path, capsys):
    *_, data, argv = made
    tiny_generator(seed=6, img_resolution=8).save(tmp_path / "g.safetensors")
    assert assets.main([*argv, f"--generator={tmp_path / 'g.safetensors'}"]) == 2
    assert "judges another generator than" in capsys.readouterr().err
    np.savez(tmp_path / "d.npz", images=data["images"], ids=data["ids"])
    assert assets.main([*argv, f"--data={tmp_path / 'd.npz'}"]) == 2
    assert "has no label_colour" in capsys.readouterr().err
    assert assets.main([*argv, f"--directions={tmp_path / 'absent'}"]) == 2
    assert "find-directions" in capsys.readouterr().err


def test_a_file_without_such_networks_is_refused(made, tmp_path, capsys):
    *_, argv = made
    generator = next(one for one in argv if one.startswith("--generator="))
    assert assets.main([*argv, generator.replace("--generator", "--encoder")]) == 2
    assert "not an encoder that `lsap-jax train-encoder` made" in capsys.readouterr().err
    assert assets.main([*argv, generator.replace("--generator", "--refiner")]) == 2
    assert "not networks that `lsap-jax train-refiner` made" in capsys.readouterr().err


def test_what_does_not_exist_is_one_line(tmp_path, capsys):
    argv = [f"--{name}={tmp_path / 'absent'}" for name in ("generator", "attributes", "directions", "data", "out")]
    assert assets.main(argv) == 2
    assert capsys.readouterr().err.startswith("assets: ")
