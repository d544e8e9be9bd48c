"""StyleRes' networks against the original modules."""

import importlib.util
import json

import jax
import numpy as np
import pytest
from parity import assert_parity, nhwc

from lsap_jax.networks.parameters import merge
from lsap_jax.networks.styleres import Alignment, Extraction, Gates, ResLayers, StyleResConfig, param_shapes

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def drawn(shared_file):
    """(reference file, name) -> an input that is drawn again."""
    spec = importlib.util.spec_from_file_location("seeded_weights_enc", shared_file("golden/seeded_weights_enc.py"))
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)

    def draw(file, name):
        shape, kind, gain, seed = json.loads(bytes(file["meta_json"]))["inputs"][name]
        return nhwc(recipe.draw(shape, kind, seed, gain))

    return draw


def params_of(module, weights, *inputs):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    used = {name: a for name, a in weights.items() if not name.startswith("dconv3.")}
    return merge(shapes, used, "golden")


def assert_strided(file, name, found):
    """NHWC features against the part of a reference that is kept, and its means."""
    strides = json.loads(bytes(file["meta_json"]))["strided"][name]["strides"]
    whole = np.moveaxis(np.asarray(found), -1, 1)
    kept = whole[tuple(slice(None, None, stride) for stride in strides)]
    assert_parity("styleres", name, kept, file[f"{name}/slice"])
    assert_parity("styleres", f"{name} means", whole.mean(axis=(2, 3)), file[f"{name}/chanmean"])


CASES = [("res_12_12_s1", 12, 1), ("res_12_12_s2", 12, 2), ("res_12_20_s1", 20, 1), ("res_12_1_s1", 1, 1)]


@pytest.mark.parametrize(("name", "width", "stride"), [*CASES, ("res_12_20_s2_odd", 20, 2)])
def test_units(seeded, drawn, name, width, stride):
    file, weights = seeded("styleres_modules")
    x, unit = drawn(file, f"{name}/x"), ResLayers(width, stride)
    found = unit.apply({"params": params_of(unit, weights(name), x)}, x)
    assert_parity("styleres", name, found, nhwc(file[f"{name}/y"]))


@pytest.mark.parametrize(("name", "out"), [("alignment_24_10", 10), ("alignment", 512)])
def test_alignment(seeded, drawn, name, out):
    file, weights = seeded("styleres_modules")
    x = np.concatenate([drawn(file, f"{name}/{part}") for part in ("c1", "F")], axis=-1)
    network = Alignment(512, out)
    y = jax.jit(network.apply)({"params": params_of(network, weights(name), x)}, x)
    if f"{name}/y" in file:
        assert_parity("styleres", name, y, nhwc(file[f"{name}/y"]))
    else:
        assert_strided(file, f"{name}/y", y)


def test_extraction_and_gates(seeded, drawn):
    file, weights = seeded("styleres_modules")
    x = drawn(file, "extraction/x")
    y = jax.jit(Extraction(512).apply)({"params": params_of(Extraction(512), weights("extraction"), x)}, x)
    assert_strided(file, "extraction/y", y)
    x, r = drawn(file, "gates/x"), drawn(file, "gates/r")
    network = Gates(512, 512)
    added, gate = jax.jit(network.apply)({"params": params_of(network, weights("gates"), x, r)}, x, r)
    assert_strided(file, "gates/dF", added)
    assert_parity("styleres", "g", gate, nhwc(file["gates/g"]))


def test_the_public_networks_have_as_many_params_as_the_originals_that_are_read():
    """Of the original's, less those of the alignment's `dconv3`, which is never called."""
    shapes = param_shapes(StyleResConfig())
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in shapes.items()}
    assert counts == {"alignment": 43_591_680, "extraction": 14_421_504, "gates": 25_963_019}
