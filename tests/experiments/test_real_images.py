"""Edits against real images that have the attribute: which sets are compared, and what becomes of the numbers."""

import csv
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsap_jax.configuration import load_config
from lsap_jax.data import ImageError, from_arrays
from lsap_jax.editing.direction import Direction
from lsap_jax.errors import LsapError
from lsap_jax.experiments.edit_quality.curves import at_success, intervals
from lsap_jax.experiments.edit_quality.files import curves_csv
from lsap_jax.experiments.edit_quality.judges import choose_judges
from lsap_jax.experiments.edit_quality.quality import Judges, measure_edits
from lsap_jax.experiments.edit_quality.real_images import RealImages, distances, on_side, real_images
from lsap_jax.experiments.edit_quality.tables import Entry, Quality, averaged, kid_note
from lsap_jax.metrics.fid import fid
from lsap_jax.metrics.kid import kid, kid_by_image
from lsap_jax.models.attributes import Attributes, BinaryAttribute, label_logits
from lsap_jax.networks.attributes import AttributesConfig, initial_params
from lsap_jax.pixels import to_uint8
from lsap_jax.spaces import parse_space
from lsap_jax.testing import tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation", "quick_whitening")


@given(st.integers(0, 1000), st.integers(3, 12), st.integers(3, 12), st.floats(0, 2))
def test_contributions_average_to_kid(seed, m, n, shift):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((m, 5)) + shift, rng.standard_normal((n, 5))
    found = kid_by_image(x, y)
    assert found.shape == (m,) and found.mean() == pytest.approx(kid(x, y).value, rel=1e-9, abs=1e-9)
    order = rng.permutation(m)
    np.testing.assert_allclose(kid_by_image(x[order], y), found[order], rtol=1e-9, atol=1e-9)


def test_contributions_have_the_spread_of_kid_over_sets():
    """The standard error of their mean, with the real images given, against that of KID over many sets."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((60, 4))
    sets = [rng.standard_normal((40, 4)) * 1.3 + 0.7 for _ in range(300)]
    values = [kid(x, y).value for x in sets]
    errors = [kid_by_image(x, y).std(ddof=1) / np.sqrt(len(x)) for x in sets]
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


def made(inception: bool = False, d: int = 6) -> RealImages:
    rng = np.random.default_rng(3)
    sets = {("light", 1): rng.standard_normal((5, d)), ("light", -1): rng.standard_normal((2, d))}
    return RealImages(features=lambda images: images, sets=sets, inception=inception, record={})


def edits(asked: np.ndarray, d: int = 6) -> dict[str, np.ndarray]:
    """One direction and one strength."""
    features = np.random.default_rng(4).standard_normal((1, 1, len(asked), d))
    return {"asked": asked[None, None], "features": features, "logit": np.zeros((1, 1, len(asked)))}


def test_each_side_is_compared_with_the_real_images_on_it():
    real, arrays = made(), edits(np.array([1.0, -1, 1, np.nan, 1, -1, -1]))
    found = distances(arrays, real, ["light"])
    assert set(found) == {"logit", "kid"} and set(arrays) == {"asked", "features", "logit"}, "as given"
    own = arrays["features"][0, 0, [0, 2, 4]]
    np.testing.assert_array_equal(found["kid"][0, 0, [0, 2, 4]], kid_by_image(own, real.sets["light", 1]))
    assert np.isnan(found["kid"][0, 0, [1, 3, 5, 6]]).all(), "two real images are too few, and nothing was asked of one"
    assert np.isnan(distances(arrays, real, ["other"])["kid"]).all()
    assert np.isnan(distances(edits(np.array([1.0, 1.0])), real, ["light"])["kid"]).all(), "two edits are too few"
    assert distances({"logit": arrays["logit"]}, None, ["light"]) == {"logit": arrays["logit"]}


def test_fid_is_a_number_of_the_set_and_has_no_interval():
    real, arrays = made(True, 2048), edits(np.ones(4), 2048)
    found = distances(arrays, real, ["light"])
    np.testing.assert_array_equal(found["fid"], fid(arrays["features"][0, 0], real.sets["light", 1]).value)
    (own,) = intervals(averaged("fid", found["fid"]))
    assert own.mean == pytest.approx(found["fid"][0, 0, 0]) and np.isnan([own.low, own.high]).all()
    (kid_of,) = intervals(averaged("kid", found["kid"]))
    assert kid_of.low < kid_of.mean < kid_of.high
    curve = np.repeat(np.linspace(0, 1, 3)[None, :, None], 4, axis=2)
    reached = at_success(
        averaged("success", curve), averaged("fid", np.repeat(found["fid"], 3, axis=1)), np.arange(3), 0.5
    )
    assert reached.reached and reached.interval.mean == pytest.approx(own.mean) and np.isnan(reached.interval.low)


def test_tables_of_few_edits_or_real_images_say_that_kid_means_nothing():
    def quality(edits: int, real: int) -> Quality:
        values = np.arange(2.0 * edits).reshape(1, 2, edits)
        means = {name: averaged(name, values) for name in ("kid", "logit")}
        own = {"name": "a", "directions": [{"direction": "light"}]}
        config = {"strengths": [0.0, 2.0], "toggle": False, "levels": [], "candidate": "", "baseline": ""}
        sides = {"with_attribute": {"light": 5000}, "without_attribute": {"light": real, "other": 1}}
        record = {"ids": list(range(edits)), "real": sides, "config": config}
        arrays = {"kid": values, "logit": values}
        return Quality(record=record, entries=[Entry(record=own, arrays=arrays, means=means)])

    assert kid_note(quality(100, 100)) == ""
    assert kid_note(quality(120, 99)) == "KID of 99 images means nothing; it takes 100 or more"
    few = quality(3, 5000)
    assert kid_note(few) == "KID of 3 images means nothing; it takes 100 or more"
    rows = list(csv.DictReader(curves_csv(few).decode().splitlines()))
    assert {(row["measure"], row["note"]) for row in rows} == {("kid", kid_note(few)), ("logit", "")}
    assert not any(row["note"] for row in csv.DictReader(curves_csv(quality(100, 100)).decode().splitlines()))


@pytest.fixture(scope="module")
def classifier():
    config = AttributesConfig(labels=(("light", ("no", "yes")), ("shape", ("a", "b"))), resolution=16, widths=(4, 8))
    binary = {"light": BinaryAttribute("light", ("yes",), ("no",))}
    return Attributes(config=config, params=initial_params(config, jax.random.key(42)), binary=binary)


def source_of(images):
    return from_arrays(images, None, resolution=16, channels=3, fit="crop")


def test_edits_are_measured_against_what_the_classifier_finds(tiny, classifier):
    images = np.random.default_rng(1).integers(0, 256, (40, 16, 16, 3), np.uint8)
    real = real_images(tiny, source_of(images), classifier, None, 0)
    sides = on_side(classifier, "light", label_logits(classifier, images)["light"].argmax(axis=1))
    assert {name: len(sets) for name, sets in real.sets.items()} == {
        ("light", 1): (sides == 1).sum(), ("light", -1): (sides == -1).sum()
    }  # fmt: skip
    assert real.record["images"] == 40 and real.record["with_attribute"] == {"light": (sides == 1).sum()}
    space = parse_space("z+")
    z = np.random.default_rng(0).standard_normal((8, *space.detail.shape(tiny))).astype(np.float32)
    codes = {"z": np.asarray(space.retract({"z": z})["z"])}
    direction = Direction(name="light", space="z", vector=np.ones(tiny.z_dim, np.float32))
    found = measure_edits(
        tiny, space, codes, [direction], (0.0, 2.0), Judges(attributes=classifier, real=real),
        toggle=True, shown=8, batch_size=4, devices=jax.local_devices()[:1],
    )  # fmt: skip
    assert found.arrays["features"].shape[:3] == (1, 2, 8) == found.arrays["asked"].shape
    seen = real.features(to_uint8(np.zeros((1, 16, 16, 3)))).shape[1]
    assert found.arrays["features"].shape[3] == seen
    np.testing.assert_allclose(
        found.arrays["features"][0, 1], real.features(found.pictures[0, 1]), rtol=1e-4, atol=1e-3
    )
    measured = distances(found.arrays, real, ["light"])["kid"]
    for side in (1, -1):
        these = found.arrays["asked"][0, 1] == side
        if these.sum() >= 3:
            expected = kid(real.features(found.pictures[0, 1, these]), real.sets["light", side]).value
            assert measured[0, 1, these].mean() == pytest.approx(expected, rel=1e-3)
    assert np.isfinite(measured).any()


def test_a_part_of_the_images_is_taken_and_unreadable_ones_are_passed_over(tiny, classifier):
    images = tiny_images(9)
    whole = source_of(images)

    def read(index):
        if index == 4:
            raise ImageError("cut off", "4")
        return whole.read(index)

    broken = replace(whole, read=read)
    assert real_images(tiny, broken, classifier, None, 0).record["images"] == 8
    assert real_images(tiny, broken, classifier, None, 5).record["images"] == 4  # 0, 2, 4, 6, 8
    with pytest.raises(LsapError, match="real: 2 images can be read"):
        real_images(tiny, whole.select(range(2)), classifier, None, 0)


def test_without_a_classifier_real_images_are_left_out_with_a_line(tiny):
    told = []
    config = load_config("edit_quality", {"attributes": "none"})
    judges, described = choose_judges(tiny, config, told.append, SimpleNamespace())
    assert judges.real is None and "real" not in described
    assert told == ["real images are left out: no classifier says which of them have an attribute"]
