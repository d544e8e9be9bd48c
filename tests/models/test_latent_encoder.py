"""The latent encoder: its shape, in files, trained, as a start, and as IDInvert's regulariser."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import lsap_jax
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Networks
from lsap_jax.losses.pixel import mse
from lsap_jax.models.generator_file import load_generator
from lsap_jax.models.latent_encoder import LatentEncoder
from lsap_jax.models.network_file import attach
from lsap_jax.models.perceptual import from_discriminator
from lsap_jax.networks.latent_encoder import (
    LatentEncoderConfig,
    LatentEncoderNetwork,
    initial_variables,
    variable_shapes,
)
from lsap_jax.networks.parameters import count
from lsap_jax.rendering.render import synthesise
from lsap_jax.testing import tiny_generator, tiny_images
from lsap_jax.training.latent_encoder import LatentLosses, train_latent_encoder

pytestmark = pytest.mark.usefixtures("quick_compilation")


encode = jax.jit(lambda E, x: E(x))


@pytest.fixture(scope="module")
def G(tiny):
    """The tiny generator with an untrained encoder of its 16-px images whose output is not constant."""
    config = LatentEncoderConfig(num_ws=tiny.num_ws, w_dim=tiny.w_dim, widths=(4, 6, 6))
    return attach(tiny, LatentEncoder(config=config, params=start(config, tiny.w_avg)))


def start(config, w_avg):
    return initial_variables(config, jax.random.key(0), w_avg)


def training(**changes):
    config = load_config(
        "encoder_toonhead64",
        {"total_images": 12, "snapshot_images": 8, "train.batch_size": 4, "train.decay_images": 0, "generator": "tiny"},
    )
    with config.ignore_type():
        config.update_from_flattened_dict({"widths": (4, 6), **changes})
    return config


def test_idinverts_shape_at_256_px():
    config = LatentEncoderConfig(num_ws=14, w_dim=512, widths=(64, 128, 256, 512, 1024, 1024, 1024))
    shapes = flatten_dict(variable_shapes(config)["params"])
    assert config.input_resolution == 256
    assert shapes["last", "weight"].shape == (16_384, 7168)
    assert shapes["block2", "conv0", "kernel"].shape == (3, 3, 256, 256)  # as narrow as the narrower side
    assert ("block3", "shortcut", "kernel") in shapes and ("block4", "shortcut", "kernel") not in shapes
    found = jax.eval_shape(
        lambda v, x: LatentEncoderNetwork(config).apply(v, x),
        variable_shapes(config),
        jax.ShapeDtypeStruct((2, 256, 256, 3), jnp.float32),
    )
    assert found.shape == (2, 14, 512)
    assert count(shapes) > 150e6


def test_the_smallest_network_against_numpy():
    config = LatentEncoderConfig(num_ws=2, w_dim=3, widths=(4,))
    variables = start(config, jnp.arange(3.0))
    moved = jax.tree.map(lambda a: a + 0.3, variables["batch_stats"])
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    ws = LatentEncoderNetwork(config).apply({**variables, "batch_stats": moved}, x)
    p = jax.tree.map(np.asarray, variables["params"])
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = sum(padded[:, i : i + 4, j : j + 4] @ p["first"]["kernel"][i, j] for i in range(3) for j in range(3))
    y = (y - 0.3) / np.sqrt(1.3 + 1e-5) + p["first"]["norm"]["bias"]
    y = np.where(y >= 0, y, 0.2 * y).reshape(2, -1)
    expected = y @ p["last"]["weight"] / np.sqrt(64) + np.tile(np.arange(3), 2)
    np.testing.assert_allclose(ws, expected.reshape(2, 2, 3), rtol=1e-4, atol=1e-5)


def test_an_image_does_not_see_its_neighbours(G):
    x = jax.random.normal(jax.random.key(1), (5, 16, 16, 3))
    together = encode(G.encoder, x)
    assert together.shape == (5, G.num_ws, G.w_dim) and np.ptp(np.asarray(together), axis=0).max() > 0.01
    np.testing.assert_allclose(encode(G.encoder, x[2:3])[0], together[2], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_bundled_encoder_gives_the_same_bits_in_every_batch(full_compilation):
    """What follows amplifies rounding: its widths differ from those of the tiny one."""
    x = tiny_images(3, 64).astype(np.float32) / 127.5 - 1
    G = load_generator("toonhead64")
    E = G.encoder
    together = E(x, G)  # outside of `jit`, where a batch is computed image by image
    for i in range(3):
        np.testing.assert_array_equal(E(x[i : i + 1], G)[0], together[i])


def test_a_file_gives_it_back(tmp_path, G):
    G.save(tmp_path / "g.safetensors")
    again = load_generator(tmp_path / "g.safetensors")
    assert again.encoder.config == G.encoder.config and again.sha256 == G.sha256
    assert again.sha256 != again.without("encoder").sha256
    assert jax.tree.all(jax.tree.map(np.array_equal, again.encoder.params, G.encoder.params))
    other = LatentEncoderConfig(num_ws=G.num_ws, w_dim=G.w_dim, widths=(4, 6, 7))
    G.with_part("encoder", LatentEncoder(config=other, params=G.encoder.params)).save(tmp_path / "bad")
    with pytest.raises(LsapError, match=r"! encoder/.*, expected "):
        load_generator(tmp_path / "bad")


def test_losses_are_means_and_ws_count_for_samples_alone(G):
    losses = LatentLosses(mse=2.0, perceptual=3.0, latent=5.0)
    perceptual = from_discriminator(G)
    ws = G.map_rows(jax.random.normal(jax.random.key(0), (3, G.num_ws, G.z_dim)))
    x = jax.random.uniform(jax.random.key(1), (3, 16, 16, 3), minval=-1)
    logs, y = jax.jit(losses)(Networks(generator=G, judges={"perceptual": perceptual}), ws, ws[:2] + 0.5, x)
    wanted = {"mse": mse(y, x).mean(), "perceptual": perceptual(y, x).mean(), "latent": 0.25}
    for name, value in wanted.items():
        np.testing.assert_allclose(logs[name], value, 1e-4)
    np.testing.assert_allclose(logs["loss"], 2 * wanted["mse"] + 3 * wanted["perceptual"] + 5 * 0.25, 1e-4)
    assert LatentLosses(mse=0.0, perceptual=0.0)(Networks(generator=G), ws, ws, x)[0].keys() == {"loss", "latent"}


@pytest.mark.slow
def test_training_improves_attaches_and_resumes_bit_for_bit(tmp_path, tiny):
    np.savez(tmp_path / "pack.npz", images=tiny_images(9))
    real = {"data": str(tmp_path / "pack.npz"), "heldout": 1}
    whole = train_latent_encoder(training(**real), tiny, tmp_path / "whole", log=lambda _: None)
    lines: list[str] = []
    train_latent_encoder(training(total_images=8, **real), tiny, tmp_path / "parts", log=lines.append)
    parts = train_latent_encoder(training(**real), tiny, tmp_path / "parts", log=lines.append)
    assert any("going on from 8 images" in line for line in lines)
    a, b = load_generator(whole), load_generator(parts)
    assert a.encoder.config == LatentEncoderConfig(num_ws=6, w_dim=16, widths=(4, 6)) and a.basecode is not None
    assert jax.tree.all(jax.tree.map(np.array_equal, a.encoder.params, b.encoder.params))
    assert a.without("encoder").sha256 == tiny.sha256  # nothing else moved
    assert a.provenance["encoder"]["images_seen"] == 12
    before = flatten_dict(initial_variables(a.encoder.config, jax.random.fold_in(jax.random.key(0), 1), tiny.w_avg))
    for path, leaf in flatten_dict(a.encoder.params).items():
        assert not np.array_equal(leaf, before[path]), path
    # Samples alone are another training; an encoder of this shape is gone on with.
    lines.clear()
    more = train_latent_encoder(training(total_images=4), a, tmp_path / "more", log=lines.append)
    assert any("own encoder" in line for line in lines)
    assert not np.array_equal(
        load_generator(more).encoder.params["params"]["last"]["bias"], a.encoder.params["params"]["last"]["bias"]
    )
    with pytest.raises(LsapError, match=r"was started with other settings \(data was "):
        train_latent_encoder(training(), tiny, tmp_path / "parts", log=lambda _: None)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["stylegan2", "stylegan1"])
def test_the_loss_falls(tmp_path, tiny, family):
    G = tiny if family == "stylegan2" else tiny_generator(family=family)
    config = training(total_images=192, snapshot_images=32, **{"train.lr": 0.01})
    path = train_latent_encoder(config, G, tmp_path, log=lambda _: None)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.8 * log[0]["loss"] and "latent_unseen" in log[-1]
    made = load_generator(path)
    assert made.without("encoder").sha256 == G.sha256
    inv = lsap_jax.encode(made, None, tiny_images(2))
    assert inv.space.name == "w+" and np.isfinite(inv.metrics["mse"]).all()


def test_widths_have_to_suit_the_images(tmp_path, tiny):
    for widths in ((), (2, 2, 2, 2)):
        message = f"widths={widths}: give at least one width and at most 3 for images of 16 px"
        with pytest.raises(LsapError, match=re.escape(message)):
            train_latent_encoder(training(widths=widths), tiny, tmp_path)


@pytest.mark.slow  # test_no_steps.py has the start in W+
@pytest.mark.parametrize("space", ["w+", "f/z+"])
def test_codes_start_where_the_encoder_puts_them(G, space):
    images = tiny_images(3)
    found = lsap_jax.invert(G, images, space, steps=1, **{"init.detail": "encoder", "optimizer.lr": 1e-9})
    ws = encode(G.encoder, images.astype(np.float32) / 127.5 - 1)
    key = found.space.detail.key
    np.testing.assert_allclose(found.codes[key], found.space.from_ws(G, ws), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["f/z+:fast", "idinvert"])
def test_an_inversion_from_the_encoder_does_not_see_its_batch(full_compilation, G, preset):
    """Promise 1, where encoder and nearest z come before the steps, and the encoder is inside them."""
    images = tiny_images(3)
    together = lsap_jax.invert(G, images, preset, steps=30, batch_size=3)
    for i in (2, 0):
        alone = lsap_jax.invert(G, images[i : i + 1], preset, steps=30, ids=[str(i)])
        assert abs(alone.metrics["mse"][0] / together.metrics["mse"][i] - 1) < 1e-3
        for key, code in alone.codes.items():
            close = np.abs(code[0] - together.codes[key][i]) < 1e-3 * np.abs(code).max()
            assert close.mean() >= 0.999, key


@pytest.mark.parametrize("parts", ["encoder", pytest.param("none", marks=pytest.mark.slow)])
def test_near_is_the_encoder_or_the_mean_w(G, parts):
    images, still = tiny_images(2), {"optimizer.lr": 1e-9}

    def start(generator, detail):
        return lsap_jax.invert(generator, images, "w+", steps=1, **{"init.detail": detail, **still}).codes["w"]

    G, near = (G, "encoder") if parts == "encoder" else (G.without("encoder"), "w_avg")
    np.testing.assert_array_equal(start(G, "near"), start(G, near))


@pytest.mark.slow
def test_idinvert_holds_codes_where_the_encoder_finds_their_image(G):
    images = tiny_images(2)
    found = lsap_jax.invert(G, images, "idinvert", steps=10)
    images_of = jax.jit(lambda codes: synthesise(G, found.space.decode(G, codes)))
    expected = np.square(found.codes["w"] - encode(G.encoder, images_of(found.codes))).mean(axis=(1, 2))
    np.testing.assert_allclose(found.curves["domain"][:, -1], expected, rtol=1e-3)
    assert (found.curves["loss"][:, -1] < found.curves["loss"][:, 0]).all()
    free = lsap_jax.invert(G, images, "idinvert", steps=10, **{"loss.domain": 0.0})
    away = np.square(free.codes["w"] - encode(G.encoder, images_of(free.codes))).mean(axis=(1, 2))
    assert "domain" not in free.curves and (expected < away).all()


def test_styles_have_no_ws_to_hold(G):
    with pytest.raises(LsapError, match="loss.domain=2.0: the term needs ws, and space s has only styles"):
        lsap_jax.invert(G, tiny_images(1), "s", **{"loss.domain": 2.0})
