"""Moves, layer ranges, random and SeFa directions, and `lsap_jax.edit` in every space."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import lsap_jax
from lsap_jax.editing.direction import Direction, family, fitted
from lsap_jax.editing.layers import layer_mask, layer_rows
from lsap_jax.editing.moves import move, move_back
from lsap_jax.editing.random import random_direction
from lsap_jax.editing.sefa import affine_weights, sefa
from lsap_jax.errors import LsapError
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.space import NAMES

pytestmark = pytest.mark.usefixtures("quick_compilation")

COUNT = 3
strengths = st.floats(-5, 5, width=32)
seeds = st.integers(0, 2**31 - 1)


@pytest.fixture(scope="module")
def G(tiny):
    return tiny.without("discriminator", "basecode")


def some_codes(G, space, seed: int = 0, count: int = COUNT) -> dict[str, np.ndarray]:
    """Random codes; z on its sphere."""
    rng = np.random.default_rng(seed)
    code = rng.standard_normal((count, *space.detail.shape(G)))
    if space.detail.key == "z":
        code *= 4 / np.linalg.norm(code, axis=-1, keepdims=True)
    codes = {space.detail.key: code.astype(np.float32)}
    if space.has_base:
        codes["f"] = rng.standard_normal((count, 4, 4, 8), dtype=np.float32)
    return codes


def norms(z) -> np.ndarray:
    return np.linalg.norm(np.asarray(z, np.float64), axis=-1)


def angle(a, b) -> np.ndarray:
    """Between vectors, in float64 (Kahan)."""
    a, b = (np.asarray(x, np.float64) / norms(x)[..., None] for x in (a, b))
    return 2 * np.arctan2(norms(a - b), norms(a + b))


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_in_every_space(G, name):
    space = parse_space(name)
    key, codes = space.detail.key, some_codes(G, space)
    found = lsap_jax.edit(G, name, codes, random_direction(G, space, 1), [-3.0, 0.0, -0.0, 3.0])
    assert found.images.shape == (4, COUNT, 16, 16, 3) and np.isfinite(found.images).all()
    assert np.abs(found.images).max() <= 1 and found.strengths == (-3.0, 0.0, 0.0, 3.0)
    shown = lsap_jax.render(G, name, codes)
    for s in (1, 2):  # strength 0, of either sign
        assert found.codes[key][s].tobytes() == codes[key].tobytes()
        assert found.images[s].tobytes() == shown.tobytes()
    for s in (0, 3):
        assert np.abs(found.codes[key][s] - codes[key]).max() > 0.1
        assert (np.abs(found.images[s] - shown).max(axis=(1, 2, 3)) > 1e-4).all()
        np.testing.assert_array_equal(
            found.images[s], lsap_jax.render(G, found.space, {k: a[s] for k, a in found.codes.items()})
        )
    if key == "z":
        np.testing.assert_allclose(norms(found.codes["z"]), 4, rtol=1e-5)
    if space.has_base:
        np.testing.assert_array_equal(found.codes["f"], np.stack([codes["f"]] * 4))
        assert not found.codes["f"].flags.writeable


def test_the_inversions_images_are_shown_at_strength_zero(G):
    codes, images = some_codes(G, parse_space("w")), np.full((COUNT, 16, 16, 3), 0.25, np.float32)
    found = lsap_jax.edit(G, "w", codes, np.ones(16), [0, 1], images=images)
    assert found.images[0].tobytes() == images.tobytes() and (found.images[1] != 0.25).any()
    for wrong in (images[:2], (images * 255).astype(np.uint8)):
        with pytest.raises(LsapError, match=r"images are .* \[3, 16, 16, 3\]"):
            lsap_jax.edit(G, "w", codes, np.ones(16), [0, 1], images=wrong)


def test_an_inversion_is_edited_with_its_own_truncation(G):
    """As `Inversion.space` has it: strength 0 and moved codes alike are rendered with it."""
    own = parse_space("z+", truncation_psi=0.7, truncation_cutoff=3)
    codes = some_codes(G, own)
    shown, plain = lsap_jax.render(G, own, codes), lsap_jax.render(G, "z+", codes)
    assert np.abs(plain - shown).max() > 1e-3
    found = lsap_jax.edit(G, own, codes, np.ones(16), [0, 0.5], unit="angle")
    assert found.space == own and found.images[0].tobytes() == shown.tobytes()
    moved = {"z": found.codes["z"][1]}
    assert found.codes["z"][0].tobytes() == codes["z"].tobytes() != moved["z"].tobytes()
    np.testing.assert_array_equal(found.images[1], lsap_jax.render(G, own, moved))


def test_noise_maps_stay(G):
    space = parse_space("z+", noise_sides=tuple(G.config.noise_layers.values()))
    noise = np.random.default_rng(0).standard_normal((COUNT, sum(r * r for r in space.noise_sides)), dtype=np.float32)
    found = lsap_jax.edit(G, space, {**some_codes(G, space), "noise": noise}, np.ones(16), [2.0])
    np.testing.assert_array_equal(found.codes["noise"][0], noise)


def test_no_images_are_edited_to_none(G):
    found = lsap_jax.edit(G, "f/z", some_codes(G, parse_space("f/z"), count=0), np.ones(16), [0, 1])
    assert found.images.shape == (2, 0, 16, 16, 3) and found.codes["z"].shape == (2, 0, 16)


def test_an_image_is_edited_the_same_in_every_batch(G):
    codes = some_codes(G, parse_space("f/z+"), count=5)
    whole = lsap_jax.edit(G, "f/z+", codes, np.ones(16), [2.0], unit="angle", batch_size=2)
    alone = lsap_jax.edit(G, "f/z+", {k: a[3:4] for k, a in codes.items()}, np.ones(16), [2.0], unit="angle")
    np.testing.assert_allclose(alone.codes["z"][:, 0], whole.codes["z"][:, 3], atol=1e-6)
    np.testing.assert_allclose(alone.images[:, 0], whole.images[:, 3], atol=1e-5)


@given(strengths, seeds)
def test_a_step_is_a_sum_and_on_the_sphere_its_retraction(tiny, strength, seed):
    for name in ("w+", "z+"):
        space = parse_space(name)
        key, codes = space.detail.key, some_codes(tiny, space, seed)
        direction = random_direction(tiny, space, seed)
        expected = codes[key].astype(np.float64) + np.float64(strength) * direction.vector
        if key == "z":
            expected *= 4 / norms(expected)[..., None]
        found = move(tiny, space, codes, direction, strength)[key]
        np.testing.assert_allclose(found, expected, atol=2e-5)


@given(st.floats(-0.875, 0.875, width=32), seeds)
def test_a_move_is_taken_back_in_every_space(tiny, part, seed):
    """On the sphere by steps shorter than its radius; there longer ones lead from two codes to one."""
    for name in ("w+", "z", "z+", "s"):
        space = parse_space(name)
        key, codes = space.detail.key, some_codes(tiny, space, seed)
        direction = random_direction(tiny, space, seed)
        strengths = np.float32([part, 0, -part]) * np.float32(4 / np.max(norms(direction.vector)))
        there = move(tiny, space, codes, direction, strengths)
        back = move_back(tiny, space, there, direction, strengths)[key]
        np.testing.assert_allclose(back, codes[key], atol=5e-4 if key == "z" else 2e-5)
        np.testing.assert_array_equal(back[1], codes[key][1])


def test_a_long_step_is_taken_back_onto_the_sphere_and_within_its_layers(tiny):
    space = parse_space("z+")
    codes = some_codes(tiny, space)
    direction = replace(random_direction(tiny, space, 1), layers="2-3", scale=50.0)
    back = move_back(tiny, space, codes, direction, np.float32([1, -1, 1]))["z"]
    np.testing.assert_allclose(norms(back), 4, rtol=1e-5)
    assert (np.abs(back - codes["z"]).max(axis=(0, 2)) > 0).tolist() == [row in (2, 3) for row in range(tiny.num_ws)]


@given(st.floats(-3, 3, width=32), seeds)
def test_an_angle_turns_every_row_by_itself_and_back_again(tiny, alpha, seed):
    """Whatever the length of the direction, short of the poles."""
    space = parse_space("z+")
    codes, direction = some_codes(tiny, space, seed), random_direction(tiny, space, seed)
    away = angle(codes["z"], np.broadcast_to(direction.vector, codes["z"].shape))
    short = (away - alpha > 0.05).all(axis=1) & (away - alpha < np.pi - 0.05).all(axis=1)
    assume(short.any())
    there = move(tiny, space, codes, direction, alpha, unit="angle")
    np.testing.assert_allclose(norms(there["z"]), 4, rtol=1e-5)
    np.testing.assert_allclose(angle(codes["z"], there["z"]), abs(alpha), atol=2e-6)
    left = angle(there["z"], np.broadcast_to(direction.vector, codes["z"].shape))
    np.testing.assert_allclose(left[short], (away - alpha)[short], atol=5e-6)
    back = move(tiny, space, there, direction, -alpha, unit="angle")
    np.testing.assert_allclose(back["z"][short], codes["z"][short], atol=3e-5)


def test_angles_of_each_image_and_none(tiny):
    space = parse_space("z")
    codes = some_codes(tiny, space)
    found = move(tiny, space, codes, random_direction(tiny, space), np.array([0.3, 0, -0.2]), unit="angle")["z"]
    np.testing.assert_allclose(angle(codes["z"], found), [0.3, 0, 0.2], atol=1e-6)
    assert found[1].tobytes() == codes["z"][1].tobytes()


def test_a_code_off_its_sphere_moves_as_far_as_on_it(tiny):
    """The authors' codes of F/Z+ have grown: the same step would turn them less."""
    space = parse_space("z+")
    codes, direction = some_codes(tiny, space), random_direction(tiny, space)
    for unit in ("step", "angle"):
        on, off = (
            move(tiny, space, {"z": codes["z"] * np.float32(by)}, direction, 0.5, unit=unit)["z"] for by in (1, 3)
        )
        np.testing.assert_allclose(on, off, atol=1e-5)
    assert move(tiny, space, {"z": codes["z"] * 3}, direction, 0.0)["z"].tobytes() == (codes["z"] * 3).tobytes()


@given(st.sets(st.integers(0, 5), min_size=1), st.sampled_from(["w+", "z+", "pn+"]), seeds)
def test_rows_outside_the_range_stay_bit_for_bit(tiny, rows, name, seed):
    space = parse_space(name)
    key, codes = space.detail.key, some_codes(tiny, space, seed)
    found = move(tiny, space, codes, random_direction(tiny, space, seed), 2.0, layers=rows)[key]
    for row in range(tiny.num_ws):
        assert (found[:, row] != codes[key][:, row]).any() == (row in rows)


def test_layer_ranges_by_name_and_index():
    assert layer_rows(None, 18) == layer_rows("all", 18) == tuple(range(18))
    assert layer_rows("coarse", 18) == (0, 1, 2, 3)
    assert layer_rows("middle", 18) == layer_rows("4-7", 18) == layer_rows(range(4, 8), 18) == (4, 5, 6, 7)
    assert layer_rows("fine", 18) == tuple(range(8, 18))
    assert layer_rows("middle", 6) == (4, 5)
    assert layer_rows("coarse, 9,11-12", 18) == (0, 1, 2, 3, 9, 11, 12)
    assert layer_rows(5, 18) == layer_rows("5", 18) == layer_rows([5, 5], 18) == (5,)
    for wrong, reason in [("fine", "start at row 8"), ("6", "not 6"), (-1, "not -1"), ("5-4", "names no row")]:
        with pytest.raises(LsapError, match=reason):
            layer_rows(wrong, 6)
    for wrong in ("high", "4-", "", "1-2-3", "٥-"):
        with pytest.raises(LsapError, match="write all, coarse"):
            layer_rows(wrong, 6)


def test_a_range_of_styles_is_of_the_layers_that_read_it(tiny):
    mask = layer_mask(tiny, parse_space("s"), "3")
    reads = {layer.name: layer.row == 3 for layer in tiny.config.layers}
    np.testing.assert_array_equal(mask, np.repeat(list(reads.values()), 8))
    assert {name for name, there in reads.items() if there} == {"b8.torgb", "b16.conv0"}


def test_a_range_that_reaches_no_pixel_is_refused(G):
    """Layers that the base code replaces do nothing; those after it do."""
    space = parse_space("f/w+")
    codes = some_codes(G, space)
    with pytest.raises(LsapError, match="before the base code at 4 px"):
        move(G, space, codes, random_direction(G, space), 1.0, layers=[0])
    codes["f"] = np.random.default_rng(1).standard_normal((COUNT, 8, 8, 8), dtype=np.float32)
    with pytest.raises(LsapError, match="before the base code at 8 px"):
        move(G, space, codes, random_direction(G, space), 1.0, layers="0-1")
    before = lsap_jax.render(G, space, codes)
    for row in (2, 3):
        found = lsap_jax.edit(G, space, codes, random_direction(G, space), [3.0], layers=row)
        assert np.abs(found.images[0] - before).max() > 1e-4
    inert = move(G, parse_space("w+"), {"w": codes["w"]}, random_direction(G, space), 3.0, layers="0-1")
    np.testing.assert_array_equal(lsap_jax.render(G, space, {**codes, **inert}), before)


def test_what_does_not_fit_is_refused_with_the_reason(G):
    w, wp = some_codes(G, parse_space("w")), some_codes(G, parse_space("w+"))
    rows = np.random.default_rng(0).standard_normal((6, 16))
    cases = [
        ("w", w, random_direction(G, "z"), {}, "is of space z and .* space w"),
        ("w+", wp, np.ones(512), {}, r"\[512\]; .* 16 numbers per row: it was made for another generator"),
        ("w+", wp, np.eye(18, 16), {}, "18 rows; this generator has 6: .* another resolution"),
        ("w", w, rows, {}, r"a vector for every row; .* use w\+"),
        ("w", w, np.zeros(16), {}, "zero or not finite"),
        ("w", w, np.full(16, np.nan), {}, "zero or not finite"),
        ("w", w, np.ones(16), {"unit": "angle"}, "w is flat"),
        ("w", w, np.ones(16), {"unit": "degrees"}, "choose step or angle"),
        ("w", w, np.ones(16), {"layers": "coarse"}, r"serves all layers; .* w\+"),
        ("w", w, np.ones(16), {"absolute": "own"}, "no mean"),
        ("w", w, np.ones(16), {"absolute": "mean"}, "choose own or first"),
        ("w", w, Direction(name="d", space="w", vector=np.ones(16), scale=0.0), {}, "zero or not finite"),
        ("w+", w, np.ones(16), {}, r"have shape \[N, 6, 16\], not \[3, 16\]"),
        ("f/w", w, np.ones(16), {}, "missing: f"),
        ("f/w", {**w, "f": np.zeros((2, 4, 4, 8))}, np.ones(16), {}, "3 codes, but 2 of f"),
        ("z", some_codes(G, parse_space("z")), np.ones(16), {"absolute": "own"}, "flat spaces"),
    ]
    for name, codes, direction, options, reason in cases:
        with pytest.raises(LsapError, match=reason):
            lsap_jax.edit(G, name, codes, direction, [1.0], **options)
    for strengths, reason in [([], "one or more"), ([np.inf], "finite"), ([[1.0, 2.0]], r"shape \[1, 2\]")]:
        with pytest.raises(LsapError, match=reason):
            lsap_jax.edit(G, "w", w, np.ones(16), strengths)
    with pytest.raises(LsapError, match=r"strengths of shape \[2\] for 3 codes"):
        move(G, parse_space("w"), w, random_direction(G, "w"), np.ones(2))


def test_rows_of_a_direction_go_to_the_rows_of_a_code(tiny):
    space = parse_space("w+")
    rows = np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32)
    for vector in (rows, rows.reshape(-1)):
        np.testing.assert_array_equal(fitted(tiny, space, Direction(name="d", space="w", vector=vector)), rows)
    same = Direction(name="pose", space="w", vector=np.stack([rows[0]] * 6))
    np.testing.assert_array_equal(fitted(tiny, parse_space("w"), same), rows[0])
    assert [family(parse_space(n)) for n in NAMES] == [
        "z",
        "z",
        "w",
        "w",
        "s",
        "p",
        "pn",
        "pn",
        "z",
        "z",
        "w",
        "w",
        "s",
    ]


def test_random_directions_have_the_papers_and_the_codes_variance(tiny):
    wide = tiny.replace(config=tiny.config.__class__(**{**vars(tiny.config), "w_dim": 4096}))
    for variance, deviation in (("paper", 0.2), ("code", 0.04)):
        vector = random_direction(wide, "w+", 3, variance).vector
        assert vector.shape == (4096,) and vector.dtype == np.float32
        np.testing.assert_allclose([vector.std(), np.abs(vector.mean())], [deviation, 0], atol=0.05 * deviation)
    assert [random_direction(tiny, "w", 2**32 - 1, v).name for v in ("paper", "code")] == [
        "random-4294967295",
        "random-4294967295-code",
    ]
    for seed in (-1, 2**32):
        with pytest.raises(LsapError, match=f"random:{seed}: seeds are 0 to"):
            random_direction(tiny, "w", seed)
    again, other = random_direction(tiny, "f/z+", 1), random_direction(tiny, "z", 2)
    np.testing.assert_array_equal(again.vector, random_direction(tiny, "z", 1).vector)
    assert (again.vector != other.vector).all() and again.space == "z" and "seed 1" in again.source
    with pytest.raises(LsapError, match="choose paper or code"):
        random_direction(tiny, "w", 0, "thesis")


@pytest.mark.parametrize("unit_columns", [True, False])
def test_sefa_is_the_svd_of_the_affine_weights(tiny, unit_columns):
    """By numpy's SVD of the styles' Jacobian, which knows nothing of how weights are stored."""
    styles = jax.jacobian(lambda w: tiny.styles(tiny.repeat_w(w[None])))(jax.numpy.zeros(16))
    convs = [np.asarray(styles[f"b{r}.{c}"][0]) for r, c in [(8, "conv1"), (16, "conv0")]]
    A = np.concatenate(convs).T.astype(np.float64)
    if unit_columns:
        A /= np.linalg.norm(A, axis=0)
    U = np.linalg.svd(A)[0]
    found = sefa(tiny, 5, layers="2-3", unit_columns=unit_columns)
    for k, direction in enumerate(found):
        assert direction.space == "w" and direction.layers == (2, 3)
        np.testing.assert_allclose(abs(direction.vector @ U[:, k]), 1, atol=1e-5)
        assert direction.vector[np.abs(direction.vector).argmax()] > 0


def test_sefa_covers_every_row_once(tiny):
    assert affine_weights(tiny).shape == (16, 8 * 6) and affine_weights(tiny, 5).shape == (16, 8)
    vectors = np.stack([d.vector for d in sefa(tiny, 16)])
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(16), atol=1e-5)
    for wrong in (0, 17):
        with pytest.raises(LsapError, match="has 1 to 16"):
            sefa(tiny, wrong)


def test_a_direction_may_be_given_by_name(G):
    codes = some_codes(G, parse_space("w+"))
    by_name = lsap_jax.edit(G, "w+", codes, "random:3", [2.0])
    own = lsap_jax.edit(G, "w+", codes, random_direction(G, "w+", 3), [2.0])
    np.testing.assert_array_equal(by_name.codes["w"], own.codes["w"])
    with pytest.raises(LsapError, match=r"stands for 2 directions \(sefa-0, sefa-1\); name one"):
        lsap_jax.edit(G, "w+", codes, "sefa:0-1", [2.0])
