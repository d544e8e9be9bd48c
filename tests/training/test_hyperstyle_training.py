"""Training HyperStyle's hypernetwork: shapes for generators, the gradient of a step, a whole training, its files."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from refiner_trainings import (
    SINGLE,
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
from lsap_jax.losses.judges import Networks
from lsap_jax.losses.pixel import mse
from lsap_jax.models.hyperstyle import HyperStyle
from lsap_jax.networks.convolution import Kernel
from lsap_jax.networks.hyperstyle import HyperConfig, HyperNetwork
from lsap_jax.networks.irse import BATCH
from lsap_jax.refinement.hyperstyle import weights_of
from lsap_jax.rendering.render import synthesise
from lsap_jax.spaces import parse_space
from lsap_jax.testing import tiny_generator, tiny_images
from lsap_jax.training import hyperstyle
from lsap_jax.training.refiner import train_refiner

pytestmark = pytest.mark.usefixtures("quick_compilation", "tiny_sizes")

# All layers of the tiny generator have 8 features: with "tiny" they use the shared head, with "apart" none does.
TINY = {"stem": 4, "units": ((6, 2), (6, 2)), "shared_code": 5, "shared_convs": ((4, 2), (4, 1)), "convs": ((4, 2),)}


@pytest.fixture(scope="module")
def tiny_sizes():
    """New networks are a row of the table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(hyperstyle.SIZES, "tiny", TINY)
        patch.setitem(hyperstyle.SIZES, "apart", {**TINY, "shared": 0})
        yield


@pytest.fixture(scope="module")
def G():
    return with_encoder(**SINGLE)


def config(**changes):
    own = load_config("train_hyperstyle", {"network.size": "tiny", "network.passes": 2, "heldout": 6})
    own.update_from_flattened_dict({
        "total_images": 24, "snapshot_images": 8, "train.batch_size": 4, "train.lr": 1e-2, "generator": "tiny",
        "loss.identity": 0.0, "network.layers": ("b4.conv1", "b8.conv0", "b16.conv1"), **changes,
    })  # fmt: skip
    return own


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return written_pack(tmp_path_factory.mktemp("data"), 22)


@pytest.fixture(scope="module")
def trained(quick_compilation, tiny_sizes, G, pack, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "whole"
    train_refiner(config(data=pack), G, out, lambda _: None)
    return out


def floats(count):
    return jnp.asarray(tiny_images(count) / 127.5 - 1, jnp.float32)


def test_networks_for_a_generator():
    def shape(R, size="auto", layers=(), passes=5, **own):
        options = ConfigDict(dict(size=size, layers=layers, passes=passes))
        return hyperstyle.shape_for(tiny_generator(img_resolution=R, discriminator=False, **own), options)

    every = tuple((index, 8, 8) for index in (0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18))
    assert shape(256) == HyperConfig(slots=every, shared=8)
    assert (shape(128).input_resolution, shape(64).stem, shape(32).input_resolution) == (64, 24, 32)
    some = shape(16, layers=("b8.conv1", "b4.conv1"), img_channels=1, passes=3)
    assert (some.slots, some.in_channels, some.passes) == (((0, 8, 8), (3, 8, 8)), 2, 3)
    for wrong, message in (
        ({"size": "huge"}, "network.size='huge': choose auto, public, small"),
        (
            {"layers": ("b8.torgb",)},
            "network.layers='b8.torgb': no such convolution; this generator has b4",
        ),
        ({"passes": 0}, "it needs one or more, and one pass or more"),
    ):
        with pytest.raises(LsapError, match=message):
            shape(16, **wrong)
    with pytest.raises(LsapError, match="train.noise_mode='random': choose const or none"):
        hyperstyle.task_for(config(**{"train.noise_mode": "random"}), tiny_generator())


@pytest.mark.parametrize("size", [pytest.param("tiny", marks=pytest.mark.slow), "apart"])
def test_a_step_adds_the_gradients_of_its_passes(G, size, monkeypatch):
    """Against a loop over the passes, on the original weights: the step is given frozen ones."""
    task = hyperstyle.task_for(config(**{"network.size": size, "loss.perceptual": 0.0}), G)
    monkeypatch.setattr(hyperstyle, "optimizer", lambda train: optax.sgd(1.0))
    names, space, x = hyperstyle.changed(task, G), parse_space("w+"), floats(2)
    params = jax.tree.map(lambda a: a + 0.02, hyperstyle.first_params(task.shape, 0))
    state = hyperstyle.HyperStyleState(params=params, optimizer=optax.sgd(1.0).init(params))
    networks = Networks(generator=G.bare("psp")).freeze(changed=names)
    blocks = networks.generator.params["synthesis"]
    assert isinstance(blocks["b8"]["conv1"]["weight"], Kernel) and blocks["b4"]["conv1"]["weight"].shape == (3, 3, 8, 8)
    step = jax.jit(hyperstyle.hyperstyle_step, static_argnums=0)
    moved, logs = step(task, networks, state, x, 0, jax.random.key(0))

    decoded = space.decode(G, {"w": G.encoder(x, G)})
    network = HyperStyle(config=task.shape, params={})

    def shown(changes):
        return synthesise(G, decoded, weights_of(changes))

    @jax.jit
    def pass_of(params, changes):
        beside = jnp.concatenate([x, shown(changes)], axis=-1)

        def loss(params):
            found, batch = HyperNetwork(task.shape).apply({"params": params}, beside, mutable=[BATCH])
            own = {name: changes[name] + one for name, one in zip(names, found, strict=True)}
            return mse(shown(own), x).mean(), (own, batch[BATCH])

        (value, (own, batch)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return value, own, grads, hyperstyle.moved_statistics(params, batch)

    taps = 1 if size == "apart" else 3
    changes, losses, slopes = {name: jnp.zeros((2, taps, taps, 8, 8)) for name in names}, [], []
    for _ in range(2):
        value, changes, grads, params = pass_of(params, changes)
        losses.append(value)
        slopes.append(grads)
    expected = jax.tree.map(lambda p, *g: p - sum(g), params, *slopes)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4), moved.params, expected)
    assert float(logs["loss"]) == pytest.approx(float(sum(losses)), rel=1e-4)
    assert float(logs["mse"]) == pytest.approx(float(losses[-1]), rel=1e-4)
    assert set(network.parameters(G.config)) == set(changes)


def test_a_training_begins_at_the_images_of_the_codes(G):
    check_start(hyperstyle, hyperstyle.task_for(config(), G), G)


@pytest.mark.slow
def test_devices_share_a_batch(G):
    """XLA's own division of a step has gradients to weights of single images that are wrong; losses agree."""
    check_devices(hyperstyle, hyperstyle.hyperstyle_step, hyperstyle.task_for(config(**{"loss.perceptual": 0.0}), G), G)


@pytest.mark.slow
def test_every_weight_and_statistic_moves(trained, G):
    first = hyperstyle.first_params(hyperstyle.task_for(config(), G).shape, 0)
    check_all_moves(first, trained / "refiner.safetensors", "hyperstyle")


@pytest.mark.slow
def test_a_killed_training_goes_on_as_an_uninterrupted_one(trained, G, pack, tmp_path):
    check_goes_on(config(data=pack, total_images=16), config(data=pack), G, trained, tmp_path)


@pytest.mark.slow
def test_what_a_training_writes_refines(trained, G, pack):
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert {"loss", "mse", "perceptual"} <= lines[-1].keys() and lines[-1]["images"] == 24
    assert (trained / "curves.svg").is_file() and len(list((trained / "samples").iterdir())) == 3
    with open(trained / "validation.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() == {"images", "mse", "psnr", "codes_mse", "perceptual"} and len(rows) == 3
    joined = lsap_jax.load_generator(trained / "generator.safetensors")
    assert joined.without("hyperstyle").sha256 == G.bare("discriminator", "psp").sha256
    assert joined.provenance["hyperstyle"]["images_seen"] == 24
    images = tiny_images(22)[-6:]
    inv = lsap_jax.encode(joined, None, images)
    found = lsap_jax.refine(joined, inv, images, "hyperstyle", dtype="float32")
    assert found.metrics["mse"].mean() == pytest.approx(float(rows[-1]["mse"]), rel=1e-3)
    assert inv.metrics["mse"].mean() == pytest.approx(float(rows[-1]["codes_mse"]), rel=1e-3)


@pytest.mark.slow
def test_more_steps_bring_images_closer(G, pack, tmp_path):
    """On images that it was trained with, the error falls well below that of the codes alone."""
    train_refiner(config(data=pack, total_images=1600, snapshot_images=1600), G, tmp_path, lambda _: None)
    joined = lsap_jax.load_generator(tmp_path / "generator.safetensors")
    images = tiny_images(22)[:8]
    inv = lsap_jax.encode(joined, None, images)
    assert lsap_jax.refine(joined, inv, images, "hyperstyle").metrics["mse"].mean() < 0.8 * inv.metrics["mse"].mean()


@pytest.mark.slow
def test_the_command_stores_float16_and_refine_takes_its_file(G, pack, tmp_path, capsys):
    G.save(tmp_path / "g.safetensors")
    changes = {"total_images": 4, "network.size": "tiny", "heldout": 6, "data": pack, "float16": True}
    changes |= {"train.batch_size": 4, "loss.identity": 0.0, "loss.perceptual": 0.0}
    words = [f"--config.{key}={value}" for key, value in changes.items()]
    words += ["--config=train_hyperstyle", "--generator", str(tmp_path / "g.safetensors"), "--out", str(tmp_path / "t")]
    assert main(["train-refiner", *words]) == 0
    file = tmp_path / "t" / "refiner.safetensors"
    assert str(file) in capsys.readouterr().out
    inv = lsap_jax.encode(G, None, tiny_images(2))
    found = lsap_jax.refine(G, inv, tiny_images(2), "hyperstyle", weights=str(file))
    assert np.isfinite(found.images).all()
