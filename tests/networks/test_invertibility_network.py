"""SAM's invertibility network against the original code, through a file as its project saves it."""

import importlib.util
import json

import foreign_files as files
import jax
import numpy as np
import pytest
from parity import assert_parity, nhwc

from lsap_jax.models.network_file import load
from lsap_jax.networks.invertibility import Invertibility, InvertibilityConfig, param_shapes
from lsap_jax.networks.parameters import count
from lsap_jax.testing import random_leaves

SMALL = InvertibilityConfig(
    resolutions=(8,), input_resolution=16, kernel=3, pooled=False, stem=4, stages=((4, 1, 1, (1,)), (4, 2, 2, (2, 4))),
    rates=(1, 2), pyramid=4, low=4, decoder=4, features=4, head=2,
)  # fmt: skip


@pytest.mark.slow
def test_the_public_network(golden, shared_file, tmp_path):
    file = golden("sam_invertibility")
    spec = importlib.util.spec_from_file_location("seeded_weights", shared_file("golden/seeded_weights.py"))
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    nets, states = json.loads(bytes(file["meta_json"]))["nets"], {}
    for name, net in nets.items():
        drawn = recipe.fill(net["tensors"], net["seed"], net["gain"])
        states[name.removeprefix("head ")] = {key: files.T(a) for key, a in drawn.items()}
    states["sd_base"] = states.pop("deeplab")
    (tmp_path / "sam.pt").write_bytes(files.torch_zip(states))
    network = load(tmp_path / "sam.pt", "invertibility")
    assert network.config == InvertibilityConfig()
    maps = network.maps(nhwc(file["x"]))
    for k, name in enumerate(network.config.latents):
        assert_parity("sam_invertibility", name, maps[..., k][:, ::2, ::2], file[f"map/{name}"][:, 0])


def test_dropping_layers_is_for_trainings():
    """The same params: without an rng nothing is random, with one something is."""
    params = random_leaves(param_shapes(SMALL), np.random.default_rng(0))
    network, x = Invertibility(SMALL), np.random.default_rng(1).standard_normal((2, 16, 16, 3), np.float32)
    apply = jax.jit(lambda rngs: network.apply({"params": params}, x, rngs=rngs))
    plain = apply({})
    assert plain.shape == (2, 16, 16, 2) and (np.asarray(plain) >= 0).all()
    one, other = (apply({"dropout": jax.random.key(seed)}) for seed in (0, 1))
    assert not np.array_equal(one, other) and not np.array_equal(one, plain)


def test_shapes_and_names():
    assert count(param_shapes(InvertibilityConfig())) == pytest.approx(59.4e6, rel=0.01)
    assert InvertibilityConfig().latents == ("W+", "F4", "F6", "F8", "F10")
    for wrong, message in (
        ({"resolutions": (32, 16)}, "resolutions are .* they ascend"),
        ({"stages": ((4, 3, 1, (1, 2)),)}, "a stage of 3 units has 2 dilations; give 1, or one each"),
    ):
        with pytest.raises(ValueError, match=message):
            InvertibilityConfig(**wrong)
