"""Refinement of StyleGAN1: what is tuned, what is refused, and that refined images stay what they are."""

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import lsap_jax
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.refinement.methods import make_refiner
from lsap_jax.refinement.pti import trained
from lsap_jax.testing import tiny_generator, tiny_images
from lsap_jax.training.refiner import check_config, training_of

pytestmark = pytest.mark.usefixtures("quick_compilation")
MODULATED = ("styleres", "hfgi", "hyperstyle")
FAST = {
    "pti": {"steps": 3, "lr": 0.01},
    "sam": {"steps": 4, "maps": "measured", "map_steps": 3, "segments": "grid", "mvg": 0.0, "tau": 0.3},
    "dhr": {"steps": 3, "weight_steps": 2, "coarse_steps": 2, "lr_weights": 0.01, "segments": "grid", "count": 16},
}


@pytest.fixture(scope="module")
def G():
    return tiny_generator(family="stylegan1")


def test_all_that_reaches_the_image_is_tuned(G):
    own = {name for name in flatten_dict(dict(G.params), sep=".") if not name.endswith(("noise_const", "w_avg"))}
    synthesis = {name for name in own if name.startswith("synthesis.")}
    assert set(trained(G, 0, (), False)) == synthesis and set(trained(G, 0, (), True)) == own
    with_f = set(trained(G, 8, (), False))
    below = {name for name in synthesis if name.startswith("synthesis.b4.")}
    replaced = {f"synthesis.b8.conv0.{part}" for part in ("weight", "bias", "noise_strength")}
    assert with_f == synthesis - below - replaced
    assert {"synthesis.weight", "synthesis.b8.conv0.affine.weight"} <= with_f


@pytest.mark.parametrize("method", MODULATED)
def test_networks_for_modulated_convolutions_are_refused(G, method):
    with pytest.raises(LsapError, match=f"method '{method}': StyleGAN1 normalises features before it styles them"):
        make_refiner(method, G)
    config = load_config(f"train_{method}")
    with pytest.raises(LsapError, match="StyleGAN1 normalises features"):
        check_config(G, config, training_of(config))


@pytest.mark.slow  # the methods are the same for every family; this one's params and places are others
@pytest.mark.parametrize(("method", "space"), [("pti", "f/z+"), ("dhr", "w+"), ("sam", "w+")])
def test_refined_images_are_nearer_and_edits_of_strength_0_are_these(G, method, space):
    images = tiny_images(2)
    inv = lsap_jax.invert(G, images, space, steps=0)
    found = lsap_jax.refine(G, inv, images, method, **FAST[method])
    assert (found.metrics["mse"] < inv.metrics["mse"]).all()
    assert np.any(np.asarray(lsap_jax.render(G, space, inv.codes)) != found.images)
    if method == "sam":
        assert np.any(np.asarray(found.codes["w"]) != inv.codes["w"])
        assert all(np.any(np.asarray(one.shift)) for one in found.refinement.transforms.values())
        assert found.refinement.transforms and not found.refinement.weights
    else:
        assert np.any(np.asarray(found.refinement.weights["synthesis.bias"].delta))
    edited = lsap_jax.edit(
        G, found.space, found.codes, "random:0", [0, 2], images=found.images, refinement=found.refinement
    )
    np.testing.assert_array_equal(edited.images[0], found.images)
