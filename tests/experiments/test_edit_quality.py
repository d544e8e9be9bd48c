"""The editing protocol: what is measured, intervals, crossings, the published comparison's asymmetries, the page."""

import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import write_run

from lsap_jax.cli import main
from lsap_jax.editing.direction import Direction
from lsap_jax.editing.direction_file import save_directions
from lsap_jax.errors import LsapError
from lsap_jax.experiments.edit_quality import curves
from lsap_jax.experiments.edit_quality.curves import at_success, crossing, intervals, resampled
from lsap_jax.experiments.edit_quality.folder import read_measures, read_quality
from lsap_jax.experiments.edit_quality.quality import Judges, as_published, genuine_logits, measure_edits
from lsap_jax.experiments.edit_quality.tables import Entry, Quality, differences, matched, summary_text, verdict
from lsap_jax.metrics import identity
from lsap_jax.models.attributes import (
    Attributes,
    BinaryAttribute,
    attribute_scores,
    label_probabilities,
)
from lsap_jax.models.attributes_file import save_attributes
from lsap_jax.models.embedder import Embedder
from lsap_jax.networks.attributes import AttributesConfig, initial_params
from lsap_jax.networks.stylegan2 import GeneratorConfig
from lsap_jax.pixels import to_uint8
from lsap_jax.rendering.refinement import Full, Refinement, stack
from lsap_jax.rendering.render import render
from lsap_jax.rendering.transforms import ScaleShift
from lsap_jax.report.quality.write import write_quality
from lsap_jax.runs.evaluation import evaluate, genuine_nscd
from lsap_jax.spaces import parse_space
from lsap_jax.spaces.feature import own_feature
from lsap_jax.storage.checked_json import sealed
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation", "quick_whitening")
STRENGTHS = (0.0, 2.0, 4.0)
# Of one size and on one device, so that the programs are compiled once for all tests but that of the command.
ALONE = {"batch_size": 4, "devices": jax.local_devices()[:1]}


@pytest.fixture(scope="module")
def classifier():
    """Untrained, with one attribute of two sides and a value on neither, and another label."""
    config = AttributesConfig(
        labels=(("light", ("no", "yes", "neither")), ("shape", ("a", "b", "c"))), resolution=16, widths=(4, 8)
    )
    return Attributes(
        config=config,
        params=initial_params(config, jax.random.key(42)),
        binary={"light": BinaryAttribute("light", ("yes",), ("no",))},
    )


def ones(G, space="z", name="light"):
    return Direction(name=name, space=space, vector=np.ones(G.z_dim, np.float32))


def directions(G):
    """The same two of z and of w."""
    w = replace(ones(G, "w"), mean=np.zeros(G.w_dim, np.float32))
    return [ones(G), w, ones(G, name="other"), ones(G, "w", "other")]


def codes_of(G, space, count, seed=0):
    rng = np.random.default_rng(seed)
    found = {space.detail.key: rng.standard_normal((count, *space.detail.shape(G))).astype(np.float32)}
    if space.has_base:
        shape = own_feature(G, space.base_resolution).shape[1:]
        found["f"] = rng.standard_normal((count, *shape)).astype(np.float32)
    return found


def on_side(classifier, images):
    """1 yes, -1 no, 0 neither."""
    return np.array([-1, 1, 0])[label_probabilities(classifier, images)["light"].argmax(axis=1)]


def test_measures_are_those_of_the_pictures(tiny, classifier):
    space = parse_space("z+")
    codes = {"z": np.asarray(space.retract(codes_of(tiny, space, 12))["z"])}
    found = measure_edits(
        tiny, space, codes, [ones(tiny), ones(tiny, name="nameless")], STRENGTHS, Judges(attributes=classifier),
        toggle=True, shown=2, **ALONE,
    )  # fmt: skip
    before = render(tiny, space, codes, 4)
    away = -on_side(classifier, before)
    assert {-1, 0, 1} <= set(away.tolist()), "the images of this seed are on both sides and on neither"
    moved = space.move(codes, ones(tiny).vector, 4 * away.astype(np.float32))
    after = render(tiny, space, {k: np.asarray(v) for k, v in moved.items()}, 4)
    arrays, counted = found.arrays, away != 0
    expected = np.where(counted, attribute_scores(classifier, after)["light"] * away, np.nan)
    np.testing.assert_allclose(arrays["score"][0, 2], expected, atol=0.05)  # rounding to grey levels
    np.testing.assert_array_equal(
        arrays["success"][0, 2], np.where(counted, on_side(classifier, after) == away, np.nan)
    )
    assert (arrays["success"][0, 0, counted] == 0).all() and (arrays["preserved"][1, 0] == 1).all()
    shapes = [label_probabilities(classifier, images)["shape"].argmax(axis=1) for images in (before, after)]
    np.testing.assert_array_equal(arrays["preserved"][0, 2, counted], (shapes[0] == shapes[1])[counted])
    for name, values in arrays.items():
        assert np.isnan(values[0][:, ~counted]).all() and np.isfinite(values[0][:, counted]).all(), name
    assert np.isnan(arrays["score"][1]).all() and np.isfinite(arrays["preserved"][1]).all()
    alone = tiny.discriminator.replace(config=replace(tiny.discriminator.config, mbstd_group_size=1))
    logits = np.asarray(alone(after))[:, 0]
    np.testing.assert_allclose(arrays["logit"][0, 2, counted], logits[counted], rtol=1e-3, atol=1e-4)
    assert found.pictures.shape == (2, 3, 2, 16, 16, 3)


def test_without_toggle_the_sign_of_a_strength_names_the_side(tiny, classifier):
    space = parse_space("z+")
    codes = {"z": np.asarray(space.retract(codes_of(tiny, space, 12))["z"])}
    judge = Judges(attributes=classifier)
    arrays = measure_edits(tiny, space, codes, [ones(tiny)], (-3.0, 0.0, 3.0), judge, **ALONE).arrays
    for place, side in ((0, -1), (2, 1)):
        moved = space.move(codes, ones(tiny).vector, np.full(12, 3.0 * side, np.float32))
        images = render(tiny, space, {k: np.asarray(v) for k, v in moved.items()}, 4)
        np.testing.assert_array_equal(arrays["success"][0, place], on_side(classifier, images) == side)
    assert np.isnan(arrays["success"][0, 1]).all() and np.isnan(arrays["score"][0, 1]).all()


def test_nscd_is_told_as_what_exceeds_genuine_samples(tiny):
    space = parse_space("f/w+", base_resolution=8)
    codes = codes_of(tiny, space, 4)
    vector = Direction(name="d", space="w", vector=np.ones(tiny.w_dim, np.float32))
    found = measure_edits(tiny, space, codes, [vector], (0.0,), Judges(), **ALONE).arrays["nscd"][0, 0]
    own = evaluate(tiny, space, codes, np.zeros((4, 16, 16, 3), np.float32), [], batch_size=4)["nscd"]
    np.testing.assert_allclose(found, own - genuine_nscd(tiny, space), atol=1e-5)


def test_a_logit_does_not_depend_on_the_neighbours(tiny):
    space = parse_space("w+")
    codes = codes_of(tiny, space, 5)
    plan = ([Direction(name="d", space="w", vector=np.ones(tiny.w_dim, np.float32))], (1.0,), Judges())
    together = measure_edits(tiny, space, codes, *plan, **ALONE).arrays
    for k in (0, 3):
        one = measure_edits(tiny, space, {"w": codes["w"][k : k + 1]}, *plan, **ALONE).arrays
        for name in ("logit", "nscd"):
            np.testing.assert_allclose(one[name][0, 0], together[name][0, 0, k : k + 1], rtol=1e-4)


def test_edits_of_refined_images_are_refined(tiny, classifier):
    """Each in its own way: as it is measured alone, and at strength 0 the refined image, for the classifier, too."""
    space = parse_space("w+")
    codes, last = codes_of(tiny, space, 3), tiny.config.layers[-1].name
    negative = ScaleShift(scale=np.full((16, 16, 3), -1, np.float32), shift=np.full((16, 16, 3), 0.5, np.float32))
    delta = np.random.default_rng(0).standard_normal((3, 3, 8, 8), np.float32)
    ways = [
        Refinement(transforms={last: negative}),
        None,
        Refinement(weights={"synthesis.b8.conv1.weight": Full(delta=delta)}),
    ]
    plan = ([ones(tiny, "w")], (0.0, 2.0), Judges(attributes=classifier))
    found = measure_edits(tiny, space, codes, *plan, refinements=ways, shown=3, **ALONE)
    plain = measure_edits(tiny, space, codes, *plan, shown=3, **ALONE)
    assert (found.arrays["preserved"][0, 0] == 1).all()
    for i, way in enumerate(ways):
        code = {"w": codes["w"][i : i + 1]}
        image = to_uint8(render(tiny, space, code, refinement=way and stack([way])))[0]
        assert np.abs(found.pictures[0, 0, i].astype(int) - image).max() <= 1
        one = measure_edits(tiny, space, code, *plan, refinements=[way], **ALONE).arrays
        for name in ("logit", "score", "nscd"):
            np.testing.assert_allclose(found.arrays[name][:, :, i], one[name][:, :, 0], rtol=1e-4, err_msg=name)
        same = [(found.pictures[:, s, i] == plain.pictures[:, s, i]).all() for s in (0, 1)]
        assert same == [way is None] * 2


def test_a_picture_that_is_not_finite_is_refused(tiny):
    space = parse_space("w+")
    plan = ([Direction(name="d", space="w", vector=np.ones(tiny.w_dim, np.float32))], (0.0, 3e38), Judges())
    with pytest.raises(LsapError, match=r"d by 3e\+38: the picture is not finite; give strengths nearer to 0"):
        measure_edits(tiny, space, codes_of(tiny, space, 2), *plan, **ALONE)


def test_the_published_asymmetries_are_those_of_w_plus_alone(tiny):
    for name in ("z+", "f/z+", "pn", "s", "w", "f/w"):
        assert as_published(tiny, parse_space(name)) == parse_space(name)
    space = parse_space("w+")
    assert as_published(tiny, space) == replace(space, truncation_psi=0.7, truncation_cutoff=3)  # of 6 rows
    codes = codes_of(tiny, space, 2)
    axis = np.eye(tiny.w_dim, dtype=np.float32)[0]
    direction = Direction(name="d", space="w", vector=axis, mean=np.zeros(tiny.w_dim, np.float32))
    fair, published = (
        measure_edits(tiny, space, codes, [direction], (0.0, 3.0), Judges(), published=flag, shown=2, **ALONE).pictures[
            0
        ]
        for flag in (False, True)
    )
    own = render(tiny, space, codes)
    np.testing.assert_allclose(fair[0].astype(int), to_uint8(own), atol=1)
    reached = codes["w"].copy()
    reached[..., 0] = 3.0  # every row arrives at the coordinate, its own is gone
    space = replace(space, truncation_psi=0.7, truncation_cutoff=3)
    truncated = measure_edits(tiny, space, {"w": reached}, [direction], (0.0,), Judges(), shown=2, **ALONE).pictures[0]
    np.testing.assert_allclose(published[1].astype(int), truncated[0], atol=1)
    assert np.abs(published[0].astype(int) - to_uint8(own)).max() > 1  # strength 0 is not the inversion


@pytest.mark.parametrize(("side", "base", "rows"), [(1024, 16, 8), (64, 8, 4), (64, 4, 4)])
def test_the_published_truncation_is_of_as_many_live_rows_as_at_1024_px(side, base, rows):
    """8 of 18, or 4 of the 14 behind a base code of 16 px; at 64 px 4 of 10, 2 of 8 behind 8 px, 3 of 9 behind 4."""
    config = GeneratorConfig(img_resolution=side, channels=(8,) * (side.bit_length() - 2))
    G = SimpleNamespace(config=config, num_ws=config.num_ws)
    assert as_published(G, parse_space("w+")).truncation_cutoff == {1024: 8, 64: 4}[side]
    f_space = replace(parse_space("f/w+"), base_resolution=base)
    assert as_published(G, f_space).truncation_cutoff == rows


def test_identities_are_those_of_the_targets(tiny, monkeypatch):
    def embeddings(embedder, detector, images, batch_size):
        vectors = np.zeros((len(images), 512), np.float32)
        vectors[:, 0] = 1
        vectors[-1] = np.nan  # the last image of a batch has no face
        return vectors, np.isfinite(vectors[:, 0])

    monkeypatch.setattr(identity, "face_embeddings", embeddings)
    space = parse_space("z+")
    codes = {"z": np.asarray(space.retract(codes_of(tiny, space, 4))["z"])}
    judge = Judges(identity=identity.IdentityMeter(embedder=Embedder.__new__(Embedder)))
    faces = np.zeros((4, 512), np.float32)
    faces[:, :2] = [[np.nan, np.nan], [0.6, 0.8], [1, 0], [1, 0]]  # the first target has none
    found = measure_edits(tiny, space, codes, [ones(tiny)], (0.0, 1.0), judge, faces=faces, **ALONE).arrays
    np.testing.assert_allclose(found["identity"][0], [[np.nan, 0.6, 1, np.nan]] * 2, rtol=1e-6)
    np.testing.assert_array_equal(found["face"][0], [[np.nan, 1, 1, 0]] * 2)
    with pytest.raises(LsapError, match="give their embeddings, too"):
        measure_edits(tiny, space, codes, [ones(tiny)], (0.0,), judge)
    with pytest.raises(LsapError, match="nothing to measure"):
        measure_edits(tiny, space, codes, [], (0.0,), Judges())


def test_genuine_logits_need_a_discriminator(tiny):
    assert genuine_logits(tiny, 3).shape == (3,)
    with pytest.raises(LsapError, match="without its discriminator"):
        genuine_logits(tiny.without("discriminator"))


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.floats(0.05, 0.95))
def test_a_crossing_is_where_the_curve_first_has_the_level(values, level):
    curve = np.linspace(0, 1, len(values))[None]
    strength, value = crossing(curve, np.asarray([values]), np.arange(len(values), dtype=float), level)
    np.testing.assert_allclose(strength, level * (len(values) - 1), atol=1e-9)
    np.testing.assert_allclose(value, np.interp(strength, np.arange(len(values)), values), atol=1e-9)


def test_a_crossing_that_never_comes_and_one_at_the_start():
    strengths = np.array([0.0, 1.0])
    strength, value = crossing(np.array([[0.1, 0.2], [0.9, 1.0]]), np.array([[1.0, 2.0]] * 2), strengths, 0.5)
    assert np.isnan(strength[0]) and np.isnan(value[0])
    assert (strength[1], value[1]) == (0, 1)


def test_means_leave_what_is_missing_out():
    values = np.array([[[1.0, 2.0, np.nan], [5.0, np.nan, np.nan]], [[3.0, np.nan, np.nan], [np.nan] * 3]])
    found = resampled(values, 500)
    assert found.mean.tolist() == [2.0, 5.0] and found.counts.tolist() == [3, 1] and found.images == 2
    first, second = intervals(found)
    assert first.low <= 2 <= first.high and (first.n, second.n) == (3, 1)
    assert np.isnan(resampled(np.full((1, 1, 2), np.nan)).mean).all()
    (alone,) = intervals(resampled(np.array([[[1.0]], [[3.0]]])))
    assert alone.mean == 2 and np.isnan(alone.low), "one image has no interval, however many directions it has"


def test_resamples_of_a_number_of_images_are_drawn_once():
    resampled(np.ones((1, 1, 7)), 30, seed=3)
    drawn = curves._weights.cache_info().misses
    found = resampled(np.arange(7.0)[None, None], 30, seed=3)
    assert curves._weights.cache_info().misses == drawn
    weights = np.random.default_rng(3).multinomial(7, np.full(7, 1 / 7), size=30)
    np.testing.assert_array_equal(found.draws[:, 0], weights @ np.arange(7.0) / 7)


def test_intervals_cover_the_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for k in range(100):
        (i,) = intervals(resampled(rng.normal(1, 2, (1, 1, 40)), 400, seed=k))
        hits += i.low <= 1 <= i.high
    assert 86 <= hits <= 100


def made_entry(name, success, logit, prior=False):
    """An entry of arrays [D, S, N]."""
    arrays = {"success": success, "logit": logit, "pictures": np.zeros(0)}
    directions = [{"direction": f"d{k}"} for k in range(len(success))]
    record = {"name": name, "space": "w+", "prior": prior, "directions": directions}
    return Entry(record=record, arrays=arrays, means={n: resampled(arrays[n]) for n in ("success", "logit")})


def made_quality(*entries):
    config = {"strengths": [0.0, 1.0], "toggle": True, "levels": [0.5], "candidate": "a", "baseline": "b"}
    return Quality(record={"config": config}, entries=entries)


def test_runs_are_compared_direction_by_direction_and_paired():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(3, 1, 60)) * 3  # images differ a lot, the two runs by little
    rises = np.concatenate([np.zeros((3, 1, 60)), np.ones((3, 1, 60))], axis=1)
    never = rises * np.array([1, 1, 0])[:, None, None]  # the third direction of b never succeeds
    a = made_entry("a", rises, np.concatenate([common, common + 1.0], axis=1))
    b = made_entry("b", never, np.concatenate([common, common + 0.5], axis=1), prior=True)
    quality = made_quality(a, b)
    found = matched(quality, [a, b], 0.5)
    assert found.directions == ["d0", "d1"] and found.reached == {"a": 3, "b": 2}
    assert found.strength["a"].mean == pytest.approx(0.5)
    assert found.measures["a"]["logit"].mean == pytest.approx(common[:2].mean() + 0.5)
    one, strongest = differences(quality)
    assert (one.where, strongest.where, strongest.directions) == ("50% success", "strength 1", ["d0", "d1", "d2"])
    np.testing.assert_allclose(strongest.found.interval.mean, 0.5)
    i = one.found.interval
    np.testing.assert_allclose([i.mean, i.low, i.high], 0.25, atol=1e-9)
    assert verdict(one) == "better" and verdict(one._replace(measure="nscd")) == "worse"
    assert b.label == "b (w+ P_N)"
    wide = one._replace(found=one.found._replace(draws=rng.normal(size=2000)))
    assert "no difference" in verdict(wide)
    hopeless = made_quality(a, made_entry("b", rises * 0, rises))
    assert verdict(differences(hopeless)[0]) == "not comparable: no direction reaches this level in both"
    assert "no direction that all reach" in summary_text(hopeless)


def test_a_level_that_few_resamples_reach_is_not_reached():
    success = np.zeros((1, 2, 40))
    success[0, 1, :20] = 1  # half of the images: half of the resamples have less
    found = at_success(resampled(success), resampled(success), np.array([0.0, 1.0]), 0.5)
    assert np.isfinite(found.mean) and not found.reached


@pytest.fixture(scope="module")
def work(tmp_path_factory, classifier):
    """A folder with a comparison of z+ and w+, directions and a classifier."""
    folder = tmp_path_factory.mktemp("work")
    G = tiny_generator()
    G.save(folder / "g.safetensors")
    presets, targets = {"z+": "zplus", "w+": "wplus"}, np.zeros((3, 16, 16, 3), np.uint8)
    for space, name in presets.items():
        write_run(folder / "runs" / name, G, folder / "g.safetensors", space, ("0", "1", "2"), targets)
    record = {"format": "lsap_jax comparison 2", "presets": [{"preset": p, "folder": f} for p, f in presets.items()]}
    (folder / "runs" / "comparison.json").write_bytes(sealed(record))
    (folder / "images").mkdir()
    (folder / "images" / "0.png").write_bytes(b"")
    save_directions(folder / "d.safetensors", directions(G))
    save_attributes(folder / "attributes.safetensors", classifier)
    return folder


def command(*argv):
    return main([str(a) for a in argv])


def options(work, **changes):
    given = {
        "directions": str(work / "d.safetensors"),
        "attributes": work / "attributes.safetensors",
        "strengths": "0,2,4",
        "levels": "0.5",
        "batch_size": 4,
    }
    return [f"--config.{k}={v}" for k, v in {**given, **changes}.items()]


@pytest.mark.slow
def test_the_command_measures_a_comparison_and_goes_on(work, capsys, monkeypatch):
    out = work / "quality"
    both = {"candidate": "z+", "baseline": "w+"}
    assert command("edit-quality", work / "runs", "--out", out, *options(work, **both)) == 0
    printed, told = capsys.readouterr()
    assert "no classifier knows other: there is no success, and strengths are plain steps\n" in told
    assert "at 50% success, over" in printed and "z+ - w+ at 50% success, " in printed
    record = read_quality(out)
    assert [e["name"] for e in record["entries"]] == ["z+", "w+"] and record["ids"] == ["0", "1", "2"]
    assert read_measures(out, record["entries"][0])["success"].shape == (2, 3, 3)
    rows = list(csv.DictReader(io.StringIO((out / "curves.csv").read_text())))
    assert {row["direction"] for row in rows} == {"all", "light", "other"}
    page = (out / "report.html").read_text()
    assert page.count('<table class="strengths">') == 4 and "https:" not in page
    kept = {p: p.stat().st_mtime_ns for p in (out / "measures").iterdir()}
    # again, with the asymmetries: what is measured stays, z spaces have none
    assert command("edit-quality", work / "runs", "--out", out, *options(work, variants="fair,published")) == 0
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert [e["name"] for e in read_quality(out)["entries"]] == ["z+", "w+", "w+ published"]
    assert not (out / "differences.csv").exists()
    # a direction of the same vector that moves codes otherwise is another one
    save_directions(work / "d.safetensors", [replace(one, scale=2.0) for one in directions(tiny_generator())])
    assert command("edit-quality", work / "runs", "--out", out, *options(work)) == 0
    assert {p: p.stat().st_mtime_ns for p in kept} != kept
    # other strengths are measured anew
    assert command("edit-quality", work / "runs", "--out", out, *options(work, strengths="-1,1", toggle="false")) == 0
    assert read_measures(out, read_quality(out)["entries"][0])["success"].shape == (2, 2, 3)
    assert "means over all edits" in capsys.readouterr().out
    assert not (out / "matched.csv").exists()


def test_what_cannot_be_measured_is_refused(work, capsys, tmp_path):
    run = work / "runs" / "zplus"
    cases = [
        ((), {"variants": "unfair"}, "'unfair' is not one of fair, published"),
        ((), {"variants": "fair,fair"}, "name each once"),
        ((), {"batch_size": 0}, "--config.batch_size=0: must be 1 or more"),
        ((), {"shown": -1}, "--config.shown=-1: must be 0 or more"),
        ((), {"strengths": "0,1e39"}, "give finite numbers"),
        ((), {"levels": "1.5"}, "between 0 and 1"),
        ((), {"candidate": "z+"}, "belong together"),
        ((), {"candidate": "zplus", "baseline": "w+"}, "baseline 'w+': is not among what is measured: zplus"),
        ((), {"variants": "published"}, "only w+ and f/w+ have these"),
        ((), {"strengths": "2,1"}, "the smallest first"),
        ((), {"strengths": "-1,1"}, "with toggle, strengths must be 0 or more"),
        ((), {"directions": "nonsense"}, "nonsense"),
        ((), {"attributes": work / "g.safetensors"}, "not an attribute classifier"),
        ((), {"attributes": ""}, "give its own classifier with --attributes"),
        ((work / "images",), {}, "not a run folder"),
        ((run,), {}, "two runs are called"),
    ]
    for more, changes, message in cases:
        assert command("edit-quality", run, *more, "--out", tmp_path / "out", *options(work, **changes)) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert message in line, line
    assert command("edit-quality", run, "--out", work / "images", *options(work)) == 2
    assert "choose another folder" in capsys.readouterr().err


def test_a_damaged_folder_is_refused(work, tmp_path):
    for text, message in (("{", "is damaged"), ('{"format": "x"}', "format is 'x', this version reads")):
        (tmp_path / "quality.json").write_text(text)
        with pytest.raises(LsapError, match=message):
            write_quality(tmp_path)
    with pytest.raises(LsapError, match="has no quality.json"):
        read_quality(tmp_path / "nowhere")
    (tmp_path / "m.npz").write_bytes(b"no archive")
    with pytest.raises(LsapError, match="delete it and run"):
        read_measures(tmp_path, json.loads('{"file": "m.npz"}'))
