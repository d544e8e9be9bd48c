"""What happens to the features of a layer, and what the layers above and below see of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsap_jax.networks.resample import upsample2d
from lsap_jax.rendering.transforms import MaskedOffset, ScaleShift, Start
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")
COUNT = 2
ORDER = ("b4.conv1", "b4.torgb", "b8.conv0", "b8.conv1", "b8.torgb", "b16.conv0", "b16.conv1", "b16.torgb")


@pytest.fixture(scope="module")
def G():
    return tiny_generator(discriminator=False)


@pytest.fixture(scope="module")
def ws(G):
    return G.map_rows(jax.random.normal(jax.random.key(0), (COUNT, G.num_ws, G.z_dim)))


def draw(*shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.usefixtures("full_compilation")
def test_a_constant_transform_is_a_base_code_that_keeps_the_coarse_image(G, ws):
    f = draw(COUNT, 8, 8, 8)
    constant = ScaleShift(scale=jnp.zeros_like(f), shift=f)
    image, found = G.features(ws, transforms={"b8.conv0": constant})
    based, expected = G.features(ws, f=f)
    for name in ("b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1", "b16.torgb"):
        np.testing.assert_array_equal(found[name], expected[name])
    coarse = upsample2d(upsample2d(found["b4.img"], G.config.filter), G.config.filter)
    np.testing.assert_allclose(image - coarse, based, atol=1e-5)
    assert "b4.conv1" not in expected and np.abs(coarse).max() > 1e-2


def test_a_start_is_a_base_code_bit_for_bit(G, ws):
    f = draw(COUNT, 8, 8, 8)
    np.testing.assert_array_equal(G.synthesis(ws, transforms={"b8.conv0": Start(f=f)}), G.synthesis(ws, f=f))
    first = draw(COUNT, 4, 4, 8)
    np.testing.assert_array_equal(G.synthesis(ws, transforms={"b4.conv1": Start(f=first)}), G.synthesis(ws, f=first))
    with pytest.raises(ValueError, match="cannot start at b8.conv1"):
        G.synthesis(ws, transforms={"b8.conv1": Start(f=f)})


def test_a_transform_at_the_layer_of_a_base_code_changes_the_base_code(G, ws):
    f, scale, shift = (draw(COUNT, 8, 8, 8, seed=seed) for seed in range(3))
    found = G.synthesis(ws, f=f, transforms={"b8.conv0": ScaleShift(scale=scale, shift=shift)})
    np.testing.assert_allclose(found, G.synthesis(ws, f=f * scale + shift), atol=1e-5)


@pytest.mark.parametrize("layer", ["b4.conv1", "b8.conv1", "b16.torgb"])
def test_a_transform_changes_what_lies_above_and_nothing_below(G, ws, layer):
    where = G.config.layer[layer]
    shape = (COUNT, where.resolution, where.resolution, where.channels)
    change = ScaleShift(scale=1 + draw(*shape), shift=draw(*shape, seed=2))
    before, after = G.features(ws)[1], G.features(ws, transforms={layer: change})[1]
    at = ORDER.index(layer)
    for name in ORDER[:at]:
        np.testing.assert_array_equal(after[name], before[name])
    np.testing.assert_allclose(after[layer], before[layer] * change.scale + change.shift, atol=1e-5)
    for name in ORDER[at:]:
        assert np.abs(after[name] - before[name]).max() > 1e-3, name


def test_a_masked_offset_leaves_what_is_outside_of_the_mask(G, ws):
    mask = jnp.zeros((COUNT, 16, 16, 1)).at[:, 4:8, 4:8].set(1)
    change = MaskedOffset(offset=draw(COUNT, 16, 16, 8), mask=mask)
    difference = G.synthesis(ws, transforms={"b16.conv1": change}) - G.synthesis(ws)
    inside = np.broadcast_to(mask > 0, difference.shape)
    assert np.abs(difference[~inside]).max() < 1e-6 and np.abs(difference[inside]).mean() > 1e-2


def test_features_in_half_precision_stay_in_it(G, ws):
    half = G.freeze(half_blocks=1)
    f = draw(COUNT, 16, 16, 8)
    for change in (ScaleShift(scale=f, shift=f), MaskedOffset(offset=f, mask=f[..., :1])):
        found = half.features(ws, transforms={"b16.conv0": change})[1]
        assert found["b16.conv0"].dtype == found["b16"].dtype == jnp.bfloat16


@pytest.mark.parametrize("architecture", ["resnet", "orig"])
def test_transforms_reach_every_architecture_and_starts_one(architecture):
    G = tiny_generator(discriminator=False, architecture=architecture)
    ws, f = draw(COUNT, G.num_ws, G.w_dim), draw(COUNT, 8, 8, 8)
    changed = G.synthesis(ws, transforms={"b8.conv0": ScaleShift(scale=f, shift=f)})
    assert np.abs(changed - G.synthesis(ws)).max() > 1e-2
    with pytest.raises(ValueError, match="cannot start at b8.conv0"):
        G.synthesis(ws, transforms={"b8.conv0": Start(f=f)})
