"""Refinements as a data structure: to arrays and back, one of many images, and whether they fit a generator."""

import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lsap_jax.errors import LsapError
from lsap_jax.rendering.refinement import (
    Full,
    LowRank,
    Refinement,
    by_signature,
    check,
    count,
    from_arrays,
    merged,
    rounded,
    signature,
    stack,
    take,
    to_arrays,
)
from lsap_jax.rendering.transforms import MaskedOffset, ScaleShift, Start
from lsap_jax.storage.file_bytes import arrays_from_npz, npz_bytes
from lsap_jax.testing import tiny_generator


@pytest.fixture(scope="module")
def G():
    return tiny_generator(discriminator=False)


def a_refinement(images: int, seed: int = 0) -> Refinement:
    """One of every kind, for the tiny generator."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.standard_normal((images, *shape), np.float32)

    return Refinement(
        weights={
            "synthesis.b8.conv1.weight": Full(delta=draw(3, 3, 8, 8)),
            "synthesis.b16.conv0.weight": LowRank(up=draw(72, 2), down=draw(2, 8)),
            "synthesis.b8.conv0.noise_strength": Full(delta=draw()),
        },
        transforms={
            "b8.conv1": ScaleShift(scale=draw(8, 8, 8), shift=draw(8, 8, 8)),
            "b16.conv0": MaskedOffset(offset=draw(16, 16, 8), mask=draw(16, 16, 1)),
            "b4.conv1": Start(f=draw(4, 4, 8)),
        },
    )


def assert_same(a: Refinement, b: Refinement) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_an_image_goes_to_arrays_and_a_file_and_back():
    one = take(a_refinement(3), 1)
    arrays = to_arrays(one)
    assert "weights/synthesis.b16.conv0.weight/low_rank/up" in arrays and "transforms/b4.conv1/start/f" in arrays
    assert arrays["transforms/b8.conv1/scale_shift/shift"].shape == (8, 8, 8)
    assert_same(from_arrays(arrays), one)
    with np.load(io.BytesIO(npz_bytes(arrays)), allow_pickle=False) as file:
        assert_same(from_arrays(file), one)
    assert_same(from_arrays(arrays_from_npz(npz_bytes(arrays))), one)
    assert_same(from_arrays({}), Refinement())


@given(st.lists(st.floats(width=32, min_value=-65000, max_value=65000), min_size=1, max_size=20))
@example([0.0, -0.0, 2.0**-14, 2.0**-15, 3.1e-5, 6e-8, 2.9e-8, 1e-10, 1.0009765, 65504.0])
def test_what_is_rounded_in_a_program_is_stored_as_float16(numbers):
    wanted = np.asarray(numbers, np.float32).astype(np.float16)
    change = Refinement(weights={"mapping.fc0.bias": Full(delta=np.asarray(numbers, np.float32))})
    shown = rounded(change, "float16")
    np.testing.assert_array_equal(shown.weights["mapping.fc0.bias"].delta, wanted.astype(np.float32))
    arrays = to_arrays(shown)
    assert arrays["weights/mapping.fc0.bias/full/delta"].dtype == np.float16
    assert_same(from_arrays(arrays), shown)
    assert rounded(change, "float32") is change


def test_programs_that_round_have_no_float16_arrays():
    program = jax.jit(lambda change: rounded(change, "float16")).lower(take(a_refinement(2), 0))
    assert "f16" not in program.as_text()


def test_images_are_taken_and_stacked():
    all_of_them = a_refinement(4)
    assert count(all_of_them) == 4
    assert_same(stack([take(all_of_them, i) for i in range(4)]), all_of_them)
    assert_same(take(all_of_them, slice(1, 3)), stack([take(all_of_them, i) for i in (1, 2)]))
    for wrong in ([], [take(all_of_them, 0), Refinement()], [take(all_of_them, 0), take(all_of_them, slice(1))]):
        with pytest.raises(LsapError, match="these differ"):
            stack(wrong)
    with pytest.raises(LsapError, match="number of images; found none"):
        count(Refinement())
    with pytest.raises(LsapError, match=r"number of images; found \[2, 3\]"):
        count(Refinement(transforms={"b8.conv1": ScaleShift(scale=np.zeros((2, 8)), shift=np.zeros((3, 8)))}))


START, UP = "transforms/b4.conv1/start/f", "weights/synthesis.b16.conv0.weight/low_rank/up"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"weights/x": np.zeros(1, np.float32)}, "'weights/x': names are weights or transforms/WHERE/KIND/ARRAY"),
        ({"code/b8.conv1/start/f": np.zeros(1, np.float32)}, "names are"),
        ({"transforms//start/f": np.zeros(1, np.float32)}, "names are"),
        ({"weights/b/pickle/x": np.zeros(1, np.float32)}, "there is no kind 'pickle'; there are full, low_rank"),
        ({"transforms/b/full/delta": np.zeros(1, np.float32)}, "there is no kind 'full'; there are scale_shift"),
        ({UP: None}, "low_rank has up, down, not down"),
        ({"transforms/b4.conv1/start/g": np.zeros(1, np.float32)}, "start has f, not f, g"),
        ({"transforms/b8.conv1/start/f": np.zeros(1, np.float32)}, "there are two kinds"),
        ({START: np.zeros(1)}, r"float16 numbers \(float64\)"),
        ({START: np.array([None])}, r"float16 numbers \(object\)"),
        ({START: np.array(["x"])}, r"float16 numbers \(<U1\)"),
        ({START: np.full(1, np.nan, np.float32)}, "must hold finite"),
        ({START: np.full(1, np.inf, np.float16)}, "must hold finite"),
    ],
)
def test_arrays_that_nobody_writes_are_refused(change, reason):
    arrays = to_arrays(take(a_refinement(1), 0)) | change
    with pytest.raises(LsapError, match=reason):
        from_arrays({name: a for name, a in arrays.items() if a is not None})


def test_a_kind_that_is_in_no_table_is_not_saved():
    with pytest.raises(LsapError, match="weights of x: ScaleShift is not one of the kinds full, low_rank"):
        to_arrays(Refinement(weights={"x": ScaleShift(scale=np.zeros(1), shift=np.zeros(1))}))


def test_what_fits_a_generator(G):
    check(G, a_refinement(3), 3)
    check(G, Refinement(), 3)
    check(
        G,
        Refinement(
            weights={"synthesis.b8.conv0.affine.weight": LowRank(up=np.zeros((1, 16, 1)), down=np.zeros((1, 1, 8)))}
        ),
    )


@pytest.mark.parametrize(
    ("part", "where", "change", "reason"),
    [
        ("weights", "mapping.fc9.weight", Full(delta=np.zeros((2, 16, 16))), "has no such parameter"),
        ("weights", "synthesis.b32.conv0.weight", Full(delta=np.zeros((2, 3, 3, 8, 8))), "has no such parameter"),
        (
            "weights",
            "synthesis.b8.conv0.weight",
            Full(delta=np.zeros((2, 3, 3, 8, 9))),
            "b8.conv0.weight: the change does not fit",
        ),
        ("weights", "synthesis.b8.conv0.bias", Full(delta=np.zeros((2, 8, 1))), "b8.conv0.bias: "),
        (
            "weights",
            "synthesis.b8.conv0.weight",
            LowRank(up=np.zeros((2, 36, 1)), down=np.zeros((2, 1, 16))),
            "does not fit a weight",
        ),
        ("transforms", "b32.conv0", Start(f=np.zeros((2, 32, 32, 8))), "no such layer; it has b4.conv1, b4.torgb"),
        ("transforms", "b8.conv1", Start(f=np.zeros((2, 8, 8, 8))), "cannot start there"),
        (
            "transforms",
            "b8.conv0",
            Start(f=np.zeros((2, 16, 16, 8))),
            re.escape("shape [1, 8, 8, 8] becomes [1, 16, 16, 8]"),
        ),
        ("transforms", "b8.conv0", ScaleShift(scale=np.zeros((2, 8, 8, 8)), shift=np.zeros((2, 8, 7, 8))), "not fit"),
    ],
)
def test_what_does_not_fit_a_generator(G, part, where, change, reason):
    with pytest.raises(LsapError, match=reason):
        check(G, Refinement(**{part: {where: change}}))


def test_the_synthesis_starts_once(G):
    starts = {"b4.conv1": Start(f=np.zeros((1, 4, 4, 8))), "b8.conv0": Start(f=np.zeros((1, 8, 8, 8)))}
    with pytest.raises(LsapError, match="transforms of b4.conv1, b8.conv0: the synthesis can start at one"):
        check(G, Refinement(transforms=starts))


def test_a_refinement_of_other_images_does_not_fit(G):
    with pytest.raises(LsapError, match="a refinement of 3 images does not fit codes of 2"):
        check(G, a_refinement(3), 2)


def test_weights_are_merged_by_their_paths(G):
    one = take(a_refinement(2), 1).weights
    params = merged(G, one).params["synthesis"]
    own = G.params["synthesis"]
    np.testing.assert_array_equal(
        params["b8"]["conv1"]["weight"], own["b8"]["conv1"]["weight"] + one["synthesis.b8.conv1.weight"].delta
    )
    low = one["synthesis.b16.conv0.weight"]
    expected = own["b16"]["conv0"]["weight"] + np.einsum("abir,ro->abio", low.up.reshape(3, 3, 8, 2), low.down)
    np.testing.assert_allclose(params["b16"]["conv0"]["weight"], expected, atol=1e-5)
    assert params["b8"]["conv0"]["noise_strength"] == own["b8"]["conv0"]["noise_strength"] + float(
        one["synthesis.b8.conv0.noise_strength"].delta
    )
    np.testing.assert_array_equal(params["b8"]["conv0"]["weight"], own["b8"]["conv0"]["weight"])
    assert merged(G, {}) is G


def test_images_that_are_refined_differently_are_computed_apart():
    some = a_refinement(2)
    mixed = [None, take(some, 0), Refinement(transforms={"b8.conv0": ScaleShift(**_unit())}), None, take(some, 1)]
    seen = []

    def function(refinement, x):
        seen.append(None if refinement is None else count(refinement))
        return {"x": x + (0 if refinement is None else 10 * count(refinement))}

    found = by_signature(function, mixed, jnp.arange(5))
    np.testing.assert_array_equal(found["x"], [0, 21, 12, 3, 24])
    assert seen == [None, 2, 1] and len({signature(one) for one in mixed}) == 3


@pytest.mark.parametrize("images", [[None, None], [take(Refinement(transforms={}), 0)] * 2])
def test_images_that_are_refined_alike_are_not_copied(images):
    codes = {"w": np.arange(2)}
    assert by_signature(lambda refinement, codes: codes, images, codes)["w"] is codes["w"]


def _unit():
    return {"scale": np.ones((8, 8, 8), np.float32), "shift": np.ones((8, 8, 8), np.float32)}
