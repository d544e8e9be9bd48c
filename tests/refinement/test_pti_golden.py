"""Pivotal tuning against the original: losses step by step, weights, early stop, locality, and pivots in Z+."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from parity import assert_parity, nhwc

from convert_weights.layout import leaf_layout
from lsap_jax.losses.pixel import mse
from lsap_jax.models.generator import Generator
from lsap_jax.networks.families import generator_shapes
from lsap_jax.networks.parameters import merge
from lsap_jax.networks.stylegan2 import GeneratorConfig
from lsap_jax.refinement import locality, pti
from lsap_jax.rendering.refinement import Full, Refinement, merged
from lsap_jax.rendering.render import decode, synthesise
from lsap_jax.spaces import parse_space

STEPS = 6
LOCAL = locality.Locality(alpha=30.0, psi=0.5, mse=0.1, perceptual=0.1, interval=1)


@pytest.fixture(scope="module")
def file(golden):
    return golden("pti_small")


@pytest.fixture(scope="module")
def G(golden):
    file = golden("nv_g32")
    tensors = {k.removeprefix("sd/"): a for k, a in file.items() if k.startswith("sd/") and "resample" not in k}
    config = GeneratorConfig(
        img_resolution=32, channels=(64, 64, 64, 32), z_dim=64, w_dim=64, layer_features=64, mapping_layers=8
    )
    return Generator(config=config, params=merge(generator_shapes(config), tensors, "nv_g32"))


@pytest.fixture(scope="module")
def alex(seeded_lpips):
    return seeded_lpips("alex")


def tuned(method, G, space, codes, target):
    """A function of the number of steps and the least distance to the refinement, compiled once for all."""

    @jax.jit
    def run(rng, steps, stop):
        codes_, refinement, course = method.replace(steps=steps, stop=stop)(G, space, codes, target, rng, None)
        return refinement, course, synthesise(G, decode(G, space, codes_, refinement), refinement)

    return lambda steps, stop=0.0: run(jax.random.split(jax.random.key(0), 1), steps, stop)


def check_losses(group, file, prefix, run, judge, target):
    for step in (0, 1, STEPS - 1):
        image = run(step)[2]
        l2 = mse(image, target)
        distance = judge.distance(judge.features(image), judge.features(target))
        for name, value in (("l2", l2), ("lpips", distance)):
            assert_parity(group, f"{prefix}{name}[{step}]", value[0], file[f"{prefix}{name}"][step])


def check_weights(group, file, refinement, G, prefix, learning_rate):
    """Adam turns a gradient near zero into a whole step, so a few entries may be a step or two away."""
    slices = json.loads(bytes(file["meta_json"]))["slices"]
    params = flatten_dict(dict(merged(G, jax.tree.map(lambda a: a[0], refinement.weights)).params), sep=".")
    inverse = {4: (3, 2, 0, 1), 3: (2, 0, 1), 2: (1, 0)}
    checked = 0
    for name, where in slices.items():
        if f"{prefix}{name}" not in file:
            continue
        found = np.asarray(params[name])
        found = found.transpose(inverse[found.ndim]) if found.ndim > 1 else found
        assert leaf_layout(name, found).shape == params[name].shape
        gap = np.abs(found[eval(where)] - file[f"{prefix}{name}"])  # slices that the reference states
        assert gap.max() <= 2.5 * STEPS * learning_rate and np.mean(gap > 3e-5) < 0.01, name
        checked += 1
    return checked


@pytest.mark.slow
def test_every_loss_weight_and_image_is_the_originals(file, G, alex):
    target = jnp.asarray(nhwc(file["target"]))
    method = pti.Pti(judge=alex, dtype="float32")
    run = tuned(method, G, parse_space("w+"), {"w": jnp.asarray(file["pivot"])}, target)
    assert_parity("pti_small", "img_pivot", run(0)[2], nhwc(file["img_pivot"]))
    check_losses("pti_small", file, "", run, alex, target)
    refinement, course, image = run(STEPS)
    assert course.step[0] == STEPS and course.finite[0]
    assert_parity("pti_small", "img_final", image, nhwc(file["img_final"]), rtol=1e-3, atol=1e-4)
    assert check_weights("pti_small", file, refinement, G, "w/", 3e-4) == 11
    trained = {name for name in json.loads(bytes(file["meta_json"]))["params_with_grad"]}
    assert set(refinement.weights) == trained
    assert float(jnp.abs(refinement.weights["synthesis.b16.conv1.noise_strength"].delta[0])) > 1e-4

    _, course, image = run(STEPS, float(file["stop_threshold"]))
    assert course.step[0] == int(file["stop_n_evaluations"]) - 1
    assert_parity("pti_small", "stop_img", image, nhwc(file["stop_img"]), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_locality_term_is_the_originals(file, G, alex, monkeypatch):
    target, pivot = jnp.asarray(nhwc(file["target"])), {"w": jnp.asarray(file["pivot"])}
    space = parse_space("w+")
    decoded = space.decode(G, pivot)
    ws = locality.near(G, decoded, jnp.asarray(file["loc/z"]), LOCAL)
    assert_parity("pti_small", "loc/w_r", ws, file["loc/w_r"])

    drawn = jnp.asarray(file["tune_loc/z"])
    monkeypatch.setattr(pti, "random_z", lambda G, rng, step: drawn[step][None])
    method = pti.Pti(judge=alex, dtype="float32", locality=LOCAL)
    run = tuned(method, G, space, pivot, target)
    check_losses("pti_small", file, "tune_loc/", run, alex, target)
    final = run(STEPS)[2]
    assert_parity("pti_small", "tune_loc/img_final", final, nhwc(file["tune_loc/img_final"]), rtol=1e-3, atol=1e-4)

    plain = tuned(method.replace(locality=None), G, space, pivot, target)(STEPS)[0]
    own = jax.tree.map(jnp.asarray, plain)
    value = jax.jit(partial(locality.locality, LOCAL, alex))(G, decoded, own, jnp.asarray(file["loc/z"]))
    assert_parity("pti_small", "loc/value", value, file["loc/value"], rtol=2e-3)


@pytest.mark.slow
def test_the_mapping_network_is_tuned_for_pivots_in_z_plus(file, G, alex):
    space = parse_space("z+")
    space = replace(space, detail=replace(space.detail, normalise=True))
    target, z = jnp.asarray(nhwc(file["target"])), {"z": jnp.asarray(file["zplus/z_pivot"])[None]}
    run = tuned(pti.Pti(judge=alex, dtype="float32", mapping=True), G, space, z, target)
    check_losses("pti_small", file, "zplus/", run, alex, target)
    refinement, _, image = run(STEPS)
    final = nhwc(file["zplus/img_final"])
    assert_parity("pti_small", "zplus/img_final", image, final, rtol=1e-3, atol=1e-4)
    assert {f"mapping.fc{i}.{k}" for i in range(8) for k in ("weight", "bias")} < set(refinement.weights)
    assert not [name for name in refinement.weights if name.endswith(("w_avg", "noise_const"))]
    assert isinstance(refinement.weights["mapping.fc7.bias"], Full) and isinstance(refinement, Refinement)
    one = jax.tree.map(lambda a: a[0], refinement.weights)
    found = np.asarray(flatten_dict(dict(merged(G, one).params), sep=".")["mapping.fc7.bias"])
    assert_parity("pti_small", "zplus/w/mapping.fc7.bias", found, file["zplus/w/mapping.fc7.bias"], rtol=1e-3)
