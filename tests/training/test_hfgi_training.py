"""Training HFGI's networks: shapes for generators, a step that leaves all else alone, a whole training, its files."""

import csv
import json

import pytest
from ml_collections import ConfigDict
from refiner_trainings import (
    PYRAMID,
    check_all_moves,
    check_devices,
    check_goes_on,
    check_start,
    with_encoder,
    written_pack,
)

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.networks.hfgi import HfgiConfig
from lsap_jax.networks.parameters import count
from lsap_jax.testing import tiny_generator, tiny_images
from lsap_jax.training import hfgi
from lsap_jax.training.refiner import train_refiner

pytestmark = pytest.mark.usefixtures("quick_compilation", "tiny_size")

TINY = {
    "stem": 4, "stages": ((6, 2, 1),), "head_width": 6, "aligner_stem": 4, "aligner_stages": ((6, 2, 1), (8, 2, 1)),
    "rises": ((8, 6), (4, 3)),
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny_size():
    """New networks are a row of the table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(hfgi.SIZES, "tiny", TINY)
        yield


@pytest.fixture(scope="module")
def G():
    return with_encoder(**PYRAMID)


def config(**changes):
    own = load_config("train_hfgi", {"network.size": "tiny", "network.resolution": 8, "heldout": 6})
    own.update_from_flattened_dict({
        "total_images": 24, "snapshot_images": 8, "train.batch_size": 4, "train.lr": 1e-2, "generator": "tiny",
        "loss.identity": 0.0, **changes,
    })  # fmt: skip
    return own


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return written_pack(tmp_path_factory.mktemp("data"), 22)


@pytest.fixture(scope="module")
def trained(quick_compilation, tiny_size, G, pack, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "whole"
    train_refiner(config(data=pack), G, out, lambda _: None)
    return out


def test_networks_for_a_generator():
    def shape(R, size="auto", resolution=0, **own):
        return hfgi.shape_for(
            tiny_generator(img_resolution=R, discriminator=False, **own),
            ConfigDict(dict(size=size, resolution=resolution)),
        )

    assert shape(256) == HfgiConfig(channels=8)
    small = shape(64)
    assert (small.resolution, small.input_resolution, small.channels) == (16, 64, 8)
    assert shape(8).resolution == 8 and shape(32, img_channels=1).rises[-1] == (16, 1)
    assert 2 * count(hfgi.hfgi.param_shapes(HfgiConfig(**{**vars(small), "channels": 128}))) < 1.3e6  # bytes in float16
    for wrong, message in (
        ({"size": "huge"}, "network.size='huge': choose auto, public, small"),
        ({"resolution": 32}, "block of 32 px, this generator has blocks of 4, 8, 16 px"),
    ):
        with pytest.raises(LsapError, match=message):
            shape(16, **wrong)


def test_a_training_begins_at_the_images_of_the_codes(G):
    check_start(hfgi, hfgi.task_for(config(), G), G)


@pytest.mark.slow
def test_devices_share_a_batch(G):
    check_devices(hfgi, hfgi.hfgi_step, hfgi.task_for(config(**{"loss.perceptual": 0.0}), G), G)


@pytest.mark.slow
def test_every_weight_and_statistic_moves(trained, G):
    first = hfgi.first_params(hfgi.task_for(config(), G).shape, 0)
    check_all_moves(first, trained / "refiner.safetensors", "hfgi")


@pytest.mark.slow
def test_a_killed_training_goes_on_as_an_uninterrupted_one(trained, G, pack, tmp_path):
    check_goes_on(config(data=pack, total_images=16), config(data=pack), G, trained, tmp_path)


@pytest.mark.slow
def test_what_a_training_writes_refines(trained, G, pack):
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert {"loss", "mse", "perceptual", "residual"} <= lines[-1].keys() and lines[-1]["images"] == 24
    with open(trained / "validation.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() == {"images", "mse", "psnr", "codes_mse", "perceptual"} and len(rows) == 3
    joined = lsap_jax.load_generator(trained / "generator.safetensors")
    assert joined.without("hfgi").sha256 == G.bare("discriminator", "psp").sha256
    assert joined.provenance["hfgi"]["images_seen"] == 24
    inv = lsap_jax.encode(joined, None, tiny_images(22)[-6:])
    found = lsap_jax.refine(joined, inv, tiny_images(22)[-6:], "hfgi")
    assert found.metrics["mse"].mean() == pytest.approx(float(rows[-1]["mse"]), rel=1e-3)
    assert inv.metrics["mse"].mean() == pytest.approx(float(rows[-1]["codes_mse"]), rel=1e-3)


@pytest.mark.slow
def test_more_steps_bring_details_back(G, pack, tmp_path):
    """On images that it was trained with, the error falls well below that of the codes alone."""
    changes = {"total_images": 2400, "snapshot_images": 2400, "perspective.chance": 0.0}
    train_refiner(config(data=pack, **changes), G, tmp_path, lambda _: None)
    joined = lsap_jax.load_generator(tmp_path / "generator.safetensors")
    images = tiny_images(22)[:8]
    inv = lsap_jax.encode(joined, None, images)
    assert lsap_jax.refine(joined, inv, images, "hfgi").metrics["mse"].mean() < 0.7 * inv.metrics["mse"].mean()


@pytest.mark.slow
def test_the_command_stops_and_refine_takes_its_file(G, pack, tmp_path, capsys):
    G.save(tmp_path / "g.safetensors")
    changes = {"total_images": 4, "network.size": "tiny", "network.resolution": 8, "heldout": 6, "data": pack}
    changes |= {"train.batch_size": 4, "loss.identity": 0.0, "loss.perceptual": 0.0}
    words = [f"--config.{key}={value}" for key, value in changes.items()]
    words += ["--config=train_hfgi", "--generator", str(tmp_path / "g.safetensors"), "--out", str(tmp_path / "t")]
    assert main(["train-refiner", *words]) == 0
    assert str(tmp_path / "t" / "refiner.safetensors") in capsys.readouterr().out
