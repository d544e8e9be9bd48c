"""Retraction and Riemannian Adam as optax transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsap_jax.inversion.optimizers import make_optimizer, retraction, scale_by_riemannian_adam
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.sphere import retract

pytestmark = pytest.mark.usefixtures("quick_compilation")

MOMENTS = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}


def codes(seed: int = 0, dim: int = 16) -> dict:
    z_rng, f_rng = jax.random.split(jax.random.key(seed))
    return {"z": retract(jax.random.normal(z_rng, (2, 3, dim))), "f": jax.random.normal(f_rng, (2, 4, 4, 2))}


@pytest.mark.parametrize("name", ["project", "riemannian"])
@given(seed=st.integers(0, 1000), lr=st.floats(1e-3, 2.0))
def test_apply_updates_lands_on_the_sphere(name, seed, lr):
    optimizer = make_optimizer(parse_space("f/z+"), name, lr, **MOMENTS)
    params, state = codes(seed), None
    state = optimizer.init(params)
    for i in range(3):
        grads = jax.tree.map(lambda p, i=i: jax.random.normal(jax.random.key(seed + i), p.shape), params)
        updates, state = optimizer.update(grads, state, params, progress=i / 3)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(jnp.linalg.norm(params["z"], axis=-1), 4.0, rtol=1e-5)


def test_projection_is_adam_then_equation_5():
    space, params = parse_space("f/z+"), codes()
    grads = codes(1)
    plain, projected = optax.adam(0.01), make_optimizer(space, "project", 0.01, **MOMENTS)
    expected = optax.apply_updates(params, plain.update(grads, plain.init(params), params)[0])
    updates, _ = projected.update(grads, projected.init(params), params, progress=0.0)
    found = optax.apply_updates(params, updates)
    np.testing.assert_allclose(found["z"], retract(expected["z"]), atol=1e-6)
    np.testing.assert_allclose(found["f"], expected["f"], atol=1e-6)


def test_normalising_inside_the_graph_leaves_adam_alone():
    params, grads = codes(), codes(1)
    adam, found = optax.adam(0.01), make_optimizer(parse_space("f/z+"), "normalise", 0.01, **MOMENTS)
    a, _ = adam.update(grads, adam.init(params), params)
    b, _ = found.update(grads, found.init(params), params, progress=0.5)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


def test_riemannian_steps_are_tangent_isotropic_and_of_adams_length():
    params = {"z": codes()["z"]}
    optimizer = scale_by_riemannian_adam()
    grads = {"z": jax.random.normal(jax.random.key(5), params["z"].shape) * jnp.array([1.0, 100.0])[:, None, None]}
    step, state = optimizer.update(grads, optimizer.init(params), params)
    along = jnp.sum(step["z"] * params["z"], axis=-1)
    np.testing.assert_allclose(along, 0.0, atol=1e-4)
    np.testing.assert_allclose(jnp.linalg.norm(step["z"], axis=-1), 4.0, rtol=1e-3)  # √16, whatever the scale
    assert state.nu["z"].shape == (2, 3, 1)
    # Turning the coordinates turns the step: one second moment per z_i, none per coordinate.
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 16)))
    q = jnp.asarray(q, jnp.float32)
    turned = {"z": params["z"] @ q}
    again, _ = optimizer.update({"z": grads["z"] @ q}, optimizer.init(turned), turned)
    np.testing.assert_allclose(again["z"], step["z"] @ q, atol=1e-3)


def test_momentum_is_transported():
    optimizer = scale_by_riemannian_adam()
    params = {"z": codes()["z"]}
    grads = {"z": jax.random.normal(jax.random.key(2), params["z"].shape)}
    step, state = optimizer.update(grads, optimizer.init(params), params)
    moved = {"z": retract(params["z"] - 0.5 * step["z"])}
    step, state = optimizer.update(jax.tree.map(jnp.zeros_like, grads), state, moved)
    np.testing.assert_allclose(jnp.sum(step["z"] * moved["z"], axis=-1), 0.0, atol=1e-4)
    assert jnp.abs(step["z"]).max() > 1e-2


def test_all_three_minimise_on_the_sphere():
    goal = retract(jax.random.normal(jax.random.key(9), (1, 1, 16)))
    space = parse_space("z+")
    for name in ("project", "normalise", "riemannian"):
        optimizer = make_optimizer(space, name, 0.02, **MOMENTS)
        params = {"z": retract(jax.random.normal(jax.random.key(3), (1, 1, 16)))}
        state = optimizer.init(params)

        @jax.jit
        def step(params, state, optimizer=optimizer):
            grads = jax.grad(lambda p: jnp.sum(jnp.square(retract(p["z"]) - goal)))(params)
            updates, state = optimizer.update(grads, state, params, progress=0.5)
            return optax.apply_updates(params, updates), state

        for _ in range(400):
            params, state = step(params, state)
        assert jnp.abs(retract(params["z"]) - goal).max() < 0.05, name


def test_the_retraction_leaves_the_base_code_alone():
    transform = retraction(parse_space("f/z"), {"z"})
    params = {"z": codes()["z"][:, 0], "f": codes()["f"]}
    updates, _ = transform.update({"z": params["z"] * 3, "f": jnp.full_like(params["f"], 0.25)}, None, params)
    np.testing.assert_allclose(updates["f"], 0.25, atol=1e-6)
    np.testing.assert_allclose(updates["z"], 0.0, atol=1e-5)


@pytest.mark.parametrize(
    ("progress", "part", "down"),
    [(0.0, 0.0, 1.0), (0.025, 0.5, 0.998459), (0.5, 1.0, 0.5), (0.875, 0.5, 0.0380602), (1.0, 0.0, 0.0)],
)
def test_the_step_follows_the_schedule(progress, part, down):
    space, params = parse_space("w"), {"w": codes()["z"][:, 0]}
    grads = {"w": codes(1)["z"][:, 0]}
    step = {}
    for schedule in ("constant", "ramp", "cosine"):
        optimizer = make_optimizer(space, "project", 0.1, schedule=schedule, **MOMENTS)
        step[schedule] = optimizer.update(grads, optimizer.init(params), params, progress=jnp.float32(progress))[0]["w"]
    np.testing.assert_allclose(step["ramp"], part * step["constant"], atol=1e-7)
    np.testing.assert_allclose(step["cosine"], down * step["constant"], atol=1e-7)
    np.testing.assert_allclose(jnp.abs(step["constant"]), 0.1, rtol=1e-4)  # the first step of Adam


def test_the_base_code_may_have_a_rate_of_its_own():
    params, grads = codes(), codes(1)
    space, step = parse_space("f/z+"), {}
    for lr_f in (0.0, 0.03):
        optimizer = make_optimizer(space, "project", 0.01, lr_f=lr_f, **MOMENTS)
        step[lr_f] = optimizer.update(grads, optimizer.init(params), params, progress=0.0)[0]
    np.testing.assert_allclose(step[0.03]["f"], 3 * step[0.0]["f"], rtol=1e-5)
    np.testing.assert_array_equal(step[0.03]["z"], step[0.0]["z"])


@pytest.mark.parametrize("name", ["project", "normalise", "riemannian"])
def test_noise_maps_are_brought_back_by_every_retraction(name):
    space = parse_space("f/z+", noise_sides=(4, 8))
    params = {**codes(), "noise": jax.random.normal(jax.random.key(4), (2, 80))}
    grads = jax.tree.map(jnp.ones_like, params)
    optimizer = make_optimizer(space, name, 0.5, **MOMENTS)
    updates, _ = optimizer.update(grads, optimizer.init(params), params, progress=0.5)
    landed = optax.apply_updates(params, updates)
    for part in (landed["noise"][:, :16], landed["noise"][:, 16:]):
        np.testing.assert_allclose(part.mean(axis=1), 0, atol=1e-5)
        np.testing.assert_allclose(jnp.square(part).mean(axis=1), 1, atol=1e-4)
    on_sphere = np.allclose(jnp.linalg.norm(landed["z"], axis=-1), 4.0, rtol=1e-5)
    assert on_sphere == (name != "normalise")
