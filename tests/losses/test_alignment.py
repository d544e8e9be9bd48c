"""LSAP's alignment: S^N, NSCD, its genuine level and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsap_jax.losses import alignment as module
from lsap_jax.losses.alignment import alignment, genuine_level, mean_nscd, sn_layers, unit_styles
from lsap_jax.networks.stylegan2 import GeneratorConfig

pytestmark = pytest.mark.usefixtures("quick_compilation")

CHANNELS = (512, 512, 512, 512, 512, 256, 128, 64, 32)
SMALL = GeneratorConfig(img_resolution=16, channels=(7, 6, 5))
nscd = jax.jit(module.nscd, static_argnums=0, static_argnames=("base_resolution", "renormalise"))


def random_styles(seed: int, count: int = 3, config: GeneratorConfig = SMALL) -> dict[str, jax.Array]:
    rng = np.random.default_rng(seed)
    return {
        layer.name: jnp.asarray(1 + rng.standard_normal((count, layer.width)), jnp.float32) for layer in config.layers
    }


def random_anchors(seed: int, count: int = 40) -> dict[str, jax.Array]:
    return {name: s.mean(axis=0) for name, s in unit_styles(SMALL, random_styles(seed, count)).items()}


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("blocks", [1, 2, 3, 9])
def test_the_lth_layer_reads_row_l(blocks, architecture):
    config = GeneratorConfig(img_resolution=2 << blocks, channels=CHANNELS[:blocks], architecture=architecture)
    layers = sn_layers(config)
    assert len(layers) == config.num_ws == len(set(layers))
    assert [config.layer[name].row for name in layers] == list(range(config.num_ws))
    assert [name for name in layers if name.endswith("torgb")] == [f"b{config.img_resolution}.torgb"]


def test_s_n_at_1024_px_is_that_of_the_authors_code():
    config = GeneratorConfig(img_resolution=1024, channels=CHANNELS)
    layers = sn_layers(config)
    assert layers[:3] == ("b4.conv1", "b8.conv0", "b8.conv1") and layers[-2:] == ("b1024.conv1", "b1024.torgb")
    widths = [config.layer[name].width for name in layers]
    assert widths == [512] * 10 + [256, 256, 128, 128, 64, 64, 32, 32] and sum(widths) == 6080
    assert sn_layers(config, 16) == layers[4:]  # M = 5 of F/Z+, counted from one


@pytest.mark.parametrize("base", [0, 4, 8, 16])
def test_layers_of_a_base_code_are_those_that_make_the_image(tiny, base):
    """The image of a code depends on the styles of exactly these, torgb apart."""
    ws = tiny.map_rows(jax.random.normal(jax.random.key(0), (1, tiny.num_ws, tiny.z_dim)))
    f = jax.random.normal(jax.random.key(1), (1, base, base, 8)) if base else None
    bare = tiny.bare()
    slope = jax.jit(lambda G, s, f: jax.grad(lambda s: jnp.square(G.synthesis(None, styles=s, f=f)).sum())(s))
    gradient = slope(bare, tiny.styles(ws), f)
    alive = {name for name, g in gradient.items() if g.any()}
    last = f"b{tiny.img_resolution}.torgb"
    assert {name for name in alive if not name.endswith("torgb") or name == last} == set(sn_layers(tiny.config, base))


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("base", [0, 8])
def test_nscd_is_one_minus_the_cosine_with_the_anchor(base, renormalise):
    styles, anchors = random_styles(0), random_anchors(1)
    expected = []
    for name in sn_layers(SMALL, base):
        s, mu = np.asarray(styles[name], np.float64), np.asarray(anchors[name], np.float64)
        mu = mu / np.linalg.norm(mu) if renormalise else mu
        expected.append(1 - s @ mu / np.linalg.norm(s, axis=1))
    found = nscd(SMALL, styles, anchors, base_resolution=base, renormalise=renormalise)
    assert found.shape == (3, 6 if base == 0 else 4)
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-6)
    metric = mean_nscd(found)
    assert list(metric) == ["nscd", *(f"nscd_{i:02d}" for i in range(found.shape[1]))]
    np.testing.assert_allclose(metric["nscd"], np.mean(expected, axis=0), atol=1e-6)
    np.testing.assert_allclose(metric["nscd_02"], expected[2], atol=1e-6)
    np.testing.assert_allclose(alignment(found, "sum"), np.sum(expected, axis=0), atol=1e-5)
    np.testing.assert_allclose(alignment(found, "mean"), np.mean(expected, axis=0), atol=1e-6)


def test_nscd_is_the_mean_cosine_distance_to_the_samples_of_the_anchor():
    samples, others = random_styles(2, 500), random_styles(3, 20)
    unit = unit_styles(SMALL, samples)
    anchors = {name: s.mean(axis=0) for name, s in unit.items()}
    found = np.asarray(nscd(SMALL, others, anchors))
    for i, name in enumerate(sn_layers(SMALL)):
        a, b = (np.asarray(s[name], np.float64) for s in (others, samples))
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        np.testing.assert_allclose(found[:, i], (1 - a @ b.T).mean(axis=1), atol=1e-5)
        squared = np.square(a[:, None] - b[None]).sum(axis=-1)
        np.testing.assert_allclose(found[:, i], squared.mean(axis=1) / 2, atol=1e-5)


@pytest.mark.parametrize("base", [0, 4, 8])
def test_the_genuine_level_is_that_of_the_samples(base):
    samples = random_styles(4, 300)
    anchors = {name: s.mean(axis=0) for name, s in unit_styles(SMALL, samples).items()}
    level = genuine_level(SMALL, anchors, base)
    np.testing.assert_allclose(nscd(SMALL, samples, anchors, base_resolution=base).mean(axis=0), level, atol=1e-5)
    # Codes may go below it: the mean direction itself is at 1 - |μ|.
    collapsed = {**random_styles(0, 1), **{name: 5 * a[None] for name, a in anchors.items()}}
    lengths = np.array([np.linalg.norm(anchors[name]) for name in sn_layers(SMALL, base)])
    found = nscd(SMALL, collapsed, anchors, base_resolution=base)[0]
    np.testing.assert_allclose(found, 1 - lengths, atol=1e-5)
    assert (found < level).all()
    renormalised = nscd(SMALL, collapsed, anchors, base_resolution=base, renormalise=True)
    np.testing.assert_allclose(renormalised, 0, atol=1e-6)


def test_samples_of_a_generator_are_at_its_genuine_level(tiny):
    count = 20_000
    w = tiny.map_w(jax.random.normal(jax.random.key(42), (count, tiny.z_dim)))
    found = nscd(tiny.config, tiny.styles(tiny.repeat_w(w)), tiny.statistics.anchors)
    error = np.asarray(found.std(axis=0)) / np.sqrt(count)
    assert (np.abs(found.mean(axis=0) - genuine_level(tiny.config, tiny.statistics.anchors)) < 5 * error).all()


@given(st.integers(0, 2**31 - 1), st.floats(1e-3, 1e3))
def test_the_length_of_a_style_does_not_count(seed, factor):
    styles, anchors = random_styles(seed), random_anchors(0)
    longer = {name: s * factor for name, s in styles.items()}
    np.testing.assert_allclose(nscd(SMALL, longer, anchors), nscd(SMALL, styles, anchors), atol=2e-6)
    for s in unit_styles(SMALL, longer).values():
        np.testing.assert_allclose(jnp.linalg.norm(s, axis=-1), 1, rtol=1e-5)


@jax.jit
def slope(styles, anchors, cotangent):
    return jax.grad(lambda s: (alignment(module.nscd(SMALL, s, anchors), "sum") * cotangent).sum())(styles)


@given(st.integers(0, 2**31 - 1))
def test_the_gradient_is_tangent_and_points_away_from_the_anchor(seed):
    styles, anchors = random_styles(seed), random_anchors(seed + 1)
    gradient = slope(styles, anchors, jnp.ones(3))
    for name in sn_layers(SMALL):
        s, g, mu = (np.asarray(x[name], np.float64) for x in (styles, gradient, anchors))
        length = np.linalg.norm(s, axis=1, keepdims=True)
        unit = s / length
        expected = -(mu[None] - (unit @ mu)[:, None] * unit) / length
        np.testing.assert_allclose(g, expected, atol=1e-5 / length.min())
        along = (g * s).sum(axis=1)
        np.testing.assert_allclose(along, 0, atol=1e-5)
    unused = gradient["b4.torgb"]
    assert not unused.any()


@given(st.integers(0, 2**31 - 1), st.integers(0, 2))
def test_an_image_does_not_see_its_neighbours(seed, index):
    styles, anchors = random_styles(seed), random_anchors(0)
    alone = {name: s[index : index + 1] for name, s in styles.items()}
    np.testing.assert_array_equal(nscd(SMALL, alone, anchors)[0], nscd(SMALL, styles, anchors)[index])
    gradient = slope(styles, anchors, jnp.zeros(3).at[index].set(1.0))
    for name in sn_layers(SMALL):
        others = np.delete(np.asarray(gradient[name]), index, axis=0)
        assert not others.any() and gradient[name][index].any()


def test_a_style_of_zeros_has_finite_values_and_gradients():
    styles, anchors = jax.tree.map(jnp.zeros_like, random_styles(0)), random_anchors(0)
    np.testing.assert_array_equal(nscd(SMALL, styles, anchors), 1)
    for g in jax.tree.leaves(slope(styles, anchors, jnp.ones(3))):
        assert np.isfinite(g).all()
