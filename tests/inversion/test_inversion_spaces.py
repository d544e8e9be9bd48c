"""Inversion in flat spaces, presets, schedules, latent noise, alignment: falling losses, independence, refusals."""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lsap_jax
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.inversion.jobs import Job
from lsap_jax.inversion.loop import LatentNoise
from lsap_jax.inversion.optimizers import ramp
from lsap_jax.losses.alignment import nscd
from lsap_jax.spaces.noise import maps_of
from lsap_jax.testing import tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")

# A compilation without the discriminator takes a third of the time; `test_inversion` has the perceptual term.
PLAIN = {"perceptual.network": "none", "loss.mse": 1.0, "optimizer.lr": 0.05}


@pytest.fixture(scope="module")
def images():
    return tiny_images(6)


WEAK = ("pn", "delta", "w_norm")  # the other priors, at a weight that disturbs nothing


def weak():
    return {f"loss.{name}": 1e-3 for name in WEAK}


NOISE = (2 * 16**2 + 2 * 8**2 + 4**2,)
CASES = {  # space or preset -> (parts of a code, loss terms beside mse, options)
    "pn+": ({"p": (6, 16)}, set(), PLAIN),
    "f/s": ({"s": (64,), "f": (4, 4, 8)}, {"base"}, PLAIN),
    "bdinvert": ({"w": (6, 16), "f": (4, 4, 8)}, {"base", "pn"}, PLAIN),
    "projector": ({"w": (16,), "noise": NOISE}, {"noise"}, {**PLAIN, "optimizer.lr": 0.1}),
    "lsap_o": ({"w": (6, 16), "noise": NOISE}, {"noise", "nscd", *WEAK}, {**PLAIN, **weak(), "optimizer.lr": 0.1}),
}
STEPS = {"steps": 40, "chunk": 41}


@pytest.fixture(scope="module")
def method(tiny, images):
    """method(name) -> the inversion of three images in batches of four over two devices, made once."""
    return lru_cache(lambda name: lsap_jax.invert(tiny, images[:3], name, batch_size=4, **STEPS, **CASES[name][2]))


LONG = ("lsap_o", "f/s", "pn+", "projector")  # other tests invert in these spaces, too


@pytest.mark.usefixtures("full_compilation")
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in CASES])
def test_every_method_improves_and_keeps_what_it_shows(tiny, method, name):
    shapes, terms, options = CASES[name]
    inv = method(name)
    assert {key: code.shape[1:] for key, code in inv.codes.items()} == shapes
    assert set(inv.curves) == {"loss", "mse"} | terms
    weights = load_config(name, options).loss
    total = sum(weights[term] * curve for term, curve in inv.curves.items() if term != "loss")
    np.testing.assert_allclose(inv.curves["loss"], total, rtol=1e-4)
    kept = inv.curves["loss"].min(axis=1) if load_config(name).keep == "best" else inv.curves["loss"][:, -1]
    assert (kept < 0.95 * inv.curves["loss"][:, 0]).all()
    assert np.isfinite(inv.images).all() and all(np.isfinite(curve).all() for curve in inv.curves.values())
    np.testing.assert_array_equal(lsap_jax.render(tiny, inv.space, inv.codes), inv.images)
    if "noise" in shapes:
        for m in maps_of(jnp.asarray(inv.codes["noise"]), inv.space.noise_sides):
            np.testing.assert_allclose(m.mean(axis=(1, 2)), 0, atol=1e-5)
            np.testing.assert_allclose(np.square(m).mean(axis=(1, 2)), 1, atol=1e-4)


@pytest.mark.parametrize("name", ["wplus_pn", "image2stylegan", "s", "p", "pn", "f_w", "f_wplus"])
def test_other_presets_are_ready(tiny, name):
    """What `Inverter` checks, without a compilation."""
    inverter = Inverter(tiny, load_config(name, {"perceptual.network": "none"}))
    assert inverter.space.name == load_config(name).space
    assert (inverter.statistics is not None) == (name in ("wplus_pn", "pn"))


def test_presets_are_those_of_their_papers():
    table = {name: load_config(name) for name in ("projector", "lsap_o", "bdinvert", "wplus_pn", "image2stylegan")}
    assert [(c.space, c.steps, c.keep) for c in table.values()] == [
        ("w", 1000, "last"), ("w+", 1000, "last"), ("f/w+", 1200, "last"), ("w+", 1200, "best"), ("w+", 5000, "last"),
    ]  # fmt: skip
    for name in ("projector", "lsap_o"):
        config = table[name]
        assert (config.optimizer.lr, config.optimizer.schedule, config.noise_maps) == (0.1, "ramp", True)
        assert (config.latent_noise.scale, config.latent_noise.until, config.loss.noise) == (0.05, 0.75, 1e5)
    assert (table["lsap_o"].loss.nscd, table["projector"].loss.nscd) == (0.5, 0.0)
    assert table["bdinvert"].loss.pn == table["wplus_pn"].loss.pn == 0.01


def test_ramp_is_the_projectors_schedule():
    for t in np.linspace(0, 1, 41):
        down = min(1, (1 - t) / 0.25)
        expected = (0.5 - 0.5 * np.cos(np.pi * down)) * min(1, t / 0.05)
        np.testing.assert_allclose(ramp(jnp.float32(t)), expected, atol=1e-6)
    found = ramp(jnp.array([0.0, 0.025, 0.05, 0.75, 0.875, 1.0]))
    np.testing.assert_allclose(found, [0, 0.5, 1, 1, 0.5, 0], atol=1e-6)


def test_latent_noise_has_its_size_and_ends(tiny):
    noise, w = LatentNoise(scale=0.05, until=0.75), jnp.zeros((200, 6, 16))
    rng = jax.random.split(jax.random.key(0), 200)

    def noisy(w, rng, step, t):
        return np.asarray(noise(tiny, w, rng, jnp.full(len(w), step, jnp.int32), jnp.full(len(w), t, jnp.float32)))

    for t in (0.0, 0.375, 0.75, 1.0):
        found = noisy(w, rng, 3, t)
        expected = 0.05 * float(tiny.statistics.w_spread) * max(0, 1 - t / 0.75) ** 2
        np.testing.assert_allclose(found.std(), expected, rtol=0.03, atol=1e-12)
    first = noisy(w, rng, 3, 0.0)
    np.testing.assert_array_equal(first[7:8], noisy(w[:1], rng[7:8], 3, 0.0))
    assert np.abs(first - noisy(w, rng, 4, 0.0)).max() > 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("full_compilation")
def test_what_is_random_belongs_to_the_image_alone(tiny, images, method):
    """Promise 1 with latent noise, noise maps and every prior."""
    together = method("lsap_o")
    config = load_config("lsap_o", {**STEPS, **CASES["lsap_o"][2], "batch_size": 1})
    inverter = Inverter(tiny, config, devices=jax.local_devices()[:1])
    for i in (2, 0):
        (alone,) = inverter([Job(id=str(i), image=images[i])])
        assert abs(alone.metrics["mse"] / together.metrics["mse"][i] - 1) < 1e-3
        for key, code in alone.codes.items():
            close = np.abs(code - together.codes[key][i]) < 1e-3 * np.abs(code).max()
            assert close.mean() >= 0.999, key


def test_where_w_plus_codes_start(tiny, images):
    jobs = [Job(id=str(i), image=images[i]) for i in range(2)]

    def start(seed=0, **options):
        config = load_config("w+", {**PLAIN, "batch_size": 2, "seed": seed, **options})
        state, _ = Inverter(tiny, config, jax.local_devices()[:1]).begin(jobs)
        return np.asarray(state.codes["w"])[0]

    mean = start()
    np.testing.assert_allclose(mean, np.broadcast_to(tiny.w_avg, (2, 6, 16)), atol=1e-6)
    random = start(**{"init.detail": "random"})
    assert np.abs(random[0] - random[1]).max() > 0.1  # every image its own
    assert np.abs(random[0, 0] - random[0, 1]).max() > 0.1  # every row its own
    assert np.abs(random - start(1, **{"init.detail": "random"})).max() > 0.1
    after = start(**{"init.w_steps": 20})
    np.testing.assert_allclose(after, np.repeat(after[:, :1], 6, axis=1), atol=1e-6)
    assert np.abs(after - mean).max() > 0.1
    target = images[:2] / 127.5 - 1
    mse = [np.square(lsap_jax.render(tiny, "w+", {"w": w}) - target).mean(axis=(1, 2, 3)) for w in (mean, after)]
    assert (mse[1] < 0.95 * mse[0]).all()


def test_alignment_brings_codes_to_the_generators_own(tiny, images):
    def run(weight):
        options = {**PLAIN, "optimizer.lr": 0.1, "loss.nscd": weight}
        return lsap_jax.invert(tiny, images[:3], "w+", batch_size=4, **STEPS, **options)

    free, aligned = run(0.0), run(2.0)
    assert (free.curves["loss"].min(axis=1) < 0.9 * free.curves["loss"][:, 0]).all() and "nscd" not in free.curves
    found = [nscd(tiny.config, tiny.styles(inv.codes["w"]), tiny.statistics.anchors) for inv in (free, aligned)]
    assert (found[1].mean(axis=1) < found[0].mean(axis=1) - 0.01).all()
    best = aligned.curves["loss"].argmin(axis=1)
    np.testing.assert_allclose(aligned.curves["nscd"][np.arange(3), best], found[1].sum(axis=1), rtol=1e-4)
    assert (free.metrics["mse"] < aligned.metrics["mse"]).all()  # the cost


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ("w", {"retraction": "riemannian"}, "riemannian' is for z spaces; space w is flat"),
        ("f/s", {"retraction": "riemannian"}, "space f/s is flat, set it to 'project'"),
        ("z", {"latent_noise.scale": 0.1}, "latent_noise.scale=0.1: is noise on w, space z has none"),
        ("w", {"latent_noise.until": 0.0}, "until more than 0"),
        ("s", {"loss.pn": 0.1}, "loss.pn=0.1: the term needs ws, and space s has only styles"),
        ("f/s", {"loss.delta": 0.1}, "loss.delta=0.1: the term needs ws"),
        ("w+", {"loss.noise": 1.0}, "loss.noise=1.0: no noise is optimised; set noise_maps to true"),
        ("w+", {"loss.nscd": -1.0}, "loss.nscd=-1.0: a weight has to be 0 or more"),
        ("w+", {"nscd.reduce": "max"}, "choose sum or mean"),
        ("s", {"truncation.psi": 0.7}, "styles are not truncated; space s needs 1"),
        ("w+", {"optimizer.schedule": "step"}, "optimizer.schedule='step': choose one of constant, ramp, cosine"),
        ("w+", {"optimizer.lr": 0.0}, "optimizer: lr has to be more than 0"),
        ("w+", {"init.detail": "zero"}, "init.detail='zero': choose one of auto, random, w_avg, encoder, near"),
        ("w+", {"init.detail": "encoder"}, "init.detail='encoder' needs a latent encoder.*: name one by --enc"),
        ("w+", {"loss.domain": 2.0}, "loss.domain=2.0 needs a latent encoder, .* train one with `lsap-jax train-encod"),
        ("w+", {"init.w_steps": -1}, "init.w_steps=-1: needs to be 0 or more"),
        ("pn", {"eigenvalue_floor": 1.0}, "eigenvalue_floor=1.0: is a part of the largest variance"),
    ],
)
def test_what_a_space_has_no_use_for_is_refused_in_one_line(tiny, images, space, options, message):
    with pytest.raises(LsapError, match=message) as error:
        lsap_jax.invert(tiny, images[:1], space, **options)
    assert "\n" not in str(error.value)


def test_noise_maps_need_a_generator_with_noise(tiny, images):
    silent = tiny.replace(config=replace(tiny.config, use_noise=False))
    with pytest.raises(LsapError, match="noise_maps: this generator uses no noise"):
        lsap_jax.invert(silent, images[:1], "w", noise_maps=True)
