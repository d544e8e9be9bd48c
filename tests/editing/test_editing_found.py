"""GANSpace against numpy's own factorisations, its absolute coordinate, interpolation and style mixing."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_editing import angle, norms, some_codes

import lsap_jax
from lsap_jax.editing import ganspace
from lsap_jax.editing.between import interpolate, mix_styles
from lsap_jax.editing.direction import Direction
from lsap_jax.editing.moves import ABSOLUTE, coordinates, move
from lsap_jax.editing.styles import in_styles
from lsap_jax.errors import LsapError
from lsap_jax.spaces import parse_space
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")

SAMPLES = 12_000  # more than a chunk


@pytest.fixture(scope="module")
def G():
    return tiny_generator(discriminator=False)


@pytest.fixture(scope="module")
def drawn(G):
    """The samples of stream 0 and 1 of seed 3, drawn here in one piece."""
    found = []
    for stream in (0, 1):
        rng = jax.random.fold_in(jax.random.key(3), stream)
        z = np.concatenate([jax.random.normal(jax.random.fold_in(rng, i), (ganspace.CHUNK, G.z_dim)) for i in range(2)])
        found.append(z[:SAMPLES])
    return found


def test_ganspace_in_w_is_the_svd_of_centred_samples(G, drawn):
    w = np.asarray(G.mapping(drawn[0]), np.float64)[:, 0]
    deviations, axes = np.linalg.svd(w - w.mean(0), full_matrices=False)[1:]
    for k, direction in enumerate(ganspace.ganspace_w(G, 6, SAMPLES, seed=3)):
        assert (direction.name, direction.space) == (f"ganspace-{k}", "w")
        np.testing.assert_allclose(abs(direction.vector @ axes[k]), 1, atol=1e-4)
        assert direction.vector[np.abs(direction.vector).argmax()] > 0
        np.testing.assert_allclose(direction.scale, deviations[k] / np.sqrt(SAMPLES - 1), rtol=1e-4)
        np.testing.assert_allclose(direction.mean, w.mean(0), atol=1e-4)


@pytest.mark.parametrize("regression", ganspace.REGRESSIONS)
def test_ganspace_in_z_is_least_squares_on_the_samples(G, drawn, regression):
    w0, w1 = (np.asarray(G.mapping(z), np.float64)[:, 0] for z in drawn)
    axes = np.linalg.svd(w0 - w0.mean(0), full_matrices=False)[2][:5]
    x, z = (w1 - w0.mean(0)) @ axes.T, drawn[1].astype(np.float64)
    if regression == "joint":
        expected = np.linalg.lstsq(x, z, rcond=None)[0]
    else:  # eq. 6, one component at a time
        expected = np.concatenate([np.linalg.lstsq(x[:, k : k + 1], z, rcond=None)[0] for k in range(5)])
    expected /= norms(expected)[:, None]
    found = ganspace.ganspace_z(G, 5, SAMPLES, SAMPLES, seed=3, regression=regression)
    for direction, one in zip(found, expected, strict=True):
        assert direction.space == "z" and direction.mean is None
        np.testing.assert_allclose(abs(direction.vector @ one), 1, atol=1e-5)
        np.testing.assert_allclose(norms(direction.vector), 1, atol=1e-6)


def test_the_regressions_agree_up_to_sampling_and_a_step_in_z_moves_along_its_component(G):
    closed, joint = (ganspace.ganspace_z(G, 3, 20_000, 20_000, regression=r) for r in ganspace.REGRESSIONS)
    axes = np.stack([d.vector for d in ganspace.ganspace_w(G, 3, 20_000)])
    z = np.random.default_rng(0).standard_normal((4000, 16)).astype(np.float32)
    before = np.asarray(G.mapping(z))[:, 0]
    for k in range(3):
        cosine = closed[k].vector @ joint[k].vector
        assert 0.97 < cosine < 1 - 1e-9
        moved = (np.asarray(G.mapping(z + closed[k].vector))[:, 0] - before).mean(0) @ axes.T
        assert np.argmax(np.abs(moved)) == k and moved[k] > 0


def test_ganspace_refuses_what_it_cannot_do(G):
    for options, reason in [
        ({"components": 17}, "has 1 to 16"),
        ({"components": 2, "samples": 1}, "at least 2"),
        ({"components": 9, "samples": 9}, "9 components of 9 samples: they have 8"),
        ({"components": 5, "samples": 9, "regression_samples": 4}, "4 regression samples for 5"),
        ({"regression": "ridge"}, "choose closed or joint"),
    ]:
        with pytest.raises(LsapError, match=reason):
            ganspace.ganspace_z(G, **options)


@given(st.floats(-4, 4, width=32), st.sampled_from(["w", "w+", "pn"]), st.sampled_from(ABSOLUTE), st.integers(0, 1000))
def test_an_absolute_move_arrives_at_its_coordinate(tiny, strength, name, absolute, seed):
    space = parse_space(name)
    key, rng = space.detail.key, np.random.default_rng(seed)
    vector, mean = rng.standard_normal((2, 16)).astype(np.float32)
    direction = Direction(name="d", space=name.removesuffix("+"), vector=vector, scale=0.7, mean=mean)
    codes = some_codes(tiny, space, seed)
    found = move(tiny, space, codes, direction, strength, absolute=absolute)
    there = coordinates(found[key], direction)
    np.testing.assert_allclose(there[:, 0] if absolute == "first" else there, strength, atol=1e-4)
    if absolute == "first":  # as in PTI the step is the same for every row, and the distances between rows stay
        step = (found[key] - codes[key]).reshape(3, -1, 16)
        np.testing.assert_allclose(step, np.broadcast_to(step[:, :1], step.shape), atol=1e-5)
    again = move(tiny, space, found, direction, strength, absolute=absolute)
    np.testing.assert_allclose(again[key], found[key], atol=1e-4)


def test_the_absolute_move_of_a_range_is_ptis(tiny):
    """Its code, line by line, in numpy."""
    space, rng = parse_space("w+"), np.random.default_rng(0)
    comp, mean, std = rng.standard_normal((1, 16)), rng.standard_normal((1, 16)), 1.7
    comp /= norms(comp)
    codes = some_codes(tiny, space)
    expected = codes["w"].astype(np.float64)
    for latent in expected:
        coordinate = ((latent - mean)[0] * comp[0]).sum() / std
        latent[2:4] += (5.0 - coordinate) * comp * std
    direction = Direction(name="d", space="w", vector=comp[0], scale=std, mean=mean[0], layers=(2, 3))
    found = move(tiny, space, codes, direction, 5.0, absolute="first")["w"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[:, [0, 1, 4, 5]].tobytes() == codes["w"][:, [0, 1, 4, 5]].tobytes()


def test_an_absolute_zero_is_the_means_coordinate(G):
    direction = ganspace.ganspace_w(G, 1, 5000)[0]
    codes = some_codes(G, parse_space("w"))
    shown = np.zeros((3, 16, 16, 3), np.float32)
    found = lsap_jax.edit(G, "w", codes, direction, [0.0], absolute="own", images=shown)
    np.testing.assert_allclose((found.codes["w"][0] - direction.mean) @ direction.vector, 0, atol=1e-5)
    assert found.images.any()
    relative = lsap_jax.edit(G, "w", codes, direction, [2.0])
    np.testing.assert_allclose((relative.codes["w"][0] - codes["w"]) @ direction.vector, 2 * direction.scale, rtol=1e-5)


@pytest.mark.parametrize("layers", [None, "1-3"])
def test_a_direction_of_w_is_the_same_edit_in_styles(G, layers):
    direction = replace(ganspace.ganspace_w(G, 1, 5000)[0], layers=layers)
    wp, s = parse_space("w+"), parse_space("s")
    codes = some_codes(G, wp)
    by_w = lsap_jax.edit(G, wp, codes, direction, [2.0])
    by_s = lsap_jax.edit(G, s, {"s": np.asarray(s.from_ws(G, codes["w"]))}, in_styles(G, direction), [2.0])
    np.testing.assert_allclose(by_s.codes["s"][0], s.from_ws(G, by_w.codes["w"][0]), atol=1e-5)
    np.testing.assert_allclose(by_s.images, by_w.images, atol=1e-4)
    with pytest.raises(LsapError, match="is of space s"):
        in_styles(G, in_styles(G, direction))


@pytest.mark.parametrize("name", ["z", "f/z+", "w+", "s"])
def test_interpolation_starts_and_ends_at_its_codes(G, name):
    space = parse_space(name)
    key = space.detail.key
    a, b = (some_codes(G, space, seed) for seed in (0, 1))
    found = interpolate(G, name, a, b, [0, 0.25, 0.5, 1])
    assert found.images.shape == (4, 3, 16, 16, 3) and found.strengths == (0, 0.25, 0.5, 1)
    for code, s in ((a, 0), (b, 3)):
        for part in space.keys:
            assert found.codes[part][s].tobytes() == code[part].tobytes()
        np.testing.assert_array_equal(found.images[s], lsap_jax.render(G, name, code))
    if key == "z":
        np.testing.assert_allclose(norms(found.codes["z"]), 4, rtol=1e-5)
        np.testing.assert_allclose(angle(a["z"], found.codes["z"][1]), angle(a["z"], b["z"]) / 4, atol=3e-6)
    else:
        np.testing.assert_allclose(found.codes[key][1], 0.75 * a[key] + 0.25 * b[key], atol=1e-6)
    if space.has_base:
        np.testing.assert_allclose(found.codes["f"][2], (a["f"] + b["f"]) / 2, atol=1e-6)


def test_what_cannot_be_interpolated_is_refused(G):
    space = parse_space("w")
    a, b = some_codes(G, space), some_codes(G, space, count=2)
    for points, other, reason in [([0.5], b, r"\[3, 16\] and \[2, 16\]"), ([], a, "one or more"), ([1.5], a, "1.5")]:
        with pytest.raises(LsapError, match=reason):
            interpolate(G, "w", a, other, points)


@given(st.sets(st.integers(0, 5), min_size=1), st.integers(0, 1000))
def test_mixing_takes_rows_of_one_and_the_rest_of_the_other(tiny, rows, seed):
    space = parse_space("z+")
    a, b = some_codes(tiny, space, seed), some_codes(tiny, space, seed + 1)
    mixed = mix_styles(tiny, space, a, b, rows)["z"]
    for row in range(tiny.num_ws):
        assert mixed[:, row].tobytes() == (b if row in rows else a)["z"][:, row].tobytes()


def test_mixing_of_styles_and_of_ws_is_the_same_image(G):
    wp, s, fw = (parse_space(name) for name in ("w+", "s", "f/w+"))
    a, b = some_codes(G, wp, 0), some_codes(G, wp, 1)
    mixed = mix_styles(G, wp, a, b, "middle")
    by_style = mix_styles(G, s, *({"s": np.asarray(s.from_ws(G, c["w"]))} for c in (a, b)), "middle")
    np.testing.assert_allclose(lsap_jax.render(G, s, by_style), lsap_jax.render(G, wp, mixed), atol=1e-5)
    base = some_codes(G, fw, 2)
    kept = mix_styles(G, fw, base, {**b, "f": base["f"] + 1}, "middle")
    np.testing.assert_array_equal(kept["f"], base["f"])
    with pytest.raises(LsapError, match="before the base code"):
        mix_styles(G, fw, base, base, [0])
    with pytest.raises(LsapError, match="serves all layers"):
        mix_styles(G, "w", *(some_codes(G, parse_space("w"), seed) for seed in (0, 1)), "coarse")
