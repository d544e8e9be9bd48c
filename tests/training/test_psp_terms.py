"""The terms of the training of pSp, e4e, ReStyle and LSAP's encoders, against the originals' losses and gradients."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from parity import assert_parity, nhwc

from lsap_jax.losses.judges import Networks
from lsap_jax.models.generator import Generator
from lsap_jax.models.latent_statistics import LatentStatistics
from lsap_jax.networks.latent_discriminator import param_shapes
from lsap_jax.networks.parameters import merge
from lsap_jax.networks.stylegan2 import GeneratorConfig
from lsap_jax.testing import tiny_generator
from lsap_jax.training.psp_terms import Context, Options, total

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def recipe(shared_file):
    """The module that draws the references' weights again."""
    spec = importlib.util.spec_from_file_location("seeded_weights_enc", shared_file("golden/seeded_weights_enc.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def context(G: Generator, ws, stage: int, image=None, target=None, critic=None, **options) -> Context:
    blank = jnp.zeros((len(ws), 4, 4, 3))
    return Context(
        image=blank if image is None else image, target=blank if target is None else target, seen={}, ws=ws,
        active=jnp.arange(ws.shape[1]) <= stage, networks=Networks(generator=G), critic=critic,
        options=Options(**options),
    )  # fmt: skip


@pytest.mark.parametrize("stage", [0, 5, 17])
def test_e4es_loss_is_the_originals(golden, recipe, stage):
    file = golden("loss_e4e_latent")
    model = json.loads(bytes(file["meta_json"]))["models"]["latent_discriminator"]
    critic = merge(param_shapes(512), recipe.fill(model), "golden")
    weights = {"mse": 1.0, "delta": 2e-4, "adversarial": 0.1}
    image, target = (jnp.asarray(nhwc(file[name])) for name in ("y_hat", "y"))
    G = tiny_generator(discriminator=False)

    @jax.jit
    def loss(ws):
        return total(weights, context(G, ws, stage, image, target, critic))

    (found, logs), slope = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(file["latent"]))
    key = f"calc_loss/stage{stage}"
    for name, value in {
        "total": found,
        "encoder_discriminator_loss": logs["adversarial"],
        "loss_l2": logs["mse"],
    }.items():
        assert_parity("training", f"{key} {name}", value, file[f"{key}/{name}"])
    assert_parity("training", f"{key} delta", logs["delta"], file[f"{key}/total_delta_loss"])
    assert_parity("training", f"{key} gradient", slope[:1], file[f"{key}/grad_latent"])


@pytest.fixture(scope="module")
def aligned(golden, recipe):
    """(reference file, a generator of whose weights there are the styles alone, with the reference's anchors)."""
    file = golden("lsap_align")
    model = json.loads(bytes(file["meta_json"]))["models"]["decoder"]
    channels = (512, 512, 512, 512, 256, 128, 64)
    config = GeneratorConfig(img_resolution=256, channels=channels, w_dim=64, z_dim=64, mapping_layers=3)
    drawn = {
        name: recipe.draw(shape, kind, model["seed"] + i, gain)
        for i, (name, shape, kind, gain) in enumerate(model["tensors"])
        if "modulation" in name
    }
    places = {"b4.conv1": "conv1", "b4.torgb": "to_rgb1"}
    for i, side in enumerate((8, 16, 32, 64, 128, 256)):
        own = {"conv0": f"convs.{2 * i}", "conv1": f"convs.{2 * i + 1}", "torgb": f"to_rgbs.{i}"}
        places |= {f"b{side}.{part}": where for part, where in own.items()}
    affine = {
        (*layer.affine, leaf): drawn[f"{places[layer.name]}.conv.modulation.{leaf}"].T
        for layer in config.layers
        for leaf in ("weight", "bias")
    }
    anchors = {layer.name: jnp.asarray(file[f"anchor/{k:02d}"][0]) for k, layer in enumerate(config.row_layers)}
    none = jnp.zeros(64)
    statistics = LatentStatistics(
        w_mean=none,
        w_std=none,
        p_mean=none,
        p_values=none,
        p_vectors=none,
        anchors=anchors,
        samples=2,
        anchor_samples=1,
    )
    G = Generator(config=config, params={"synthesis": unflatten_dict(affine)}, parts={"statistics": statistics})
    return file, G


@pytest.mark.parametrize("stage", [0, 5, 13])
def test_lsaps_alignment_is_the_originals_sum_with_its_sign(aligned, stage):
    file, G = aligned

    @jax.jit
    def loss(ws):
        return total({"nscd": 0.5}, context(G, ws, stage))

    (found, logs), slope = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(file["latent"]))
    key = f"loss/stage{stage}"
    assert_parity("training", f"{key} total", found, file[f"{key}/total"])
    assert_parity("training", f"{key} term", logs["nscd"], file[f"{key}/total_sncd_loss"])
    assert_parity("training", f"{key} gradient", slope, file[f"{key}/grad_latent"], atol=5e-5)
    assert logs["nscd"] < 0 or stage == 0


def test_what_the_paper_leaves_open_is_an_option(aligned):
    file, G = aligned
    ws, stage = jnp.asarray(file["latent"]), 5
    value = jax.jit(
        lambda ws, **o: total({"nscd": 1.0}, context(G, ws, stage, **o))[0],
        static_argnames=("reduce", "renormalise", "offset"),
    )
    similarity, lengths = np.asarray(file["sim"])[:, :6], [np.linalg.norm(file[f"anchor/{k:02d}"]) for k in range(6)]
    np.testing.assert_allclose(value(ws, reduce="mean"), -similarity.mean(), rtol=1e-4)
    np.testing.assert_allclose(value(ws, offset=1.0), 6 - similarity.sum(axis=1).mean(), rtol=1e-4)
    np.testing.assert_allclose(value(ws, renormalise=True), -(similarity / lengths).sum(axis=1).mean(), rtol=1e-4)


def test_terms_without_weight_or_judge_are_left_out():
    G, ws = tiny_generator(discriminator=False), jnp.ones((2, 6, 16))
    loss, logs = total(
        {"mse": 2.0, "perceptual": 1.0, "delta": 0.0, "w_norm": 1.0}, context(G, ws, 5, jnp.ones((2, 4, 4, 3)))
    )
    assert logs.keys() == {"loss", "mse", "w_norm"}
    np.testing.assert_allclose(loss, 2 + np.sqrt(6 * 16) * 0.9, rtol=1e-5)  # w_avg is 0.1
