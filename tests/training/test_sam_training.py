"""Training SAM's network: shapes for generators, maps that are kept, a whole training, its files."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from refiner_trainings import PYRAMID, with_encoder, written_pack

import lsap_jax
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Networks
from lsap_jax.models.network_file import load
from lsap_jax.networks.invertibility import InvertibilityConfig
from lsap_jax.networks.parameters import count
from lsap_jax.testing import tiny_generator, tiny_images
from lsap_jax.training import sam
from lsap_jax.training.refiner import train_refiner

pytestmark = pytest.mark.usefixtures("quick_compilation", "tiny_size")

TINY = {
    "kernel": 3, "pooled": False, "stem": 8, "stages": ((4, 1, 1, (1,)),), "rates": (1, 2), "pyramid": 8, "low": 4,
    "decoder": 8, "features": 4, "head": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny_size():
    """New networks are a row of the table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sam.SIZES, "tiny", TINY)
        yield


@pytest.fixture(scope="module")
def G():
    return with_encoder(**PYRAMID)


def config(**changes):
    own = load_config("train_sam", {"network.size": "tiny", "heldout": 4, "images": 8, "map_steps": 3})
    own.update_from_flattened_dict({
        "total_images": 80, "snapshot_images": 40, "train.batch_size": 4, "train.lr": 1e-2, "generator": "tiny",
        "loss.mvg": 0.0, **changes,
    })  # fmt: skip
    return own


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return written_pack(tmp_path_factory.mktemp("data"), 16)


def test_networks_for_a_generator(G):
    def shape(R, **changes):
        own = load_config("train_sam", {"images": 16, **changes})
        return sam.task_for(own, tiny_generator(img_resolution=R, discriminator=False)).shape

    assert shape(256) == InvertibilityConfig()
    small = shape(64)
    assert small.resolutions == (16, 32) and small.input_resolution == 64
    assert 2 * count(sam.param_shapes(small)) < 0.5e6  # bytes in float16
    assert shape(16).resolutions == (8,) and shape(64, **{"network.layers": "8,16"}).resolutions == (8, 16)
    lpips = {"perceptual.weights": "lpips.safetensors"}
    assert shape(64, **lpips) == small and shape(512, **lpips).input_resolution == 256
    with pytest.raises(LsapError, match="perceptual.resolution=512: maps are of 256 px; set it to 256"):
        shape(512, **lpips, **{"perceptual.resolution": 512})
    for wrong, message in (
        ({"network.size": "huge"}, "network.size='huge': choose auto, public, small"),
        ({"network.layers": "64"}, "64 is not the resolution of a block"),
        ({"images": 3}, "images=3: at least 1 step, and images for a batch of 16"),
        ({"train.optimizer": "lion"}, "train.optimizer='lion': choose sgd or adam"),
        ({"loss.perceptual": 0.0}, "predicts perceptual distances; give it a weight"),
    ):
        with pytest.raises(LsapError, match=message):
            shape(64, **wrong)


def test_blur_keeps_means_and_leaves_some_images():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((16, 12, 12, 3)), jnp.float32)
    found = np.asarray(sam.blurred(x, jax.random.key(0), 0.5))
    same = (found == np.asarray(x)).all((1, 2, 3))
    assert 2 < same.sum() < 14
    np.testing.assert_array_equal(sam.blurred(x, jax.random.key(0), 0.0), x)
    np.testing.assert_allclose(sam.blurred(jnp.ones_like(x), jax.random.key(1), 1.0), 1, rtol=1e-5)
    assert np.var(np.diff(found[~same], axis=1)) < 0.7 * np.var(np.diff(np.asarray(x)[~same], axis=1))


@pytest.mark.parametrize("optimizer", [pytest.param("sgd", marks=pytest.mark.slow), "adam"])
def test_a_step_fits_maps_and_moves_everything(G, optimizer):
    task = sam.task_for(config(total_images=4000, **{"train.blur": 0.0, "train.optimizer": optimizer}), G)
    x = jnp.asarray(tiny_images(4) / 127.5 - 1, jnp.float32)
    maps = jnp.stack([jnp.abs(x[..., 0]), 0.2 + 0 * x[..., 0]], -1)
    state, networks = sam.first_state(task, Networks(generator=G), 0, np.asarray(maps)), Networks(generator=G.bare())
    step, before = jax.jit(sam.sam_step, static_argnums=0), flatten_dict(state.params)
    losses = []
    for number in range(200):
        state, logs = step(task, networks, state, (x, maps), number, jax.random.key(number))
        losses.append(float(logs["loss"]))
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    after = flatten_dict(state.params)
    assert not [path for path, leaf in before.items() if np.array_equal(leaf, after[path])]


@pytest.mark.slow
def test_a_training_writes_a_network_that_refines(G, pack, tmp_path):
    said = []
    train_refiner(config(data=pack), G, tmp_path, said.append)
    assert sorted(path.name for path in (tmp_path / "maps").rglob("*.npy")) == ["000000.npy", "000000.npy"]
    kept = np.load(tmp_path / "maps" / "train" / "000000.npy")
    assert kept.shape == (8, 16, 16, 2) and (kept >= 0).all() and kept.std() > 0
    with open(tmp_path / "validation.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() == {"images", "maps_mse", "spread", "maps_mse_W+", "maps_mse_F2"} and len(rows) == 2
    network = load(tmp_path / "refiner.safetensors", "invertibility")
    joined = lsap_jax.load_generator(tmp_path / "generator.safetensors")
    assert joined.parts["invertibility"].config == network.config
    inv = lsap_jax.encode(joined, None, tiny_images(1))
    found = lsap_jax.refine(joined, inv, tiny_images(1), "sam", steps=2, mvg=0.0, segments="grid")
    assert found.method["options"]["maps"] == "network"

    # What goes on ends at the same network, and fits no image again.
    other = tmp_path / "other"
    train_refiner(config(data=pack), G, other, lambda _: None, stop_after=1e-9)
    assert (other / "refiner.safetensors").read_bytes() != (tmp_path / "refiner.safetensors").read_bytes()
    said.clear()
    train_refiner(config(data=pack), G, other, said.append)
    assert (other / "refiner.safetensors").read_bytes() == (tmp_path / "refiner.safetensors").read_bytes()
    assert not [line for line in said if line.startswith("fitted")]


@pytest.mark.slow
def test_samples_of_the_generator_are_fitted_where_there_are_no_images(G, tmp_path):
    train_refiner(config(total_images=8, snapshot_images=8), G, tmp_path, lambda _: None)
    assert np.load(tmp_path / "maps" / "train" / "000000.npy").shape == (8, 16, 16, 2)
