"""HyperStyle's hypernetwork against the original modules."""

import importlib.util
import json

import jax
import numpy as np
import pytest
from parity import assert_parity, nhwc

from lsap_jax.networks.hyperstyle import Block, HyperConfig, SharedHead
from lsap_jax.networks.parameters import merge

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def recipe(shared_file):
    spec = importlib.util.spec_from_file_location("seeded_weights_enc", shared_file("golden/seeded_weights_enc.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawn(recipe, file, name):
    shape, kind, gain, seed = json.loads(bytes(file["meta_json"]))["inputs"][name]
    return recipe.draw(shape, kind, seed, gain)


def oihw(delta):
    """Changes [B, k, k, in, out] as torch lays weights out, the one number of all taps repeated."""
    delta = np.asarray(delta).transpose(0, 4, 3, 1, 2)
    return np.broadcast_to(delta, (*delta.shape[:3], 3, 3))


def applied(module, x, weights):
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    return jax.jit(module.apply)({"params": merge(shapes, weights, "golden")}, x)


@pytest.mark.parametrize(("label", "slot"), [("refine18_128_128", (18, 128, 128)), ("refine23_64_32", (23, 64, 32))])
def test_blocks_with_a_number_for_all_taps(seeded, recipe, label, slot):
    file, weights = seeded("hyperstyle_blocks")
    delta = oihw(
        applied(Block(HyperConfig(slots=(slot,)), slot), nhwc(drawn(recipe, file, "features")), weights(label))
    )
    if f"{label}/delta" in file:
        assert_parity("hyperstyle", label, delta[:, :, : file[f"{label}/delta"].shape[2]], file[f"{label}/delta"])
    else:
        assert_parity("hyperstyle", label, delta.mean((2, 3, 4)), file[f"{label}/delta/chanmean"])


def test_the_shared_head(seeded, recipe):
    """Rows and columns that differ, so that no transposition hides."""
    file, weights = seeded("hyperstyle_blocks")
    own, code = weights("shared_small"), drawn(recipe, file, "z_small")
    found = applied(SharedHead(6, 5), code, own)
    assert_parity("hyperstyle", "shared head", oihw(found), file["shared_small/kernel"])


def test_the_code_of_a_block_with_the_shared_head(seeded, recipe):
    file, weights = seeded("hyperstyle_blocks")
    own = {name: a for name, a in weights("hyper_refinement").items() if not name.startswith("hypernet")}
    slot = (0, 512, 512)
    found = applied(Block(HyperConfig(slots=(slot,)), slot), nhwc(drawn(recipe, file, "features")), own)
    assert_parity("hyperstyle", "code", found, file["hyper_refinement/code"])
