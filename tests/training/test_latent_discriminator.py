"""e4e's latent discriminator: its logits, losses and R1 against the original, its pools, its steps."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_parity

from lsap_jax.networks.latent_discriminator import param_shapes
from lsap_jax.networks.parameters import merge
from lsap_jax.training.latent_discriminator import (
    CriticTraining,
    Pool,
    critic_loss,
    critic_step,
    initial_critic,
    logits,
    one_row,
    query,
    r1,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def original(golden, shared_file):
    """(reference file, params)."""
    spec = importlib.util.spec_from_file_location("seeded_weights_enc", shared_file("golden/seeded_weights_enc.py"))
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    file = golden("loss_e4e_latent")
    model = json.loads(bytes(file["meta_json"]))["models"]["latent_discriminator"]
    return file, merge(param_shapes(512), recipe.fill(model), "golden")


def test_logits_are_the_originals(original):
    file, params = original
    assert_parity("training", "real logits", logits(params, file["real_w"]), file["real_logits"][:, 0])
    assert_parity("training", "false logits", logits(params, file["latent"]), file["fake_logits_all"][..., 0])


def test_loss_r1_and_their_gradients_are_the_originals(original):
    file, params = original
    real, fake = file["real_w"], file["latent"][:, 0]
    loss, slope = jax.jit(jax.value_and_grad(critic_loss))(params, real, fake)
    assert_parity("training", "critic loss", loss, file["d_loss"])
    penalty, steep = jax.jit(jax.value_and_grad(r1))(params, real)
    assert_parity("training", "r1", penalty, file["r1_penalty"])
    assert_parity("training", "r1 with its factor", penalty * (10 / 2 * 16), file["r1_final"])
    for name in (f"mlp.{k}.{leaf}" for k in (0, 2, 4, 6) for leaf in ("weight", "bias")):
        found = flatten_dict(slope, sep=".")[name]
        assert_parity("training", f"gradient {name}", jnp.linalg.norm(found), file[f"d_loss_grad_norm/{name}"])
        if (key := f"r1_final_grad_norm/{name}") in file:
            found = jnp.linalg.norm(flatten_dict(steep, sep=".")[name]) * 80
            assert_parity("training", f"r1's gradient {name}", found, file[key])


@settings(max_examples=8)
@given(st.sampled_from([1, 4]), st.just(3), st.integers(1, 6), st.integers(0, 99))
def test_a_pool_keeps_every_code_once_and_gives_as_many(size, count, rounds, seed):
    """Each code is in the pool or was given out, and none appears twice: the pool swaps."""
    pool = Pool(jnp.zeros((size, 1)), jnp.zeros((), jnp.int32))
    entered, given_out = [], []
    for k in range(rounds):
        codes = jnp.arange(1.0 + k * count, 1 + (k + 1) * count)[:, None]
        entered += codes[:, 0].tolist()
        before = set(np.asarray(pool.codes[: int(pool.filled), 0]).tolist())
        pool, given = query(pool, codes, jax.random.fold_in(jax.random.key(seed), k))
        own = given[:, 0].tolist()
        assert len(own) == count and set(own) <= before | set(codes[:, 0].tolist())
        given_out += own
    kept = np.asarray(pool.codes[: int(pool.filled), 0]).tolist()
    assert int(pool.filled) == min(size, len(entered))
    first = entered[:size]  # while it fills, codes are both kept and given
    assert sorted(given_out + kept) == sorted(entered + first)


def test_a_full_pool_swaps_half_of_the_codes():
    pool = Pool(-jnp.ones((50, 1)), jnp.int32(50))
    _, given = query(pool, jnp.arange(2000.0)[:, None], jax.random.key(0))
    assert 0.45 < np.mean(np.asarray(given[:, 0]) == np.arange(2000)) < 0.55


def test_rows_come_from_the_active_ones():
    ws = jnp.broadcast_to(jnp.arange(6.0)[None, :, None], (400, 6, 2))
    pick = jax.jit(lambda stage: one_row(CriticTraining(), ws, stage, jax.random.key(0))[:, 0])
    assert set(pick(3).tolist()) == {0.0, 1.0, 2.0, 3.0} and set(pick(0).tolist()) == {0.0}
    assert set(np.asarray(one_row(CriticTraining(pool=0), ws, jnp.int32(5), jax.random.key(0))[:, 0])) == {0.0}


def test_it_learns_to_tell_codes_apart_and_r1_has_its_turn():
    train = CriticTraining(lr=1e-2, r1_interval=4, r1_gamma=1.0)
    state = initial_critic(train, 4, 0)
    real = jax.random.normal(jax.random.key(1), (16, 4)) + 2
    ws = jax.random.normal(jax.random.key(2), (16, 3, 4)) - 2
    step = jax.jit(lambda state, k: critic_step(train, state, real, ws, jnp.int32(2), k, jax.random.key(k)))
    counts, losses = [], []
    for k in range(30):
        state, logs = step(state, k)
        counts.append(int(state.optimizer[0].count))
        losses.append(float(logs["critic_loss"]))
    assert losses[-1] < 0.6 * losses[0] and logs["critic_real"] > 0 > logs["critic_fake"]
    taken = np.diff([0, *counts])
    assert all(n == (2 if k % 4 == 0 else 1) for k, n in enumerate(taken))  # R1 is a step of its own
