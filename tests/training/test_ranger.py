"""Ranger against the original optimiser."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from parity import assert_parity

from lsap_jax.training.ranger import ranger, step_size

NAMES = {"k": "sync_period", "alpha": "slow_step", "gc_conv_only": "convolutions_only"}
CASES = ("default", "lr1e-4", "wd", "k3a08", "gcconv", "nogc")


def leaf(a: np.ndarray) -> jax.Array:
    """An array in torch's layout, outputs first, as this library has it, outputs last."""
    return jnp.asarray(a.transpose(*range(1, a.ndim), 0))


@pytest.mark.parametrize("case", CASES)
def test_every_iterate_is_the_originals(golden, case):
    file = golden("optim_ranger")
    options = json.loads(bytes(file["meta_json"]))["cases"][case]
    options.pop("use_gc", None)  # the original ignores it
    tx = ranger(options.pop("lr"), **{NAMES.get(key, key): value for key, value in options.items()})
    params, target, curvature = ({n: leaf(file[f"{kind}/{n}"]) for n in "vmk"} for kind in ("init", "target", "curv"))

    @jax.jit
    def step(params, state):
        grads = jax.tree.map(lambda p, t, c: c * (p - t), params, target, curvature)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for k in range(13):
        for name in "vmk":
            assert_parity("ranger", f"{case} {name} {k}", params[name], leaf(file[f"{case}/{name}"][k]))
        params, state = step(params, state)


def test_steps_are_adaptive_from_the_sixth_on():
    assert [bool(step_size(jnp.asarray(t), 0.95, 0.999)[1]) for t in (1, 5, 6, 100)] == [False, False, True, True]
    assert np.isfinite([float(step_size(jnp.asarray(t), 0.95, 0.999)[0]) for t in (1, 2, 5, 6, 100_000)]).all()


def test_it_needs_the_params():
    tx = ranger(0.1)
    with pytest.raises(ValueError, match="needs the params"):
        tx.update({"w": jnp.ones(2)}, tx.init({"w": jnp.ones(2)}))
