"""InterFaceGAN against hyperplanes that are known, and files of directions."""

import json
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from lsap_jax.editing import interfacegan as method
from lsap_jax.editing.direction import FAMILIES, Direction, found_elsewhere
from lsap_jax.editing.direction_file import read_directions, save_directions
from lsap_jax.editing.imported import load_directions
from lsap_jax.editing.interfacegan import boundary, condition, interfacegan, sample
from lsap_jax.errors import LsapError
from lsap_jax.rendering.render import render
from lsap_jax.spaces import parse_space
from lsap_jax.storage.weights_file import write_weights
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")

SAMPLES = 1500
seeds = st.integers(0, 2**31 - 1)


@pytest.fixture(scope="module")
def G():
    return tiny_generator(discriminator=False)


def measured(images) -> dict[str, np.ndarray]:
    """How bright the left half is, and how red the image."""
    left = images[:, :, :8].mean(axis=(1, 2, 3))
    return {"bright_left": left, "red": images[..., 0].mean(axis=(1, 2)) - images[..., 2].mean(axis=(1, 2))}


@pytest.fixture(scope="module")
def scorer(G):
    """Log-odds of sorts, about as often above 0 as below."""
    usual = {
        name: np.median(values) for name, values in sample(G, measured, 200, seed=9, batch_size=100).scores.items()
    }
    return lambda images: {name: 20 * (values - usual[name]) for name, values in measured(images).items()}


@pytest.fixture(scope="module")
def scored(G, scorer):
    return sample(G, scorer, SAMPLES, seed=3, batch_size=100)


def cosine(a, b) -> float:
    a, b = (np.ravel(np.asarray(x, np.float64)) for x in (a, b))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def unit(seed: int, *shape: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


@given(seeds, st.integers(2, 24), st.floats(-0.5, 0.5), st.booleans())
def test_a_linear_score_gives_back_its_normal(seed, dim, offset, on_sphere):
    rng, normal = np.random.default_rng(seed), unit(seed, dim)
    codes = rng.standard_normal((4000, dim))
    if on_sphere:
        codes *= np.sqrt(dim) / np.linalg.norm(codes, axis=1, keepdims=True)
    scores = codes @ normal - offset
    found = boundary(codes.astype(np.float32), 3 * scores, seed=seed)
    assert cosine(found.normal, normal) > 0.95  # towards the attribute, not away from it
    np.testing.assert_allclose(np.linalg.norm(found.normal), 1, rtol=1e-9)
    assert found.accuracy == 1 and found.accuracy_rest > 0.6 and found.fitted == 2 * (80 - 24)
    np.testing.assert_allclose(found.deviation, (codes @ found.normal).std(), rtol=1e-5)
    # The hyperplane lies between the two groups.
    between = [np.sort(scores)[i] for i in (79, -80)]
    assert between[0] - 0.5 < -found.intercept - offset < between[1] + 0.5


def test_codes_are_computed_for_the_few_that_are_fitted_and_the_rest_in_pieces():
    normal, codes, asked = unit(0, 8), np.random.default_rng(0).standard_normal((9000, 8)), []

    def take(index):
        asked.append(len(index))
        return codes[index]

    found = boundary(take, codes @ normal, ratio=0.05, validation=0.5, seed=4)
    assert asked[0] == found.fitted == 450 and max(asked[1:]) == method.CHUNK and sum(asked[1:]) == 9000
    same = boundary(codes, codes @ normal, ratio=0.05, validation=0.5, seed=4)
    np.testing.assert_array_equal(found.normal, same.normal)
    half = boundary(codes[:200], codes[:200] @ normal - np.median(codes[:200] @ normal), ratio=0.5, validation=0.99)
    assert np.isnan(half.accuracy_rest) and half.fitted == 2


def test_noisy_scores_are_told_by_a_lower_accuracy():
    rng, normal = np.random.default_rng(1), unit(1, 16)
    codes = rng.standard_normal((5000, 16))
    found = boundary(codes, codes @ normal + 2 * rng.standard_normal(5000), ratio=0.05)
    assert 0.6 < found.accuracy < 0.99 and 0.55 < found.accuracy_rest < 0.8 and cosine(found.normal, normal) > 0.8


def test_the_accuracy_on_the_rest_is_not_that_of_the_frequent_side():
    rng, normal = np.random.default_rng(2), unit(2, 8)
    codes = rng.standard_normal((5000, 8))
    along = codes @ normal
    rare = boundary(codes, along - 1.5)  # seven in a hundred have it
    share = np.mean(along > 1.5)
    sides = codes @ rare.normal + rare.intercept > 0
    order = np.argsort(along)[100:-100]
    has = along[order] > 1.5
    expected = (sides[order][has].mean() + (~sides[order])[~has].mean()) / 2
    assert share < 0.08 and rare.accuracy == 1
    np.testing.assert_allclose(rare.accuracy_rest, expected)
    fifty = boundary(codes, along - np.sort(along)[-51:-49].mean())  # all of which are fitted to
    order = np.argsort(along)[100:-100]
    np.testing.assert_allclose(fifty.accuracy_rest, np.mean(codes[order] @ fifty.normal + fifty.intercept <= 0))


@pytest.mark.parametrize(
    ("scores", "options", "reason"),
    [
        (np.full(200, 0.5), {}, "all 200 scores are 0.5"),
        (np.r_[np.ones(49), -np.ones(151)], {}, "49 of 200 samples have it"),
        (np.r_[np.ones(190), -np.ones(10)], {}, "10 of 200 samples are without it"),
        (np.linspace(0.1, 0.9, 200), {}, "0 of 200 samples are without it .by the sign"),
        (np.r_[np.nan, np.ones(199)], {}, "finite"),
        (np.ones((200, 1)), {}, "one per sample"),
        (np.linspace(-1, 1, 200), {"ratio": 0.6}, "ratio 0.6"),
        (np.linspace(-1, 1, 200), {"ratio": 0}, "ratio 0"),
        (np.linspace(-1, 1, 200), {"validation": 1.0}, "validation 1.0"),
    ],
)
def test_what_has_no_boundary_is_refused(scores, options, reason):
    with pytest.raises(LsapError, match=reason):
        boundary(np.zeros((200, 4)), scores, **options)


def test_without_scikit_learn_the_remedy_is_named(G, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(LsapError, match=r"pip install '\.\[svm\]'"):
        interfacegan(G, "w", pytest.fail)


@pytest.mark.parametrize("space", ["z", "w", "s"])
def test_a_move_along_a_found_direction_raises_its_attribute(G, scorer, scored, space):
    found = interfacegan(G, f"f/{space}", scored)
    assert [d.name for d in found] == ["bright_left", "red"]
    z = np.random.default_rng(5).standard_normal((64, 16)).astype(np.float32)
    z *= 4 / np.linalg.norm(z, axis=1, keepdims=True)
    s = parse_space(space)
    start = z if space == "z" else np.asarray(s.from_ws(G, G.mapping(z)))

    def scores(code):
        return scorer(render(G, s, {s.detail.key: code}, batch_size=64))

    before = scores(start)
    for direction in found:
        assert direction.space == space and direction.generator == G.network_sha256
        np.testing.assert_allclose(np.linalg.norm(direction.vector), 1, rtol=1e-5)
        assert direction.measures["accuracy"] > 0.7 and 0.5 < direction.measures["accuracy_rest"] <= 1
        assert f"of {SAMPLES} samples, psi 1, seed 3" in direction.source
        less, more = (scores(start + by * direction.scale * direction.vector)[direction.name] for by in (-2, 2))
        assert np.mean(more > less) > 0.8 and less.mean() < before[direction.name].mean() < more.mean()
        if space == "z":
            assert direction.scale == 1
        else:
            index = np.arange(SAMPLES)
            along = scored.codes(G, space, index) @ direction.vector
            np.testing.assert_allclose(direction.scale, along.std(), rtol=1e-3)


def test_codes_of_samples_are_those_of_their_images(G, scorer, scored):
    np.testing.assert_allclose(np.linalg.norm(scored.z, axis=1), 4, rtol=1e-5)
    assert abs(scored.z.mean()) < 0.05 and len(np.unique(scored.z[:, 0])) == SAMPLES
    index = np.array([7, 3, 1200])
    half = replace(scored, truncation_psi=0.5)
    ws = np.asarray(G.mapping(scored.z[index], truncation_psi=0.5))
    np.testing.assert_allclose(half.codes(G, "w", index), ws[:, 0], atol=1e-5)
    s = half.codes(G, "s", index)
    np.testing.assert_allclose(s, parse_space("s").from_ws(G, ws), atol=1e-5)
    again = scorer(np.clip(np.asarray(G.synthesis(G.mapping(scored.z[index]))), -1, 1))
    np.testing.assert_allclose(again["red"], scored.scores["red"][index], atol=1e-3)


def test_samples_depend_on_the_seed_alone(G):
    told, shapes = [], set()

    def scorer(images):
        shapes.add(images.shape)
        assert np.abs(images).max() <= 1
        return {"mean": images.mean(axis=(1, 2, 3))}

    one = sample(G, scorer, 110, 5, batch_size=100, report=lambda *now: told.append(now))
    other = sample(G, scorer, 110, 5, batch_size=40)
    np.testing.assert_array_equal(one.z, other.z)
    np.testing.assert_allclose(one.scores["mean"], other.scores["mean"], atol=1e-5)
    assert told == [(100, 110), (110, 110)] and shapes == {(100, 16, 16, 3), (40, 16, 16, 3)}
    with pytest.raises(LsapError, match="99 samples"):
        sample(G, scorer, 99)


@pytest.mark.parametrize(
    ("scorer", "reason"),
    [
        (lambda images: {}, "no attributes"),
        (lambda images: {"a": images[:, 0, 0, 0][:-1]}, r"shape \[99\]"),
        (lambda images: {"a": np.full(100, np.inf)}, "not finite"),
    ],
)
def test_a_scorer_that_gives_something_else_is_refused(G, scorer, reason):
    with pytest.raises(LsapError, match=reason):
        sample(G, scorer, 100, batch_size=100)


def test_attributes_and_spaces_are_checked(G, scored):
    with pytest.raises(LsapError, match="directions of z, w, s, not of pn"):
        interfacegan(G, "pn+", scored)
    with pytest.raises(LsapError, match="'bright': did you mean 'bright_left'. there are bright_left, red"):
        interfacegan(G, "w", scored, ["bright"])
    rare = replace(scored, scores={"rare": scored.scores["red"] - 1e6})
    with pytest.raises(LsapError, match="attribute rare: 0 of 1500 samples have it"):
        interfacegan(G, "w", rare)
    only = interfacegan(G, "w", scored, ["red"])
    np.testing.assert_array_equal(only[0].vector, interfacegan(G, "w", scored)[1].vector)


def made(seed: int, name: str = "d", space: str = "w", dim: int = 12) -> Direction:
    return Direction(name=name, space=space, vector=2 * unit(seed, dim).astype(np.float32), scale=1.5, source="mine")


@given(seeds, st.integers(1, 4), st.booleans())
def test_a_conditional_direction_is_orthogonal_to_its_conditions(seed, count, twice):
    direction, others = made(seed), [made(seed + 1 + i, f"o{i}") for i in range(count)]
    found = condition(direction, [*others, *(others if twice else [])])  # dependent conditions too
    for other in others:
        assert abs(cosine(found.vector, other.vector)) < 1e-6
    np.testing.assert_allclose(np.linalg.norm(found.vector), 2, rtol=1e-6)
    # It is the nearest such direction: what was taken away is a mixture of the conditions.
    amount = found.vector @ direction.vector / 4
    away = direction.vector - amount * found.vector
    span = np.stack([o.vector for o in others]).T
    np.testing.assert_allclose(span @ np.linalg.lstsq(span, away, rcond=None)[0], away, atol=1e-5)
    assert found.scale == 1.5 and "conditional on o0" in found.source
    again = condition(found, others)
    np.testing.assert_allclose(again.vector, found.vector, atol=1e-6)


def test_conditions_that_cannot_be_met_are_refused():
    direction = made(0)
    assert condition(direction, []) is direction
    mixture = replace(direction, vector=made(1).vector + made(2).vector)
    with pytest.raises(LsapError, match="it is a mixture of a, b"):
        condition(mixture, [made(1, "a"), made(2, "b")])
    for other in (made(1, space="z"), made(1, dim=11)):
        with pytest.raises(LsapError, match="of one space and shape"):
            condition(direction, [other])


SOME = (
    replace(made(0, "smile"), generator="ab" * 32, measures={"accuracy": 1 / 3}, layers=(4, 5)),
    made(1, "smile", "z"),
    replace(made(2, "beard älter +1"), vector=unit(3, 6, 12).astype(np.float32), layers="coarse,7", scale=-0.1),
    replace(made(4, "ganspace-0"), mean=unit(5, 12).astype(np.float32), layers=3),
)


def same(a: Direction, b: Direction) -> bool:
    def plain(d):
        values = {f.name: getattr(d, f.name) for f in fields(d)}
        arrays = [np.asarray(values.pop(k)).tobytes() for k in ("vector", "mean")]
        return values, arrays, np.shape(d.vector), np.asarray(d.vector).dtype

    return plain(a) == plain(b)


def test_a_file_gives_back_what_was_saved(tmp_path):
    path = tmp_path / "sub" / "some.directions"  # its content decides, not its name
    save_directions(path, SOME)
    assert all(same(a, b) for a, b in zip(read_directions(path), SOME, strict=True))
    found = load_directions(path)
    assert list(found) == ["smile@w", "smile@z", "beard älter +1", "ganspace-0"]
    z = load_directions(path, space="z", layers="fine")
    assert list(z) == ["smile"] and same(z["smile"], replace(SOME[1], layers="fine"))
    with pytest.raises(LsapError, match="holds directions of w, z, none of s"):
        load_directions(path, space="s")


@pytest.mark.parametrize(
    ("directions", "reason"),
    [
        ([], "no directions"),
        ([made(0), made(1)], "two directions of space w have the name d"),
        *(
            ([made(0, name)], "cannot be the name of a direction")
            for name in ("", "../up", "a@w", "a:b", ".a", "a\nb", "x" * 101)
        ),
    ],
)
def test_what_cannot_be_saved_is_refused(tmp_path, directions, reason):
    with pytest.raises(LsapError, match=reason):
        save_directions(tmp_path / "d.safetensors", directions)
    assert not list(tmp_path.iterdir())


def test_damaged_and_other_files_are_refused(tmp_path, G):
    path = tmp_path / "d.safetensors"
    save_directions(path, SOME)
    whole = path.read_bytes()
    for damaged in (whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(LsapError, match="d.safetensors: .*damaged"):
            load_directions(path)
    G.save(path)
    with pytest.raises(LsapError, match="holds 'generator' weights, not directions"):
        load_directions(path)


RECORD = {
    "name": "d", "space": "w", "scale": 1.0, "layers": None, "source": "", "generator": "", "measures": {}
}  # fmt: skip
HOSTILE = {
    "name leaves its folder": ({"name": "../../d"}, "cannot be the name of a direction"),
    "name is a list": ({"name": ["d"]}, "cannot be the name of a direction"),
    "other tensor": ({"name": "e"}, "do not belong together"),
    "unknown space": ({"space": "q"}, "do not belong together"),
    "zero scale": ({"scale": 0}, "do not belong together"),
    "endless scale": ({"scale": 1e999}, "do not belong together"),
    "huge scale": ({"scale": 10**400}, "do not belong together"),
    "layers of text": ({"layers": ["a"]}, "do not belong together"),
    "layers of a dict": ({"layers": 1.5}, "do not belong together"),
    "measures of a list": ({"measures": [1]}, "do not belong together"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_headers_that_are_wrong_are_refused(tmp_path, case):
    changes, reason = HOSTILE[case]
    path = tmp_path / "d.safetensors"
    arrays = {f"vectors/d@{changes.get('space', 'w')}": np.ones(4, np.float32)}
    write_weights(path, "directions", arrays, {"directions": [{**RECORD, **changes}]}, {})
    with pytest.raises(LsapError, match=reason) as error:
        load_directions(path)
    assert "d.safetensors" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arrays",
    [
        {"vectors/d@w": np.full(4, np.nan, np.float32)},
        {"vectors/d@w": np.ones(4)},
        {"vectors/d@w": np.ones((1, 2, 2), np.float32)},
        {"vectors/d@w": np.ones(4, np.float32), "means/d@w": np.ones((1, 4), np.float32)},
        {"vectors/d@w": np.ones(4, np.float32), "vectors/e@w": np.ones(4, np.float32)},
    ],
)
def test_tensors_that_are_wrong_are_refused(tmp_path, arrays):
    path = tmp_path / "d.safetensors"
    for config in ({"directions": [RECORD]}, {"directions": 3}, {}, {"directions": []}, {"directions": [3]}):
        write_weights(path, "directions", arrays, config, {})
        with pytest.raises(LsapError, match=r"d.safetensors: .*(do not belong together|is not what its header)"):
            load_directions(path)


def test_a_file_without_this_packages_header_is_refused(tmp_path):
    path = tmp_path / "d.safetensors"
    save_file({"vectors/d@w": np.ones(4, np.float32)}, path)
    with pytest.raises(LsapError, match="without lsap_jax metadata"):
        load_directions(path)
    save_directions(path, SOME)
    with safe_open(str(path), framework="numpy") as file:
        header = json.loads(file.metadata()["lsap_jax"])
    assert header["kind"] == "directions" and {r["space"] for r in header["config"]["directions"]} <= set(FAMILIES)


def test_directions_of_another_generator_are_told(G):
    own = replace(made(0), generator=G.network_sha256)
    assert found_elsewhere(G, [own, made(1)]) == "" == found_elsewhere(G, [])
    note = found_elsewhere(G, [own, SOME[0], replace(SOME[0], name="age")])
    assert note.startswith("direction smile and 1 more: found with a generator of SHA-256 abababababababab…")
    assert G.network_sha256[:16] in note and "\n" not in note
