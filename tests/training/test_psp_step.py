"""One step of training an encoder of the family of pSp: stages, statistics, passes, devices."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given
from hypothesis import strategies as st

from lsap_jax.losses.judges import Networks
from lsap_jax.models.perceptual import from_discriminator
from lsap_jax.models.psp import PspEncoder as Holder
from lsap_jax.networks.irse import BATCH, Norm
from lsap_jax.networks.psp import PspConfig, PspEncoder, param_shapes
from lsap_jax.testing import tiny_images
from lsap_jax.training.initial import initial_params
from lsap_jax.training.latent_discriminator import CriticTraining
from lsap_jax.training.on_images import compiled_step
from lsap_jax.training.psp import initial_state
from lsap_jax.training.psp_step import (
    STATISTICS,
    PspTraining,
    Stages,
    Task,
    moved_statistics,
    psp_step,
    settled,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

TRUNK = {"units": ((16, 2), (16, 2), (16, 2)), "taps": (0, 1, 2), "head_convs": (1, 2, 3), "input_resolution": 16}
WEIGHTS = (("mse", 1.0), ("perceptual", 0.8), ("delta", 1e-3), ("nscd", 0.1), ("adversarial", 0.1))
BATCH_SIZE = 4


def task(weights=WEIGHTS, **changes) -> Task:
    shape = PspConfig(**{**TRUNK, "num_ws": 6, "w_dim": 16, "progressive": True, **changes})
    train = PspTraining(batch_size=BATCH_SIZE, lr=1e-2, noise_mode="const", mirror=False)
    return Task(shape=shape, side=16, weights=weights, train=train, critic=CriticTraining(pool=3, r1_interval=2))


@pytest.fixture(scope="module")
def networks(tiny) -> Networks:
    return Networks(generator=tiny.bare("statistics"), judges={"perceptual": from_discriminator(tiny)})


@pytest.fixture(scope="module")
def x() -> jax.Array:
    return jnp.asarray(tiny_images(BATCH_SIZE), jnp.float32) / 127.5 - 1


def start(task: Task):
    return initial_state(task, initial_params(param_shapes(task.shape), 0), 0)


@given(st.integers(2, 18), st.integers(0, 40), st.integers(0, 7), st.integers(0, 200))
def test_rows_get_their_offsets_at_the_originals_steps(rows, start_step, every, step):
    """e4e: row i from step start + (i - 1) · every on, the stage is the last row that has one."""
    size = 8
    shape = PspConfig(num_ws=rows, progressive=True)
    stages = Stages(start=start_step * size, every=every * size)
    found = int(Task(shape=shape, side=256, weights=(), stages=stages).stage(step))
    thresholds = [0, *(start_step + (i - 1) * every for i in range(1, rows))]
    assert found == max(i for i, threshold in enumerate(thresholds) if step >= threshold)
    assert int(Task(shape=replace(shape, progressive=False), side=256, weights=()).stage(0)) == rows - 1


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3, 3)])
def test_norms_by_the_batch_are_torchs(shape):
    """Batch statistics normalise, the unbiased variance is averaged, with torch's momentum."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * 3 + 1
    params = {
        "weight": jnp.arange(1.0, 4),
        "bias": jnp.ones(3),
        "running_mean": jnp.ones(3),
        "running_var": jnp.full(3, 2.0),
    }
    y, found = Norm().apply({"params": params}, x, mutable=[BATCH])
    axes, mean = tuple(range(x.ndim - 1)), x.mean(axis=tuple(range(x.ndim - 1)))
    expected = (x - mean) / np.sqrt(x.var(axis=axes) + 1e-5) * np.arange(1, 4) + 1
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    moved = moved_statistics(params, found[BATCH])
    np.testing.assert_allclose(moved["running_mean"], 0.9 + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(moved["running_var"], 1.8 + 0.1 * x.var(axis=axes, ddof=1), rtol=1e-5)
    plain = Norm().apply({"params": params}, x)
    np.testing.assert_allclose(plain, (x - 1) / np.sqrt(2 + 1e-5) * np.arange(1, 4) + 1, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def stepped(networks, x):
    """(task, state before, after, logs) of a step in stage 2."""
    own = replace(task(), stages=Stages(start=4, every=4))
    before = start(own)
    after, logs = jax.jit(psp_step, static_argnums=0)(own, networks, before, x, jnp.int32(2), jax.random.key(3))
    return own, before, after, logs


def test_a_step_moves_what_it_should(stepped):
    own, before, after, logs = stepped
    assert logs["stage"] == 2 and np.isfinite(list(logs.values())).all()
    assert logs.keys() == {
        "loss", "stage", *dict(WEIGHTS), "critic_loss", "critic_real", "critic_fake"
    }  # fmt: skip
    np.testing.assert_allclose(logs["loss"], sum(w * logs[name] for name, w in WEIGHTS), rtol=1e-5)
    old, new = flatten_dict(before.params), flatten_dict(after.params)
    for path in old:
        if path[-2] in ("fc1", "fc2"):  # an excitation of a single unit, which may be dead
            continue
        # Rows of later stages, and what they alone read.
        idle = path[0].startswith("latlayer") or (path[0] == "styles" and int(path[1]) > 2)
        assert np.array_equal(old[path], new[path]) == idle, path
    state = after.optimizer.inner_states["weights"].inner_state
    for path, leaf in flatten_dict(state.slow).items():
        assert path[-1] not in STATISTICS or not jax.tree.leaves(leaf)
    assert not jax.tree.all(jax.tree.map(np.array_equal, before.critic.params, after.critic.params))
    assert int(after.critic.real.filled) == int(after.critic.fake.filled) == 3


def test_untrained_rows_are_the_first_one(stepped, networks, x):
    own, _, after, _ = stepped
    E = Holder(config=own.shape, params={"encoder": settled(after.params, 2), "w_avg": jnp.zeros((6, 16))})
    ws = np.asarray(E(x, networks.generator))
    np.testing.assert_array_equal(ws[:, 3:], np.repeat(ws[:, :1], 3, axis=1))
    assert (ws[:, 1] != ws[:, 0]).any() and (ws[:, 2] != ws[:, 0]).any()
    at = PspEncoder(own.shape).apply({"params": after.params}, x, 2)
    np.testing.assert_allclose(ws, at, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_every_pass_of_restyle_has_its_own_gradient(networks, x):
    """The sum over the passes of the gradients of an independent loss of each, as the code's backward in each pass."""
    own = task((("mse", 1.0),), heads="last", in_channels=6, passes=3, progressive=False)
    own = replace(own, critic=None)
    G, network, state = networks.generator, PspEncoder(own.shape), start(own)
    ws = jnp.broadcast_to(G.w_avg[None, None], (BATCH_SIZE, 6, 16))
    total, grads = 0.0, jax.tree.map(jnp.zeros_like, state.params)

    @jax.jit
    def one(params, ws, image):
        def loss(params):
            seen = jnp.concatenate([x, image], axis=-1)
            offset = network.apply({"params": params}, seen, mutable=[BATCH])[0]
            y = G.synthesis(ws + offset)
            return jnp.square(y - x).mean(), (ws + offset, y)

        return jax.value_and_grad(loss, has_aux=True)(params)

    image = G.synthesis(ws)
    for _ in range(3):
        (value, (ws, image)), more = one(state.params, ws, image)
        total, grads = total + value, jax.tree.map(jnp.add, grads, more)
    step = jax.jit(psp_step, static_argnums=0)
    after, logs = step(own, networks, state, x, jnp.int32(0), jax.random.key(0))
    np.testing.assert_allclose(logs["loss"], total, rtol=1e-4)
    np.testing.assert_allclose(logs["mse"], value, rtol=1e-4)  # of the last pass
    # Ranger's first moments after one step are (1 - b1) · the gradients, centred.
    found = flatten_dict(after.optimizer.inner_states["weights"].inner_state.mu)
    for path, grad in flatten_dict(grads).items():
        if path[-1] in STATISTICS:
            continue
        g = np.asarray(grad)
        g = g - g.mean(axis=tuple(range(g.ndim - 1)), keepdims=True) if g.ndim > 1 else g
        np.testing.assert_allclose(found[path] / 0.05, g, rtol=2e-3, atol=2e-3 * np.abs(g).max() + 1e-7, err_msg=path)


@pytest.mark.slow
def test_devices_share_a_batch(networks):
    """Two devices compute what one does, batch norms and the pools of the discriminator included."""
    trunk = {"heads": "single", "progressive": False, "units": ((16, 2), (16, 2))}
    own, data, found = task((("mse", 1.0), ("adversarial", 0.1)), **trunk), jnp.asarray(tiny_images(8)), []
    networks = networks.replace(judges={})
    for count in (1, 2):
        devices = tuple(jax.local_devices()[:count])
        assert len(devices) == count, "the tests run with two fake devices"
        step, state = compiled_step(psp_step, own, devices), start(own)
        for k in range(2):
            state, logs = step(networks, state, data, jnp.arange(8)[::-1], k, k, jax.random.key(1))
        found.append((state, logs))
    (one, logs), (two, others) = found
    for name, value in logs.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    for path, leaf in flatten_dict(one.params).items():
        other = np.asarray(flatten_dict(two.params)[path])
        assert np.abs(leaf - other).max() <= 1e-3 * max(np.abs(leaf).max(), 1e-3), path
