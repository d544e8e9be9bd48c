"""Training StyleRes' networks: the two ways of an image, the cycle, Adam, the original's loss, whole trainings."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parity import assert_parity, nhwc

import lsap_jax
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Networks
from lsap_jax.models.perceptual import from_discriminator
from lsap_jax.models.psp import PspEncoder
from lsap_jax.networks import psp
from lsap_jax.networks.psp import PspConfig
from lsap_jax.testing import tiny_images
from lsap_jax.training.initial import initial_params
from lsap_jax.training.on_images import compiled_step
from lsap_jax.training.refiner import train_refiner
from lsap_jax.training.styleres import critic_of, first_state, judge, networks_of, task_for
from lsap_jax.training.styleres_step import (
    Edits,
    encoded,
    loss_of,
    random_edits,
    rendered,
    scale_by_adam,
    styleres_step,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")
ENCODER = PspConfig(
    num_ws=6, w_dim=16, units=((16, 2), (24, 2), (16, 2)), taps=(0, 1, 2), head_convs=(1, 2, 3), input_resolution=16
)
CHANGES = {
    "generator": "tiny", "total_images": 24, "snapshot_images": 8, "heldout": 6, "loss.identity": 0.0,
    "loss.cycle_identity": 0.0, "loss.addition": 0.01, "refiner.resolution": 8, "refiner.width": 4,
    "train.batch_size": 4, "train.lr": 1e-3, "train.mirror": False,
}  # fmt: skip


def config(**changes):
    own = load_config("train_styleres", {**CHANGES, **changes})
    return own


@pytest.fixture(scope="module")
def G(tiny):
    params = {"encoder": initial_params(psp.param_shapes(ENCODER), 0), "w_avg": jnp.tile(tiny.w_avg, (6, 1))}
    return tiny.bare("discriminator").with_part("psp", PspEncoder(config=ENCODER, params=params))


@pytest.fixture(scope="module")
def task(G):
    return task_for(config(), G)


@pytest.fixture(scope="module")
def networks(G):
    return Networks(generator=G, judges={"perceptual": from_discriminator(G)})


@pytest.fixture(scope="module")
def x():
    return jnp.asarray(tiny_images(4), jnp.float32) / 127.5 - 1


def test_adam_is_tensorflows():
    """√(1 - b2ᵗ) / (1 - b1ᵗ) · m / (√v + ε), by a loop of numbers; ε counts as gradients are as small."""
    tx, rng = scale_by_adam(eps=1e-3), np.random.default_rng(0)
    params = jnp.zeros(3)
    state, m, v = tx.init(params), 0, 0
    for t in range(1, 5):
        g = rng.standard_normal(3) * 1e-3
        found, state = tx.update(jnp.asarray(g, jnp.float32), state)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        expected = np.sqrt(1 - 0.99**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-3)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@given(st.integers(0, 50), st.floats(0, 1), st.floats(0, 0.5))
def test_edits_go_a_share_of_the_way_to_one_w(G, task, seed, low, width):
    task = replace(task, edits=Edits(probability=0.5, low=low, high=low + width))
    ws = jnp.asarray(np.random.default_rng(seed).standard_normal((16, 6, 16)), jnp.float32)
    rng = jax.random.key(seed)
    e, edited = random_edits(task, G, ws, rng)
    towards = G.mapping(jax.random.normal(jax.random.split(rng, 3)[0], (16, 16))) - ws
    share = np.asarray((e * towards).sum((1, 2)) / (towards * towards).sum((1, 2)))
    np.testing.assert_allclose(e, share[:, None, None] * towards, atol=1e-4)
    assert set(np.unique(edited)) <= {0, 1} and not np.asarray(e)[np.asarray(edited) == 0].any()
    inside = share[np.asarray(edited) == 1]
    assert (inside >= low - 1e-4).all() and (inside <= low + width + 1e-4).all()


def test_the_loss_of_the_original(golden):
    """Its terms that need no network of faces: sample 0 is unedited, sample 1 edited."""
    file = golden("styleres_losses")
    real, fake, cycle = (
        nhwc(file[f"{name}_u8"]).astype(np.float32) / 127.5 - 1 for name in ("reals", "fakes", "cycle")
    )
    rng = np.random.RandomState(54902)
    rng.randn(*file["additions"].shape), rng.randn(*file["gates"].shape)
    vector = (rng.randn(3 * 256 * 256) / 200).astype(np.float32).reshape(3, 256, 256).transpose(1, 2, 0)
    edited = (file["factor"] != 0).astype(np.float32)
    weights = {"mse": 1.0, "adversarial": 0.1, "addition": 5.0}
    D = lambda images: jnp.tensordot(images, vector, 3)[:, None]  # noqa: E731
    nothing = Networks(generator=None)
    _, logs = loss_of(weights, nothing, D, real, edited, fake, cycle, nhwc(file["additions"]))
    for name, key in (("mse", "recon_loss"), ("addition", "f_regularizer"), ("adversarial", "adv_loss")):
        assert_parity("styleres", key, weights[name] * logs[name], file[f"mixed/{key}"])


def test_unedited_images_alone_are_compared(networks, x):
    """With none of them, these terms are 0; the cycle and the addition count all."""
    edited, y = jnp.array([0.0, 1, 1, 0]), x + jnp.arange(4.0)[:, None, None, None]
    weights = {"mse": 1.0, "perceptual": 1.0, "cycle_perceptual": 1.0, "addition": 1.0}
    _, logs = loss_of(weights, networks, None, x, edited, y, x, jnp.ones((4, 2, 2, 1)))
    np.testing.assert_allclose(logs["mse"], (0 + 9) / 2, rtol=1e-5)
    assert logs["addition"] == 1 and float(logs["cycle_perceptual"]) < 1e-6 and "adversarial" not in logs
    _, logs = loss_of(weights, networks, None, x, jnp.ones(4), y, x, jnp.ones((4, 2, 2, 1)))
    assert logs["mse"] == 0 and logs["perceptual"] == 0


@pytest.mark.slow
def test_an_unedited_image_of_a_step_is_that_of_the_refiner(G, task, networks, x):
    state = first_state(task, networks, 0)
    seen = encoded(task, G, x)
    np.testing.assert_allclose(seen.ws, G.parts["psp"](x, G), atol=1e-5)
    y, _ = rendered(task, G, state.params, seen, seen.ws)
    refiner = networks_of(task, state)
    own = G.with_part("styleres", refiner)
    found = lsap_jax.refine(own, ("w+", {"w": np.asarray(seen.ws)}), np.asarray(x), "styleres")
    np.testing.assert_allclose(np.clip(y, -1, 1), found.images, atol=1e-4)
    metrics, (_, shown, _, back) = judge(task, networks, refiner, x)
    np.testing.assert_allclose(shown, y, atol=1e-4)
    assert metrics.keys() == {"mse", "psnr", "perceptual", "codes_psnr", "cycle_psnr"} and back.shape == x.shape


@pytest.mark.slow
def test_no_gradient_flows_through_the_second_encoding(G, task, networks, x):
    """With the cycle's terms alone, the first image does not count: as if it were another constant."""
    weights = (("cycle_perceptual", 1.0),)
    only = replace(task, weights=weights, critic=None, edits=Edits(probability=0.0))
    state = replace(first_state(task, networks, 0), critic={}, critic_optimizer={})
    params = state.params
    seen = encoded(only, G, x)
    again = encoded(only, G, rendered(only, G, params, seen, seen.ws)[0])

    def direct(params):
        cycled = rendered(only, G, params, again, again.ws)[0]
        judge = networks.judges["perceptual"]
        return judge.distance(judge.features(cycled), judge.features(x)).mean()

    grads = jax.jit(jax.grad(direct))(params)
    step = jax.jit(lambda state: styleres_step(only, networks, state, x, 0, jax.random.key(0))[0])(state)
    mean = jax.tree.map(lambda m: m / 0.1, step.optimizer[0].mean)  # after a step from zeros: (1 - b1) · gradient
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3 * largest), mean, grads)
    assert largest > 0


@pytest.mark.slow
def test_several_devices_compute_the_same_step(G, task, networks, x):
    found = []
    for devices in (jax.local_devices()[:1], jax.local_devices()[:2]):
        step = compiled_step(styleres_step, task, tuple(devices))
        data, order = np.asarray(tiny_images(4)), np.arange(4, dtype=np.int32)
        frozen = networks.replace(generator=G.bare("psp")).freeze()
        state = jax.tree.map(jnp.array, first_state(task, networks, 0))
        found.append(step(frozen, state, data, order, 0, 0, jax.random.key(0)))
    (one, logs), (two, others) = found
    for name, value in logs.items():
        np.testing.assert_allclose(value, others[name], rtol=1e-3, atol=1e-6)
    mean = [jax.tree.leaves(state.optimizer[0].mean) for state in (one, two)]
    largest = max(float(jnp.abs(a).max()) for a in mean[0])
    for a, b in zip(*mean, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3 * largest)


@pytest.mark.slow
def test_a_whole_training_resumed(G, tmp_path):
    np.savez(tmp_path / "pack.npz", images=tiny_images(18))
    data = {"data": str(tmp_path / "pack.npz"), "float16": True}
    train_refiner(config(**data), G, tmp_path / "whole", lambda _: None)
    train_refiner(config(**data, total_images=16), G, tmp_path / "part", lambda _: None)
    path = train_refiner(config(**data), G, tmp_path / "part", lambda _: None)
    assert path.read_bytes() == (tmp_path / "whole" / "refiner.safetensors").read_bytes()
    joined = lsap_jax.load_generator(tmp_path / "part" / "generator.safetensors")
    assert {a.dtype.name for name, a in joined.arrays().items() if name.startswith("styleres/")} == {"float16"}
    inv = lsap_jax.encode(joined, None, tiny_images(2))
    assert np.isfinite(lsap_jax.refine(joined, inv, tiny_images(2), "styleres").images).all()


def test_what_cannot_be_trained_is_refused(G):
    for changes, message in (
        ({"refiner.resolution": 32}, r"refiner.resolution=32: generator and encoder both have features of \[4, 8\] px"),
        ({"refiner.width": 5}, "refiner.width=5: width 5 is odd"),
        ({"train.noise_mode": "random"}, "train.noise_mode='random': choose const or none"),
        ({"train.batch_size": 6}, "train.batch_size=6: the discriminator looks at groups of 4"),
        ({"edits.low": 0.9}, "low is not above high"),
    ):
        with pytest.raises(LsapError, match=message):
            task_for(config(**changes), G)
    with pytest.raises(LsapError, match="reads features of an encoder of pSp's family"):
        task_for(config(), G.without("psp"))
    assert critic_of(G.without("discriminator"), 16, "").config.img_resolution == 16
