"""The batched loop: promises 1 (independence), 8 (non-finite), 10 (on the sphere), 12 (one compilation), masks,
starts, presets.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lsap_jax
from lsap_jax.configuration import load_config
from lsap_jax.data import open_images
from lsap_jax.data.bundled import sample_images
from lsap_jax.errors import LsapError
from lsap_jax.inversion import inverter as batching
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Job
from lsap_jax.losses.judges import Judged, perceptual
from lsap_jax.models.generator import radius
from lsap_jax.models.generator_file import load_generator
from lsap_jax.rendering.devices import on_accelerators
from lsap_jax.rendering.render import synthesise
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")

SLOW = pytest.mark.slow  # other tests here invert in these spaces, too
QUICK = {"steps": 6, "chunk": 4}


@pytest.fixture(scope="module")
def G():
    return tiny_generator(basecode=True)


@pytest.fixture(scope="module")
def images():
    return tiny_images(6)


@pytest.mark.parametrize("space", ["f/z+:code", *(pytest.param(s, marks=SLOW) for s in ("z", "z+", "f/z", "f/z+"))])
@pytest.mark.usefixtures("full_compilation")
def test_every_space_improves_and_stays_on_the_sphere(G, images, space):
    inv = lsap_jax.invert(G, images[:3], space=space, steps=12, batch_size=4, **{"optimizer.lr": 0.05})
    assert inv.codes["z"].shape == (3, G.z_dim) if "+" not in space else (3, G.num_ws, G.z_dim)
    np.testing.assert_allclose(np.linalg.norm(inv.codes["z"], axis=-1), radius(G.z_dim), rtol=1e-5)
    assert inv.curves["loss"].shape == (3, 13)
    assert (inv.curves["loss"][:, -1] < inv.curves["loss"][:, 0]).all()
    assert set(inv.curves) == {"loss", "mse", "perceptual"} | ({"base"} if "f" in space else set())
    assert inv.images.min() >= -1 and inv.images.max() <= 1
    np.testing.assert_array_equal(lsap_jax.render(G, inv.space, inv.codes), inv.images)
    np.testing.assert_allclose(inv.metrics["psnr"], 10 * np.log10(4 / inv.metrics["mse"]), rtol=1e-5)
    assert set(inv.metrics) == {"mse", "psnr", "ssim", "discriminator_distance"}
    if space == "f/z+:code":
        assert (inv.space.truncation_psi, inv.space.truncation_cutoff) == (0.7, 8)
        assert inv.space.detail.normalise


def run_on(G, images, ids, batch_size, devices, space):
    config = load_config(space, {"steps": 30, "batch_size": batch_size, "chunk": 31})
    inverter = Inverter(G, config, devices=jax.local_devices()[:devices])
    found = []
    for indices in inverter.batches(len(images)):
        found += inverter([Job(id=ids[i], image=images[i]) for i in indices])
    return found


def same(a, b):
    """Promise 1 on processors: bit for bit."""
    assert a.metrics == b.metrics
    for key in a.codes:
        np.testing.assert_array_equal(a.codes[key], b.codes[key])


def test_an_image_does_not_see_its_batch(full_compilation, G, images):
    """Another size of the batch, other places and neighbours, another number of devices: all at once."""
    ids, order = [f"i{n}" for n in range(6)], [4, 1, 5, 0, 3, 2]
    reference = run_on(G, images, ids, 1, 1, "f/z+")
    shuffled = run_on(G, images[order], [ids[i] for i in order], 4, 2, "f/z+")
    for i, found in zip(order, shuffled, strict=True):
        same(reference[i], found)
    assert np.abs(reference[0].codes["z"] - reference[1].codes["z"]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "model,space",
    [
        ("tiny", "f/z+"),
        ("stylegan1", "f/z+"),
        ("toonhead64", "f/z+"),
        ("toonhead64", "z"),
        ("toonhead64", "projector"),
    ],
)
def test_an_image_sees_neither_its_batch_nor_its_devices(full_compilation, G, images, model, space):
    if model in ("tiny", "stylegan1"):
        count, G = 6, G if model == "tiny" else tiny_generator(family=model)
    else:  # a trained model amplifies rounding a hundred times more than a random one
        count, G = 4, load_generator(model)
        source = open_images(sample_images(), resolution=64, channels=3)
        images = np.stack([source.load(i).image for i in range(count)])
    ids = [f"i{n}" for n in range(count)]
    reference = run_on(G, images[:count], ids, 1, 1, space)
    order = [4, 1, 5, 0, 3, 2] if count == 6 else [2, 0, 3, 1]
    shuffled = run_on(G, images[order], [ids[i] for i in order], count - 2, 2, space)
    runs = [
        run_on(G, images[:count], ids, 3, 1, space),
        run_on(G, images[:count], ids, 1, 2, space),
        [shuffled[order.index(i)] for i in range(count)],
    ]
    for found in runs:
        for a, b in zip(reference, found, strict=True):
            same(a, b)
    key = next(iter(reference[0].codes))
    assert np.abs(reference[0].codes[key] - reference[1].codes[key]).max() > 0.1


def test_the_seed_and_the_id_decide_the_start(G, images):
    def start(seed, ids):
        return lsap_jax.invert(G, images[:1], "z", seed=seed, ids=ids, **QUICK).codes["z"]

    same = start(0, ["a"])
    np.testing.assert_array_equal(same, start(0, ["a"]))
    assert np.abs(same - start(1, ["a"])).max() > 0.1
    assert np.abs(same - start(0, ["b"])).max() > 0.1


def test_one_compilation_for_ragged_batches(G, images, monkeypatch):
    compiled = []
    real = batching.loop.chunk

    def counting(*args, **kwargs):
        compiled.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(batching.loop, "chunk", counting)
    batching.compiled.cache_clear()
    inverter = Inverter(G, load_config("z+", {**QUICK, "batch_size": 4, "steps": 9}))
    for size in (4, 4, 1, 3):
        assert len(inverter([Job(id=str(i), image=images[i]) for i in range(size)])) == size
    assert len(compiled) == 1, "the chunk was traced more than once"
    batching.compiled.cache_clear()


def test_a_non_finite_image_is_frozen_and_its_neighbour_is_not(G, images):
    config = load_config("z+", {**QUICK, "batch_size": 2})
    inverter = Inverter(G, config)
    bad = np.full((G.num_ws, G.z_dim), np.inf, np.float32)
    jobs = [Job(id="good", image=images[0]), Job(id="bad", image=images[1], start={"z": bad})]
    good, frozen = inverter(jobs)
    assert frozen is None
    alone = inverter([Job(id="good", image=images[0])])[0]
    assert good.flags == () and abs(good.metrics["mse"] / alone.metrics["mse"] - 1) < 1e-3


def test_a_late_non_finite_loss_keeps_the_best_step(G, images):
    """A learning rate that overflows after some steps: the image keeps its best finite step and is flagged."""
    config = load_config("f/z", {"steps": 8, "chunk": 9, "batch_size": 1, "optimizer.lr": 1e19})
    result = Inverter(G, config, devices=jax.local_devices()[:1])([Job(id="a", image=images[0])])[0]
    assert result is not None and np.isfinite(result.codes["f"]).all() and np.isfinite(result.image).all()
    assert not np.isfinite(result.curve["loss"]).all()
    assert "non-finite" in result.flags[0]
    best = np.nanargmin(np.where(np.isfinite(result.curve["loss"]), result.curve["loss"], np.nan))
    assert f"kept step {best}" in result.flags[0]


def test_best_and_last(G, images):
    wild = {"steps": 8, "chunk": 9, "optimizer.lr": 1.0}
    best = lsap_jax.invert(G, images[:2], "z+", **wild)
    last = lsap_jax.invert(G, images[:2], "z+", keep="last", **wild)
    np.testing.assert_allclose(best.curves["loss"], last.curves["loss"], rtol=1e-4)

    def total(inv):
        return inv.metrics["mse"] + 10 * inv.metrics["discriminator_distance"]

    assert (total(best) <= total(last) + 1e-4).all() and (total(best) < total(last) - 1e-3).any()


def test_masks_weight_the_loss_and_not_the_metrics(G, images):
    masks = np.zeros((2, 16, 16), np.float32)
    masks[:, :, :8] = 1
    masked = lsap_jax.invert(G, images[:2], "f/z+", masks=masks, steps=25, chunk=26, **{"optimizer.lr": 0.05})
    target = images[:2] / 127.5 - 1
    left, right = (np.square(masked.images - target)[:, :, s].mean() for s in (slice(0, 8), slice(8, 16)))
    assert left < right
    whole = np.square(np.clip(masked.images, -1, 1) - target).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(masked.metrics["mse"], whole, rtol=1e-4)
    with pytest.raises(LsapError, match="masks of shape"):
        lsap_jax.invert(G, images[:2], masks=masks[:1], **QUICK)
    with pytest.raises(LsapError, match="masks must lie in"):
        lsap_jax.invert(G, images[:2], masks=masks * 2, **QUICK)


def test_a_start_is_where_the_curve_begins(G, images):
    inv = lsap_jax.invert(G, images[:1], "z+", steps=12, **{"optimizer.lr": 0.05})
    inverter = Inverter(G, load_config("z+", {**QUICK, "batch_size": 1}))
    again = inverter([Job(id="0", image=images[0], start={"z": inv.codes["z"][0] * 2})])[0]
    np.testing.assert_allclose(again.curve["loss"][0], inv.curves["loss"].min(), rtol=1e-3)
    with pytest.raises(LsapError, match="start code 'z' has shape"):
        inverter([Job(id="0", image=images[0], start={"z": np.zeros((3, 3), np.float32)})])


def test_without_a_discriminator_mse_alone_is_minimised_and_said(images):
    G = tiny_generator(discriminator=False)
    inv = lsap_jax.invert(G, images[:1], "z", **QUICK)
    assert set(inv.curves) == {"loss", "mse"} and "MSE alone" in inv.perceptual["warning"]
    for network in ("lpips", "vgg"):
        with pytest.raises(LsapError, match="perceptual.weights"):
            perceptual(load_config("z", {"perceptual.network": network}), G)
    with pytest.raises(LsapError, match="choose auto"):
        perceptual(load_config("z", {"perceptual.network": "inception"}), G)
    left_out = Judged(judge=None, record={"network": "none"})
    assert perceptual(load_config("z", {"perceptual.network": "none"}), G) == left_out


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", -1, "steps=-1: needs to be 0 or more"),
        ("retraction", "none", "choose one of project, normalise, riemannian"),
        ("optimizer.name", "sgd", "choose adam"),
        ("keep", "first", "choose best or last"),
        ("noise_mode", "random", "const or none"),
        ("loss.mse", -1.0, "a weight has to be 0 or more"),
        ("space", "w++", "neither a configuration file"),
        ("base_resolution", 5, "base_resolution 5: choose one of"),
        ("init.f", "zero", "choose auto, encoder or w_avg"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(G, images, key, value, message):
    with pytest.raises(LsapError, match=message) as error:
        lsap_jax.invert(G, images[:1], **{"space": "f/z+", key: value})
    assert "\n" not in str(error.value)


def test_float_images_are_the_same_as_their_grey_levels(G, images):
    a = lsap_jax.invert(G, images[:1], "z", **QUICK)
    b = lsap_jax.invert(G, images[:1].astype(np.float32) / 127.5 - 1, "z", **QUICK)
    np.testing.assert_array_equal(a.codes["z"], b.codes["z"])


def test_no_collective_and_no_grouped_convolution_in_the_step(G, images):
    inverter = Inverter(G, load_config("f/z+", {**QUICK, "batch_size": 2}))
    jobs = [Job(id=str(i), image=images[i]) for i in range(2)]
    state, targets = inverter.begin(jobs)
    live, steps = np.ones((2, 1), bool), np.full(2, 6, np.int32)
    chunk = on_accelerators(partial(batching.loop.chunk, inverter.problem, inverter.length), inverter.devices)
    text = chunk.lower(inverter._networks, state, targets, steps, live).as_text()
    for word in ("all_reduce", "all_gather", "collective", "all_to_all"):
        assert word not in text
    assert "feature_group_count = 1" in text
    assert all(f"feature_group_count = {n}" not in text for n in range(2, 10))


@pytest.mark.slow
def test_the_riemannian_option(G, images):
    inv = lsap_jax.invert(G, images[:2], "f/z+", steps=12, retraction="riemannian", **{"optimizer.lr": 0.03})
    np.testing.assert_allclose(np.linalg.norm(inv.codes["z"], axis=-1), radius(G.z_dim), rtol=1e-5)
    assert (inv.curves["loss"][:, -1] < inv.curves["loss"][:, 0]).all()


@pytest.mark.slow
def test_a_grey_generator(images):
    G = tiny_generator(img_channels=1)
    inv = lsap_jax.invert(G, images[:2], "f/z+", **QUICK)
    assert inv.images.shape == (2, 16, 16, 1)


def test_codes_pass_through_jax_transformations(G):
    """The generator is a pytree: gradients to its params, and vmap over codes."""
    space = lsap_jax.parse_space("z")
    z = space.init(G, jax.random.split(jax.random.key(0), 3))["z"]
    grads = jax.grad(lambda G: synthesise(G, space.decode(G, {"z": z})).sum())(G)
    assert jnp.abs(grads.params["synthesis"]["b4"]["const"]).max() > 0
    each = jax.vmap(lambda z: synthesise(G, space.decode(G, {"z": z[None]}))[0])(z)
    np.testing.assert_allclose(each, synthesise(G, space.decode(G, {"z": z})), atol=1e-5)
    assert dataclasses.is_dataclass(G)
