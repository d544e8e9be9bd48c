"""The frame of training refiners, with the smallest method: resumed, on images and on samples, stopped, refused."""

import csv
import json
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.errors import LsapError
from lsap_jax.losses.pixel import mse
from lsap_jax.models.network_file import load
from lsap_jax.models.psp import PspEncoder
from lsap_jax.networks.irse import adaptive_average
from lsap_jax.networks.psp import PspConfig, param_shapes
from lsap_jax.refinement.methods import REFINERS, Method
from lsap_jax.testing import tiny_generator, tiny_images
from lsap_jax.training import hfgi, hyperstyle, refiner
from lsap_jax.training.encoder import judged
from lsap_jax.training.initial import initial_params
from lsap_jax.training.on_images import check_judge, side_for
from lsap_jax.training.psp_step import PspTraining
from lsap_jax.training.refiner import Training, train_refiner

pytestmark = pytest.mark.usefixtures("quick_compilation", "method")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Moves the mean w of the encoder that comes with the generator, which is its own companion of kind "psp"."""

    side: int
    shape: PspConfig
    train: PspTraining = field(default_factory=PspTraining)


def first(task, networks, seed, params=None):
    E = networks.generator.parts["psp"]
    return E if params is None else E.replace(params=params)


def judge(task, networks, E, x):
    y = adaptive_average(networks.generator.synthesis(E(x, networks.generator)), task.side)
    return {"mse": mse(y, x)}, (y,)


def step(task, networks, E, x, number, rng):
    def loss(w_avg):
        return judge(task, networks, E.replace(params={**E.params, "w_avg": w_avg}), x)[0]["mse"].mean()

    value, slope = jax.value_and_grad(loss)(E.params["w_avg"])
    moved = {**E.params, "w_avg": E.params["w_avg"] - task.train.lr * slope}
    return E.replace(params=moved), {"loss": value}


ROW = Training(
    terms=("mse", "perceptual"),
    task=lambda config, G: Task(side=G.img_resolution, shape=G.parts["psp"].config, train=PspTraining(**config.train)),
    first=first,
    step=step,
    part=lambda task, E: jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), E),
    judge=judge,
)


@pytest.fixture(scope="module")
def method():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(refiner.TRAININGS, "mean", ROW)
        patch.setitem(REFINERS, "mean", Method(make=lambda *given: None))  # what it would refine with is not tested
        yield


@pytest.fixture(scope="module")
def G(tiny):
    shape = PspConfig(
        num_ws=6, w_dim=16, units=((16, 2), (16, 2), (16, 2)), taps=(0, 1, 2), head_convs=(1, 2, 3), input_resolution=16
    )
    params = {"encoder": initial_params(param_shapes(shape), 0), "w_avg": jnp.tile(tiny.w_avg, (6, 1))}
    return tiny.bare("discriminator").with_part("psp", PspEncoder(config=shape, params=params))


def config(**changes):
    own = ConfigDict(
        dict(
            name="mean", method="mean", generator="tiny", encoder="", seed=0, init="", total_images=24,
            snapshot_images=8, data="", extra_data=(), heldout=4, generator_file=True,
            loss=dict(mse=1.0, perceptual=0.0),
            train=dict(batch_size=4, lr=0.1, noise_mode="const", mirror=True, precision="default"),
        )
    )  # fmt: skip
    own.update_from_flattened_dict(changes)
    return own


def silent(_):
    pass


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_killed_training_goes_on_as_an_uninterrupted_one(G, tmp_path):
    np.savez(tmp_path / "pack.npz", images=tiny_images(18))
    data, lines = {"data": str(tmp_path / "pack.npz")}, []
    train_refiner(config(**data), G, tmp_path / "whole", silent)
    train_refiner(config(total_images=16, **data), G, tmp_path / "part", silent)
    train_refiner(config(**data), G, tmp_path / "part", lines.append)
    assert "going on from 16 images" in lines
    for name in ("validation.csv", "refiner.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "part" / name).read_bytes()
    with open(tmp_path / "whole" / "validation.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["images"] for row in rows] == ["8", "16", "24"]
    assert float(rows[-1]["mse"]) < float(rows[0]["mse"]) and log_of(tmp_path / "whole")[-1]["heldout_mse"] > 0
    assert len(list((tmp_path / "whole" / "samples").iterdir())) == 3
    joined = lsap_jax.load_generator(tmp_path / "whole" / "generator.safetensors")
    alone = load(tmp_path / "whole" / "refiner.safetensors", "psp")
    assert jax.tree.all(jax.tree.map(np.array_equal, alone.params, joined.parts["psp"].params))
    assert joined.provenance["psp"]["images_seen"] == 24 and joined.network_sha256 == G.network_sha256
    with pytest.raises(LsapError, match=r"was started with other settings \(loss.mse was 1.0, is 2.0"):
        train_refiner(config(**{"loss.mse": 2.0}, **data), G, tmp_path / "whole", silent)


def test_it_stops_in_time_and_learns_from_samples(G, tmp_path):
    path = train_refiner(config(total_images=4_000_000), G, tmp_path, silent, stop_after=0.01)
    assert path.is_file() and log_of(tmp_path)[-1]["images"] < 4_000_000


def test_it_goes_on_with_the_networks_of_a_file(G, tmp_path):
    train_refiner(config(total_images=8), G, tmp_path / "first", silent)
    init = str(tmp_path / "first" / "refiner.safetensors")
    found = train_refiner(config(total_images=8, init=init, **{"train.lr": 0.0}), G, tmp_path / "then", silent)
    before, after = load(init, "psp"), load(found, "psp")
    assert jax.tree.all(jax.tree.map(np.array_equal, before.params, after.params))
    assert (before.params["w_avg"] != np.asarray(G.parts["psp"].params["w_avg"])).any()
    with pytest.raises(LsapError, match="init=.*: holds networks of another shape, .*this training's are"):
        refiner.first_networks(init, G.parts["psp"].replace(config=replace(before.config, num_ws=7)))


@pytest.mark.parametrize("method", [hfgi, hyperstyle])
def test_the_optimiser_too_begins_at_the_networks_of_a_file(method):
    """Ranger holds a copy, towards which it moves every sixth step."""
    params, task = {"a": jnp.full(3, 2.0)}, SimpleNamespace(shape=None, train=PspTraining(lr=0.0))
    state = method.first_state(task, None, 0, params)
    params, held = state.params, state.optimizer
    for _ in range(7):
        changes, held = method.optimizer(task.train).update({"a": jnp.ones(3)}, held, params)
        params = optax.apply_updates(params, changes)
    np.testing.assert_array_equal(params["a"], 2.0)


def test_a_discriminator_judges_images_of_its_size_alone(G, tiny):
    with_critic = G.with_part("discriminator", tiny.discriminator)
    judges = {"perceptual": 1.0, "cycle_perceptual": 1.0}
    for term in judges:
        asked = config()
        asked.loss = {"mse": 1.0, **dict.fromkeys(judges, 0.0), term: 0.5}
        asked.perceptual = {"weights": "", "resolution": 256}
        assert side_for(asked, with_critic) == 16 and "perceptual" in judged(with_critic, asked, silent).judges
        check_judge(asked, with_critic, 16)
        with pytest.raises(LsapError, match="compares images of 16 px, this training has 8 px: name LPIPS"):
            check_judge(asked, with_critic, 8)
    asked.loss = dict.fromkeys(judges, 0.0)
    assert not judged(with_critic, asked, silent).judges


def test_what_cannot_be_trained_is_refused(G, tmp_path, capsys):
    for changes, message in (
        ({"method": "more"}, "method='more': no such training of a refiner; there are .*mean"),
        ({"train.precision": "half"}, "train.precision='half': choose highest"),
        ({"heldout": 0}, "train.batch_size=4, heldout=0"),
    ):
        with pytest.raises(LsapError, match=message):
            train_refiner(config(**changes), G, tmp_path, silent)
    with pytest.raises(LsapError, match="the generator comes without an encoder; name one with --encoder"):
        train_refiner(config(), G.without("psp"), tmp_path, silent)
    with pytest.raises(LsapError, match=r"conditional generators \(c_dim 3\)"):
        train_refiner(config(), tiny_generator(classes=3), tmp_path, silent)
    more = config()
    more.loss.more = 1.0
    with pytest.raises(LsapError, match="loss.more: no such term; there are mse, perceptual"):
        train_refiner(more, G, tmp_path, silent)
    assert main(["train-refiner", "--config=train_e4e", "--generator=toonhead64", "--out", str(tmp_path)]) == 2
    assert "belongs to another command, as it has no 'method'" in capsys.readouterr().err
