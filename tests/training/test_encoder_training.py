"""Whole trainings of encoders of the family of pSp: resumed, on images and on samples, as files that are used."""

import csv
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image
from safetensors.numpy import load_file

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.models.embedder import ARCFACE, Embedder, EmbedderRecord
from lsap_jax.networks.irse import UNITS
from lsap_jax.networks.parameters import count
from lsap_jax.networks.psp import PspConfig
from lsap_jax.networks.psp import param_shapes as psp_shapes
from lsap_jax.pixels import to_float
from lsap_jax.testing import tiny_generator, tiny_images
from lsap_jax.training import psp_task
from lsap_jax.training.psp import train_psp
from lsap_jax.training.psp_task import first_params, shape_for

pytestmark = pytest.mark.usefixtures("quick_compilation", "tiny_trunk")

TINY = {"units": ((16, 2), (16, 2), (16, 2)), "taps": (0, 1, 2), "head_convs": (1, 2, 3)}
QUICK = {"total_images": 24, "snapshot_images": 8, "train.batch_size": 4, "train.lr": 1e-3, "generator": "tiny"}
NO_IDENTITY = {"loss.identity": 0.0}


@pytest.fixture(scope="module")
def tiny_trunk():
    """A new trunk is a row of the table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(psp_task.TRUNKS, "tiny", (16, TINY))
        yield


def config(name="train_e4e", **changes):
    own = load_config(name, {**QUICK, **NO_IDENTITY, "encoder.trunk": "tiny", "heldout": 6})
    with own.ignore_type():
        own.update_from_flattened_dict(changes)
    return own


def silent(_):
    pass


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pack.npz"
    np.savez(path, images=tiny_images(18))
    return str(path)


@pytest.fixture(scope="module")
def trained(tiny, tiny_trunk, quick_compilation, pack, tmp_path_factory):
    """Folder of a training on images through all stages, with every regulariser."""
    out = tmp_path_factory.mktemp("trained") / "whole"
    stages = {"stages.start": 8, "stages.every": 4, "loss.nscd": 0.1, "loss.w_norm": 0.01}
    train_psp(config(data=pack, **stages), tiny, out, silent)
    return out, stages


@pytest.mark.slow
def test_a_killed_training_goes_on_as_an_uninterrupted_one(trained, tiny, pack, tmp_path):
    whole, stages = trained
    lines: list[str] = []
    train_psp(config(data=pack, total_images=16, **stages), tiny, tmp_path, lines.append)
    with open(tmp_path / "log.jsonl", "a") as file:  # as if it had been killed between a line and its checkpoint
        file.write('{"images": 24, "loss": 0}\n{"images": 2')
    train_psp(config(data=pack, **stages), tiny, tmp_path, lines.append)
    assert "going on from 16 images" in lines
    a, b = (lsap_jax.load_encoder(folder / "encoder.safetensors") for folder in (whole, tmp_path))
    assert jax.tree.all(jax.tree.map(np.array_equal, a.params, b.params))
    one, other = (
        [{k: v for k, v in line.items() if k != "images_per_second"} for line in log_of(f)] for f in (whole, tmp_path)
    )
    assert one == other and [line["images"] for line in one] == [8, 16, 24]
    assert (whole / "validation.csv").read_bytes() == (tmp_path / "validation.csv").read_bytes()
    with pytest.raises(LsapError, match=r"was started with other settings \(loss.nscd was 0.1, is 0.0"):
        train_psp(config(data=pack, **{**stages, "loss.nscd": 0.0}), tiny, tmp_path, silent)


@pytest.mark.slow
def test_what_a_training_writes(trained, tiny):
    out, _ = trained
    line = log_of(out)[-1]
    terms = {"loss", "mse", "perceptual", "delta", "w_norm", "nscd", "adversarial", "critic_loss", "stage"}
    assert terms <= line.keys() and "identity" not in line and line["stage"] == 3.5  # of two steps
    with open(out / "validation.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["images"] for row in rows] == ["8", "16", "24"]
    assert rows[0].keys() == {"images", "mse", "psnr", "perceptual", "nscd"}
    assert sorted(p.name for p in (out / "samples").iterdir()) == [f"{n:08d}.png" for n in (8, 16, 24)]
    G = lsap_jax.load_generator(out / "generator.safetensors")
    assert G.encoder.kind == "psp" and G.without("psp").sha256 == tiny.bare("discriminator", "basecode").sha256
    made = G.provenance["psp"]
    assert made["images_seen"] == 24 and made["config"]["train"]["batch_size"] == 4
    alone = lsap_jax.load_encoder(out / "encoder.safetensors")
    assert jax.tree.all(jax.tree.map(np.array_equal, alone.params, G.encoder.params))


@pytest.mark.slow
def test_a_finished_training_writes_its_encoder_as_float16(trained, tiny, pack, tmp_path):
    whole, stages = trained
    again = shutil.copytree(whole, tmp_path / "again")
    train_psp(config(data=pack, float16=True, **stages), tiny, again, silent)
    assert {array.dtype.name for array in load_file(again / "encoder.safetensors").values()} == {"float16"}
    a, b = (lsap_jax.load_encoder(folder / "encoder.safetensors").params for folder in (whole, again))
    jax.tree.map(lambda one, half: np.testing.assert_allclose(half, one, rtol=1e-3, atol=1e-7), a, b)


@pytest.mark.slow
def test_held_out_metrics_are_those_of_the_encoder_in_the_file(trained, tiny):
    out, _ = trained
    E, line = lsap_jax.load_encoder(out / "encoder.safetensors"), log_of(out)[-1]
    x = to_float(tiny_images(18)[-6:])
    y = np.clip(tiny.synthesis(E(x, tiny)), -1, 1)
    errors = np.square(x - y).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(line["heldout_mse"], errors.mean(), rtol=1e-3)
    np.testing.assert_allclose(line["heldout_psnr"], (10 * np.log10(4 / errors)).mean(), rtol=1e-3)


@pytest.mark.slow
def test_the_command_trains_and_encode_takes_both_files(trained, tiny, tmp_path, capsys):
    tiny.save(tmp_path / "g.safetensors")
    Image.fromarray(tiny_images(1)[0]).save(tmp_path / "a.png")
    changes = {**QUICK, "total_images": 8, "heldout": 4, "encoder.trunk": "tiny", "encoder.heads": "single"}
    changes |= {**NO_IDENTITY, "loss.perceptual": 0.0, "generator": str(tmp_path / "g.safetensors")}
    words = [*(f"--config.{key}={value}" for key, value in changes.items()), "--out", str(tmp_path / "t")]
    assert main(["train-encoder", "--config=train_psp", *words]) == 0
    assert str(tmp_path / "t" / "encoder.safetensors") in capsys.readouterr().out
    codes = []
    for name in ("encoder", "generator"):
        own = ["--encoder", str(tmp_path / "t" / f"{name}.safetensors"), "--out", str(tmp_path / name)]
        assert main(["encode", str(tmp_path / "a.png"), "--generator", changes["generator"], *own]) == 0
        codes.append((tmp_path / name / "codes" / "a.npz").read_bytes())
    assert codes[0] == codes[1]


def test_a_configuration_of_another_command_is_refused(tiny, tmp_path, capsys):
    tiny.save(tmp_path / "g.safetensors")
    words = ["--generator", str(tmp_path / "g.safetensors"), "--out", str(tmp_path / "t")]
    assert main(["train-encoder", "--config=basecode_toonhead64", *words]) == 2
    assert "--config=basecode_toonhead64: this configuration belongs to another command" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train_e4e", "train_psp", "train_lsap_e", "train_restyle_e4e"])
def test_every_recipe_has_its_terms(name):
    own = load_config(name)
    used = {term for term, weight in own.loss.items() if weight}
    assert {"mse", "perceptual", "identity"} <= used
    assert ("adversarial" in used) == ("e4e" in name) and ("nscd" in used) == ("lsap" in name)
    assert ("delta" in used) == own.encoder.progressive == (name != "train_psp")
    assert (own.encoder.passes, own.encoder.heads) == ((5, "last") if "restyle" in name else (1, "pyramid"))


def test_the_trunk_goes_by_the_size_of_the_images():
    options = load_config("train_e4e").encoder
    small = shape_for(tiny_generator(img_resolution=64, discriminator=False), options)
    assert small.input_resolution == 64 and small.num_ws == 10
    large = shape_for(tiny_generator(img_resolution=128, discriminator=False), options)
    assert large.units == UNITS and large.input_resolution == 128 and large.width == 512
    options.trunk = "vgg"
    with pytest.raises(LsapError, match=r"encoder.trunk='vgg': choose auto, irse50, resnet34, small"):
        shape_for(tiny_generator(), options)
    options.update(trunk="resnet34")
    with pytest.raises(LsapError, match=r"encoder.trunk=resnet34, encoder.heads=pyramid: taps are"):
        shape_for(tiny_generator(), options)


def test_the_small_trunk_fits_into_three_megabytes_of_float16():
    _, own = psp_task.TRUNKS["small"]
    shape = PspConfig(num_ws=10, w_dim=128, progressive=True, input_resolution=64, head_width=56, **own)
    assert 2 * count(psp_shapes(shape)) < 2.8e6


@pytest.mark.parametrize("channels", [3, 6])
def test_arcfaces_trunk_is_taken(monkeypatch, tmp_path, channels):
    """Where the encoder sees the present image, too, its channels begin at random."""
    monkeypatch.setattr(
        psp_task,
        "initial_params",
        lambda shapes, seed: jax.tree.map(lambda s: jnp.full(s.shape, 7.0), shapes),
    )
    own = {"num_ws": 6, "w_dim": 16, **TINY, "input_resolution": 16}
    shape = PspConfig(in_channels=channels, heads="last" if channels == 6 else "pyramid", **own)
    trunk = jax.tree.map(lambda s: np.full(s.shape, 2.0, np.float32), psp_shapes(PspConfig(**own)))
    facts = dict.fromkeys(("network", "trained_on", "weights", "source_sha256", "crop", "resize", "range"), "")
    record = EmbedderRecord(name=ARCFACE, resolution=112, **facts)
    params = {name: trunk[name] for name in ("input_layer", "body")} | {"output_layer": {}}
    monkeypatch.setattr(psp_task, "load", lambda *_: Embedder(params=params, record=record))
    found = flatten_dict(first_params(shape, "a.pth", 0))
    first = found.pop(("input_layer", "0", "weight"))
    assert (np.asarray(first[:, :, :3]) == 2).all() and (np.asarray(first[:, :, 3:]) == 7).all()
    for path, leaf in found.items():
        assert (np.asarray(leaf) == (2 if path[0] in ("input_layer", "body") else 7)).all(), path
    with pytest.raises(LsapError, match="set encoder.trunk=irse50"):
        first_params(PspConfig(num_ws=6, w_dim=16, heads="single", units=((32, 2),)), "a.pth", 0)


def test_what_cannot_be_trained_is_refused(tiny, tmp_path, pack):
    for changes, message in (
        ({"train.precision": "half"}, "train.precision='half': choose highest, high, default"),
        ({"nscd.reduce": "max"}, "nscd.reduce='max': choose sum, mean"),
        ({"train.noise_mode": "some"}, "train.noise_mode='some': choose const, random, none"),
        ({"heldout": 0}, "train.batch_size=4, heldout=0: both are numbers of images, from 1 on"),
        ({"loss.style": 1.0}, "loss.style: no such term; there are mse, perceptual"),
        ({"encoder.heads": "pyramyd"}, "cannot be read from a file: heads is 'pyramyd', it can be one of"),
        ({"data": pack, "train.batch_size": 16}, "12 training images do not fill a batch of 16"),
    ):
        with pytest.raises(LsapError, match=message):
            train_psp(config(**changes), tiny, tmp_path / "none", silent)
    assert not (tmp_path / "none").exists()  # a corrected command may use the folder
    with pytest.raises(LsapError, match=r"conditional generators \(c_dim 3\)"):
        train_psp(config(), tiny_generator(classes=3), tmp_path / "none", silent)


def test_a_term_without_its_weights_is_left_out_with_a_warning(tiny):
    lines: list[str] = []
    networks = psp_task.networks_for(tiny, config(**{"loss.identity": 0.1}), lines.append)
    assert lines == ["warning: no identity term, as identity.weights names no file"]
    assert networks.judges.keys() == {"perceptual"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_e4e", "train_psp", "train_lsap_e", "train_restyle_e4e"])
def test_every_term_falls(name, tiny, tmp_path):
    """On one batch of images; of the latent discriminator it is its own loss that falls."""
    np.savez(tmp_path / "pack.npz", images=tiny_images(10))
    changes = {"data": str(tmp_path / "pack.npz"), "heldout": 2, "train.batch_size": 8, "train.mirror": False}
    changes |= {"total_images": 1600, "snapshot_images": 160, "train.lr": 3e-3, "stages.start": 0, "stages.every": 0}
    own = config(name, **changes, **{"critic.lr": 1e-3, "train.noise_mode": "const", "generator_file": False})
    own.encoder.passes = min(own.encoder.passes, 2)
    train_psp(own, tiny, tmp_path / "out", silent)
    first, last = (log_of(tmp_path / "out")[k] for k in (0, -1))
    falling = {"mse", "perceptual", "nscd", "critic_loss"} & first.keys()
    assert all(last[name] < first[name] for name in falling), {name: (first[name], last[name]) for name in falling}
    assert last["loss"] < first["loss"]
