"""Spaces: starts, what codes decode to, the way back from ws, moves, and what they refuse."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.networks import stylegan2
from lsap_jax.networks.families import generator_shapes
from lsap_jax.rendering.render import synthesise
from lsap_jax.spaces import noise, parse_space
from lsap_jax.spaces.feature import check_resolution, default_resolution, own_feature, start, uses_encoder
from lsap_jax.spaces.space import NAMES
from lsap_jax.spaces.style import by_layer, flat

pytestmark = pytest.mark.usefixtures("quick_compilation")

COUNT = 2


@pytest.fixture(scope="module")
def G(tiny):
    return tiny


def keys(seed: int = 0, count: int = COUNT) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


def some_codes(G, space, seed: int = 0, count: int = COUNT) -> dict:
    """Codes of different images, all of them samples."""
    f0 = None
    if space.has_base:
        f0 = jax.random.normal(jax.random.key(seed), (count, *own_feature(G, max(space.base_resolution, 4)).shape[1:]))
    return space.init(G, keys(seed, count), f0, "random")


@jax.jit
def picture(G, decoded) -> jax.Array:
    """Images of `Decoded` inputs: one compilation for all spaces with f, one for those without."""
    return synthesise(G, decoded)


def image_of(G, space, codes) -> jax.Array:
    return picture(G.bare(), space.decode(G, codes).replace(ws=None))


@pytest.mark.parametrize("source", ["auto", "random", "w_avg"])
@pytest.mark.parametrize("name", NAMES)
def test_codes_of_every_space_become_images(G, name, source):
    space = parse_space(name, base_resolution=4 if name.startswith("f/") else 0)
    f0 = jnp.broadcast_to(own_feature(G, 4), (COUNT, 4, 4, 8)) if space.has_base else None
    codes = space.init(G, keys(), f0, source)
    assert tuple(codes) == space.keys == (space.detail.key, *(("f",) if space.has_base else ()))
    assert codes[space.detail.key].shape == (COUNT, *space.detail.shape(G))
    images = image_of(G, space, codes)
    assert images.shape == (COUNT, 16, 16, 3) and np.isfinite(images).all()
    random = source == "random" or (source == "auto" and space.detail.key == "z")
    assert (np.abs(images[0] - images[1]).max() > 1e-2) == random
    if source == "w_avg" and space.detail.key != "z":
        ws = jnp.broadcast_to(G.w_avg[None, None], (COUNT, G.num_ws, G.w_dim))
        expected = picture(*_inputs(G, ws, f0))
        np.testing.assert_allclose(images, expected, atol=1e-4)


def _inputs(G, ws, f=None):
    """Arguments of `picture` for plain ws."""
    return G.bare(), parse_space("w+").decode(G, {"w": ws}).replace(ws=None, f=f)


@pytest.mark.parametrize("name", ["w", "w+", "p", "pn", "pn+"])
def test_codes_are_found_again_from_their_ws(G, name):
    space = parse_space(name)
    key, codes = space.detail.key, some_codes(G, space, count=50)
    ws = space.decode(G, codes).ws
    assert ws.shape == (50, G.num_ws, G.w_dim)
    again = space.from_ws(G, ws)
    deviation = jnp.abs(again - codes[key])
    # p_N along the weakest axis is w's rounding, magnified by one over its deviation.
    weakest = float(jnp.sqrt(G.statistics.p_values.min())) if "pn" in name else 1.0
    assert deviation.max() < 1e-5 / weakest
    np.testing.assert_allclose(space.decode(G, {key: again}).ws, ws, atol=1e-5)


@pytest.mark.parametrize("name", ["z", "z+"])
def test_z_is_found_again_as_near_as_its_ws(G, name):
    space = parse_space(name)
    ws = space.decode(G, some_codes(G, space, count=4)).ws
    z = jax.jit(space.from_ws)(G, ws)
    assert z.shape == (4, *space.detail.shape(G))
    np.testing.assert_allclose(jnp.linalg.norm(z, axis=-1), 4, rtol=1e-5)
    gap = jnp.linalg.norm(space.decode(G, {"z": z}).ws - ws) / jnp.linalg.norm(ws - G.w_avg[None, None])
    assert gap < 0.05


@pytest.mark.parametrize(("name", "psi", "cutoff"), [("w+", 0.5, 2), ("pn", 0.7, None), ("p", 0.7, 3)])
def test_truncation_is_undone_on_the_way_back(G, name, psi, cutoff):
    space = parse_space(name, truncation_psi=psi, truncation_cutoff=cutoff)
    codes = some_codes(G, space)
    ws = space.decode(G, codes).ws
    again = space.from_ws(G, ws)
    np.testing.assert_allclose(space.decode(G, {space.detail.key: again}).ws, ws, atol=2e-5)


def test_styles_of_ws_make_the_image_of_ws(G):
    ws = parse_space("w+").decode(G, some_codes(G, parse_space("w+"))).ws
    space = parse_space("s")
    s = space.from_ws(G, ws)
    assert s.shape == (COUNT, *space.detail.shape(G))
    for name, value in by_layer(G, s).items():
        np.testing.assert_array_equal(value, G.styles(ws)[name])
    np.testing.assert_array_equal(flat(G, by_layer(G, s)), s)
    by_ws, by_styles = jax.jit(lambda G, ws, s: (G.synthesis(ws), G.synthesis(None, styles=by_layer(G, s))))(G, ws, s)
    np.testing.assert_allclose(by_styles, by_ws, atol=1e-5)


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_styles_are_those_that_the_synthesis_uses(architecture):
    dims = {"z_dim": 5, "w_dim": 5, "layer_features": 5, "mapping_layers": 1}
    config = stylegan2.GeneratorConfig(img_resolution=8, channels=(4, 6), architecture=architecture, **dims)
    draw = np.random.default_rng(0).standard_normal
    params = jax.tree.map(lambda leaf: jnp.asarray(draw(leaf.shape), jnp.float32), generator_shapes(config))
    G = Generator(config=config, params=params)
    ws = jax.random.normal(jax.random.key(2), (COUNT, G.num_ws, 5))

    @jax.jit
    def used_styles(G, ws):
        return {name: a for name, a in G.features(ws)[1].items() if name.endswith(".styles")}

    used, found = used_styles(G, ws), G.styles(ws)
    assert list(found) == list(config.layer) and used.keys() == {f"{name}.styles" for name in found}
    for name, value in found.items():
        np.testing.assert_allclose(value, used[f"{name}.styles"], rtol=1e-5, atol=1e-6)


def test_s_of_a_1024_px_generator_has_9088_numbers():
    channels = (512, 512, 512, 512, 512, 256, 128, 64, 32)
    G = Generator(config=stylegan2.GeneratorConfig(img_resolution=1024, channels=channels), params={})
    assert parse_space("s").detail.shape(G) == (9088,)


@pytest.mark.parametrize("name", ["f/z+", "f/w+"])
def test_rows_below_the_base_code_change_nothing(G, name):
    space = parse_space(name, base_resolution=8)  # f stands in for b8.conv0, which reads row 1
    codes = some_codes(G, space)
    key, image = space.detail.key, image_of(G, space, codes)
    below = image_of(G, space, {**codes, key: codes[key].at[:, :2].multiply(-1)})
    np.testing.assert_array_equal(below, image)
    above = image_of(G, space, {**codes, key: codes[key].at[:, 2].multiply(-1)})
    assert np.abs(above - image).max() > 1e-3


def test_styles_below_the_base_code_change_nothing(G):
    space = parse_space("f/s", base_resolution=8)
    codes = some_codes(G, space)
    image = image_of(G, space, codes)
    for name in G.config.layer:
        styles = by_layer(G, codes["s"])
        changed = flat(G, {**styles, name: -2 * styles[name]})
        difference = np.abs(image_of(G, space, {**codes, "s": changed}) - image).max()
        idle = name in ("b4.conv1", "b4.torgb", "b8.conv0")
        assert difference == 0 if idle else difference > 1e-3, name


@pytest.mark.parametrize("name", NAMES)
def test_strength_zero_changes_no_bit_and_others_move_the_detail_alone(G, name):
    space = parse_space(name, noise_sides=tuple(G.config.noise_layers.values()))
    codes = some_codes(G, space)
    key = space.detail.key
    direction = jax.random.normal(jax.random.key(5), codes[key].shape[-1:])
    moved = space.move(codes, direction, jnp.array([1.5, 0.0]))
    assert moved.keys() == codes.keys()
    for part in codes:
        np.testing.assert_array_equal(moved[part][1], codes[part][1])
        assert (np.abs(moved[part][0] - codes[part][0]).max() > 1e-3) == (part == key)
    if key != "z":
        expected = codes[key][0] + 1.5 * jnp.broadcast_to(direction, codes[key].shape[1:])
        np.testing.assert_allclose(moved[key][0], expected, atol=1e-6)
        halfway = space.between(codes, moved, jnp.array([0.5, 0.5]))[key][0]
        np.testing.assert_allclose(halfway, (codes[key][0] + moved[key][0]) / 2, atol=1e-6)


SIDES = (4, 8, 8, 3)
retract_noise = jax.jit(noise.retract, static_argnums=1)


@given(st.integers(0, 2**31 - 1), st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_noise_maps_are_brought_to_mean_0_and_mean_square_1(seed, scale, offset):
    count = sum(side * side for side in SIDES)
    rough = np.random.default_rng(seed).standard_normal((COUNT, count)) * scale + scale * offset
    found = retract_noise(jnp.asarray(rough, jnp.float32), SIDES)
    assert found.shape == rough.shape
    for m in noise.maps_of(found, SIDES):
        np.testing.assert_allclose(m.mean(axis=(1, 2)), 0, atol=1e-5)
        np.testing.assert_allclose(jnp.square(m).mean(axis=(1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(retract_noise(found, SIDES), found, atol=1e-5)
    # An image alone is another program: equal bits are the promise of a batch computed image by image.
    alone = retract_noise(jnp.asarray(rough[1:], jnp.float32), SIDES)
    np.testing.assert_allclose(alone[0], found[1], rtol=1e-6, atol=1e-6)


def test_flat_noise_has_finite_gradients():
    flat_map = jnp.ones((1, 16))
    np.testing.assert_array_equal(noise.retract(flat_map, (4,)), 0)
    assert np.isfinite(jax.grad(lambda n: noise.retract(n, (4,))[0, 3])(flat_map)).all()


def test_noise_maps_of_a_code_are_those_of_the_image(G):
    sides = tuple(G.config.noise_layers.values())
    assert sides == (4, 8, 8, 16, 16)
    space = parse_space("w", noise_sides=sides)
    assert space.keys == ("w", "noise")
    codes = some_codes(G, space)
    maps = dict(zip(G.config.noise_layers, noise.maps_of(codes["noise"], sides), strict=True))
    jax.tree.map(np.testing.assert_array_equal, space.decode(G, codes).noise, maps)
    stored = image_of(G, parse_space("w"), codes)
    assert np.abs(image_of(G, space, codes) - stored).max() > 1e-3
    assert np.abs(codes["noise"][0] - codes["noise"][1]).max() > 0.1
    rough = {**codes, "noise": codes["noise"] * 3 + 1}
    np.testing.assert_allclose(space.retract(rough)["noise"], codes["noise"], atol=1e-5)
    np.testing.assert_array_equal(space.retract(rough)["w"], codes["w"])


@pytest.mark.parametrize("name", ["z", "z+", "f/z", "f/z+"])
def test_a_code_decodes_to_the_image_of_its_ws(G, name):
    space = parse_space(name)
    rng = jax.random.split(jax.random.key(0), 2)
    f0 = jnp.broadcast_to(own_feature(G, 4), (2, 4, 4, 8)) if space.has_base else None
    codes = space.init(G, rng, f0)
    assert tuple(codes) == space.keys
    rows = codes["z"] if "+" in name else jnp.repeat(codes["z"][:, None], G.num_ws, axis=1)
    ws = jnp.stack([G.mapping(rows[:, i])[:, i] for i in range(G.num_ws)], axis=1)
    expected = G.synthesis(ws, f=f0) if space.has_base else G.synthesis(ws)
    np.testing.assert_allclose(synthesise(G, space.decode(G, codes)), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["z+", "w+", "pn"])
def test_random_starts_depend_on_the_key_alone(G, name):
    space = parse_space(name, noise_sides=tuple(G.config.noise_layers.values()))
    rng = keys(1, 4)
    together, alone = space.init(G, rng, source="random"), space.init(G, rng[2:3], source="random")
    for key in space.keys:
        np.testing.assert_allclose(together[key][2:3], alone[key], rtol=1e-5, atol=1e-5)
        assert np.abs(together[key][0] - together[key][1]).max() > 0.1
    if name == "z+":
        np.testing.assert_array_equal(together["z"][2:3], alone["z"])
        np.testing.assert_allclose(jnp.linalg.norm(together["z"], axis=-1), 4.0, rtol=1e-5)


def test_normalising_spaces_do_not_see_the_length(G):
    codes = parse_space("z").init(G, jax.random.split(jax.random.key(0), 1))
    longer = {"z": codes["z"] * 3}
    inside, outside = parse_space("z", normalise=True), parse_space("z")
    same = synthesise(G, inside.decode(G, longer))
    np.testing.assert_allclose(same, synthesise(G, inside.decode(G, codes)), atol=1e-5)
    assert np.abs(synthesise(G, outside.decode(G, longer)) - same).max() > 1e-3


def test_truncation_belongs_to_the_space(G):
    codes = parse_space("z+").init(G, jax.random.split(jax.random.key(0), 1))
    full = parse_space("z+").decode(G, codes).ws
    cut = parse_space("z+", truncation_psi=0.5, truncation_cutoff=2).decode(G, codes).ws
    mean = np.asarray(G.w_avg)[None, None]
    np.testing.assert_allclose(cut[:, :2], mean + 0.5 * (full[:, :2] - mean), atol=1e-5)
    np.testing.assert_array_equal(cut[:, 2:], full[:, 2:])


def test_where_the_base_code_starts(G):
    images = jnp.ones((2, 32, 32, 3)) * jnp.array([0.1, -0.4])[:, None, None, None]
    assert uses_encoder(G, 4, "auto") and not uses_encoder(G, 8, "auto") and not uses_encoder(G, 4, "w_avg")
    encoded = start(G, images, 4, "auto")
    np.testing.assert_allclose(encoded, G.basecode(images), atol=1e-6)
    own = start(G, images, 8, "auto")
    np.testing.assert_array_equal(own[0], own[1])
    ws = jnp.broadcast_to(G.w_avg[None, None], (1, G.num_ws, G.w_dim))
    np.testing.assert_allclose(own[:1], G.features(ws)[1]["b8.conv0"], atol=1e-6)
    with pytest.raises(LsapError, match="needs a base-code encoder for resolution 8; this generator has one for base"):
        uses_encoder(G, 8, "encoder")
    with pytest.raises(LsapError, match="choose auto, encoder or w_avg"):
        uses_encoder(G, 4, "mean")


def test_names_and_resolutions_that_are_not_there(G):
    with pytest.raises(LsapError, match="unknown space 'q'; choose one of " + re.escape(", ".join(NAMES))):
        parse_space("q")
    assert default_resolution(G) == 4
    assert check_resolution(G, 0) == 4 and check_resolution(G, 16) == 16
    with pytest.raises(LsapError, match="base_resolution 32: choose one of"):
        check_resolution(G, 32)
    other = G.replace(config=dataclasses.replace(G.config, architecture="orig"))
    with pytest.raises(LsapError, match="architecture 'skip' or a StyleGAN1, this generator is neither"):
        check_resolution(other, 4)
    space = parse_space("F/Z+")
    assert parse_space(space) is space and space.name == "f/z+"
