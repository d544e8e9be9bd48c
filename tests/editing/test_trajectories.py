"""Directions that depend on the code: StyleCLIP's mappers and the gradient of an attribute."""

import pickle

import numpy as np
import pytest
from foreign_files import T, torch_zip
from hypothesis import given, settings
from hypothesis import strategies as st
from test_editing import some_codes

import lsap_jax
from convert_weights import ConversionError
from convert_weights.convert import completed, save
from convert_weights.recognise import read
from convert_weights.styleclip import mapper_shapes
from lsap_jax.editing.direction import described
from lsap_jax.editing.direction_file import save_directions
from lsap_jax.editing.gradient import gradient_direction, unit
from lsap_jax.editing.moves import move
from lsap_jax.editing.named import find
from lsap_jax.editing.series import along
from lsap_jax.errors import LsapError
from lsap_jax.models.attributes import Attributes, BinaryAttribute, attribute_scores
from lsap_jax.models.attributes_file import save_attributes
from lsap_jax.networks.attributes import AttributesConfig, param_shapes
from lsap_jax.spaces import parse_space
from lsap_jax.testing import random_leaves

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS = {"course": slice(0, 4), "medium": slice(4, 8), "fine": slice(8, None)}


@pytest.fixture(scope="module")
def G(tiny):
    return tiny.without("discriminator", "basecode")


def weights(levels=("course", "medium", "fine"), seed=0) -> dict[str, np.ndarray]:
    """Of a mapper of w_dim 16, as its training would leave them: of deviation 1 / lr_mul."""
    rng = np.random.default_rng(seed)
    shapes = mapper_shapes({"w_dim": 16, "levels": levels})
    return {name: rng.standard_normal(shape).astype(np.float32) * 100 for name, shape in shapes.items()}


def by_hand(arrays, ws):
    """The original's forward pass: PixelNorm over axis 1, EqualLinear with lr_mul 0.01, leaky ReLU times √2."""
    out = np.zeros(ws.shape)
    for level, rows in ROWS.items():
        if f"{level}_mapping.mapping.1.weight" not in arrays or not ws[:, rows].shape[1]:
            continue
        x = ws[:, rows].astype(np.float64)
        x = x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + 1e-8)
        for k in range(1, 5):
            weight, bias = (arrays[f"{level}_mapping.mapping.{k}.{leaf}"] for leaf in ("weight", "bias"))
            x = x @ weight.T.astype(np.float64) * 0.01 / np.sqrt(16) + bias * 0.01
            x = np.where(x >= 0, x, 0.2 * x) * np.sqrt(2)
        out[:, rows] = x
    return out


def mapper_file(folder, arrays, name="purple_hair.pt", beside=True):
    decoder = {"decoder.conv1.conv.weight": np.ones((1, 4, 4, 3, 3), np.float32)} if beside else {}
    named = {f"mapper.{key}": a for key, a in arrays.items()} | decoder
    path = folder / name
    opts = {"no_coarse_mapper": False, "description": "purple hair", "lr": 0.5}
    path.write_bytes(torch_zip({"state_dict": {key: T(a) for key, a in named.items()}, "opts": opts}))
    return path


@pytest.mark.parametrize("levels", [("course", "medium", "fine"), ("course",), ("medium", "fine")])
def test_a_mapper_moves_codes_as_the_original_does(tmp_path, G, levels):
    arrays, codes = weights(levels), some_codes(G, parse_space("w+"))
    original = mapper_file(tmp_path, arrays)
    converted = tmp_path / "converted" / "purple_hair.safetensors"
    converted.parent.mkdir()
    checkpoint = read(original)
    assert checkpoint.ignored["state_dict/decoder.*"] == "not part of the mapper"
    save(converted, completed(checkpoint), original)
    steps = by_hand(arrays, codes["w"])
    assert np.abs(steps[:, ROWS[levels[0]]]).max() > 1
    edits = [lsap_jax.edit(G, "w+", codes, str(path), [-0.1, 0.0, 0.1]) for path in (original, converted)]
    for strength, moved in zip((-0.1, 0.0, 0.1), edits[0].codes["w"], strict=True):
        np.testing.assert_allclose(moved, codes["w"] + strength * steps, atol=2e-5)
    np.testing.assert_array_equal(edits[0].codes["w"][1], codes["w"])
    np.testing.assert_array_equal(edits[0].codes["w"], edits[1].codes["w"])
    assert np.abs(edits[0].images[0] - edits[0].images[1]).max() > 1e-3
    (one,) = find(G, "f/w+", f"{converted}:purple_hair")
    assert described(one)["direction"] == "purple_hair"
    assert described(one)["sha256"] == described(find(G, "w+", str(original))[0])["sha256"]
    some = move(G, parse_space("w+"), codes, one, 0.1, layers="0")["w"]
    np.testing.assert_array_equal(some[:, 1:], codes["w"][:, 1:])
    alone = [move(G, parse_space("w+"), {"w": codes["w"][k : k + 1]}, one, 0.1)["w"][0] for k in range(3)]
    np.testing.assert_array_equal(np.stack(alone), edits[1].codes["w"][2])


def test_a_mapper_is_refused_where_it_has_no_meaning(tmp_path, G):
    path = mapper_file(tmp_path, weights())
    with pytest.raises(LsapError, match="direction purple_hair: a mapper moves every row otherwise.*use w\\+"):
        lsap_jax.edit(G, "w", some_codes(G, parse_space("w")), str(path), [1])
    for space in ("z+", "s"):
        with pytest.raises(LsapError, match=f"of w, none for space {space[0]}; invert in w, w\\+, f/w, f/w\\+ \\("):
            find(G, space, str(path))
    with pytest.raises(LsapError, match="is a mapper of w, not of z"):
        find(G, "z+", f"{path}@z")
    with pytest.raises(LsapError, match="has no vector, it depends on the code"):
        save_directions(tmp_path / "d.safetensors", find(G, "w+", str(path)))
    with pytest.raises(LsapError, match="no coordinate|no mean"):
        lsap_jax.edit(G, "w+", some_codes(G, parse_space("w+")), str(path), [1], absolute="own")
    wide = {name: np.ones((8,) * a.ndim, np.float32) for name, a in weights().items()}
    with pytest.raises(LsapError, match="takes w of 8 numbers, this generator has 16"):
        lsap_jax.edit(G, "w+", some_codes(G, parse_space("w+")), str(mapper_file(tmp_path, wide)), [1])


def test_damaged_mappers_are_refused(tmp_path):
    arrays = weights(("course",))
    arrays.pop("course_mapping.mapping.3.bias")
    with pytest.raises(ConversionError, match="missing course_mapping.mapping.3.bias"):
        read(mapper_file(tmp_path, arrays))
    arrays = weights(("course",)) | {"course_mapping.mapping.5.weight": np.ones((16, 16), np.float32)}
    with pytest.raises(ConversionError, match="unexpected"):
        read(mapper_file(tmp_path, arrays))
    both = {name: {key: T(a) for key, a in weights(("fine",)).items()} for name in ("a", "b")}
    (tmp_path / "two.pt").write_bytes(torch_zip(both))
    with pytest.raises(ConversionError, match="holds 2 of them"):
        read(tmp_path / "two.pt")


@pytest.fixture(scope="module")
def attributes():
    labels = (("hue", ("red", "blue", "other")), ("light", ("dark", "bright")))
    config = AttributesConfig(labels=labels, resolution=16, widths=(4, 8))
    params = random_leaves(param_shapes(config), np.random.default_rng(3))
    binary = {
        "blue": BinaryAttribute("hue", ("blue",), ("red",)),
        "pale": BinaryAttribute("hue", ("red", "other"), ("blue",)),
    }
    return Attributes(config=config, params=params, binary=binary)


@pytest.mark.parametrize("name", ["z", "z+", "w", "w+", "s", "f/w+"])
def test_the_gradient_raises_the_attribute_in_every_space(G, attributes, name):
    space = parse_space(name)
    codes, one = some_codes(G, space, 2), gradient_direction(attributes, "blue", space.key, 3)
    found = lsap_jax.edit(G, name, codes, one, [-0.3, 0.0, 0.3])
    down, still, up = (attribute_scores(attributes, images)["blue"] for images in found.images)
    assert (down < still).all() and (still < up).all()
    np.testing.assert_array_equal(found.codes[space.key][1], codes[space.key])
    alone = [move(G, space, {k: a[i : i + 1] for k, a in codes.items()}, one, 0.3)[space.key][0] for i in range(3)]
    np.testing.assert_array_equal(np.stack(alone), found.codes[space.key][2])


def test_a_gradient_is_the_steepest_way_and_bends(G, attributes):
    """Against differences of the scores along other vectors, and against the straight way."""
    space, codes = parse_space("w+"), some_codes(G, parse_space("w+"), 4, 1)
    one = gradient_direction(attributes, "pale", "w", 1)
    step = move(G, space, codes, one, 1.0)["w"] - codes["w"]
    np.testing.assert_allclose(np.sqrt((step**2).sum() / G.num_ws), 1, rtol=1e-5)

    def gain(vector):
        moved = [lsap_jax.render(G, space, {"w": codes["w"] + s * vector}) for s in (-0.01, 0.01)]
        return float(np.diff([attribute_scores(attributes, images)["pale"][0] for images in moved])[0])

    others = np.random.default_rng(0).standard_normal((20, *step.shape)).astype(np.float32)
    others *= np.linalg.norm(step) / np.sqrt((others**2).sum(axis=(1, 2, 3), keepdims=True))
    assert gain(step) > 1.5 * max(abs(gain(other)) for other in others)
    far = move(G, space, codes, gradient_direction(attributes, "pale", "w", 4), 2.0)["w"]
    near = codes
    for _ in range(4):
        near = move(G, space, near, one, 0.5)
    np.testing.assert_array_equal(near["w"], far)
    assert np.abs(move(G, space, codes, one, 2.0)["w"] - far).max() > 0.01


@settings(max_examples=25, deadline=None)
@given(st.integers(-30, 15), st.integers(0, 3))
def test_a_gradient_of_any_size_becomes_a_step_of_length_one(exponent, dead):
    gradient = np.random.default_rng(0).standard_normal((2, 4, 5)).astype(np.float32) * np.float32(10.0**exponent)
    gradient[:, :dead] = 0
    found = np.asarray(unit(gradient), np.float64)
    np.testing.assert_allclose((found**2).sum(axis=(1, 2)), 4 - dead, rtol=1e-4)
    np.testing.assert_array_equal(unit(np.zeros_like(gradient)), 0)


def test_gradients_by_name(tmp_path, G, attributes):
    path = tmp_path / "judge.safetensors"
    save_attributes(path, attributes)
    (one,) = find(G, "z+", f"gradient:{path}:blue")
    assert (one.name, one.space, one.trajectory.steps) == ("blue", "z", 10)
    assert find(G, "s", f"gradient:{path}:pale:25")[0].trajectory.steps == 25
    with pytest.raises(LsapError, match="no such attribute: did you mean 'blue'"):
        find(G, "w+", f"gradient:{path}:blu")
    with pytest.raises(LsapError, match="1 to 1000 steps"):
        find(G, "w+", f"gradient:{path}:blue:0")
    with pytest.raises(LsapError, match="there is no file"):
        find(G, "w+", "gradient:nowhere.safetensors:blue")
    with pytest.raises(LsapError, match="its own classifier|judges images"):
        find(G, "w+", "gradient:smile")  # the bundled classifier is of another generator


def test_a_series_along_a_trajectory_can_be_sent_to_another_process(tmp_path, G, attributes):
    space, codes = parse_space("w+"), some_codes(G, parse_space("w+"))
    (mapped,) = find(G, "w+", str(mapper_file(tmp_path, weights())))
    for one in (mapped, gradient_direction(attributes, "blue", "w", 2)):
        series = along(G, space, one, [0.0, 0.5])
        there = pickle.loads(pickle.dumps(series))
        assert there.record == series.record and series.untouched == 0
        np.testing.assert_array_equal(there.codes(1, codes)["w"], series.codes(1, codes)["w"])
