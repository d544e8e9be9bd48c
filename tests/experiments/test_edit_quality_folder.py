"""The folder of the editing protocol: what is kept and what is measured anew, what is refused, what the page says."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from small_runs import write_run

from lsap_jax.editing.direction import Direction
from lsap_jax.errors import LsapError
from lsap_jax.experiments.edit_quality import protocol
from lsap_jax.experiments.edit_quality.curves import AtSuccess
from lsap_jax.experiments.edit_quality.folder import read_measures, writing
from lsap_jax.experiments.edit_quality.judges import choose_judges
from lsap_jax.experiments.edit_quality.protocol import Run, common_ids, measure_runs, open_runs, variants_of
from lsap_jax.experiments.edit_quality.quality import Judges, Measured
from lsap_jax.experiments.edit_quality.tables import Difference, read_all, summary_text, verdict
from lsap_jax.models.embedder import ARCFACE
from lsap_jax.rendering.refinement import Refinement
from lsap_jax.rendering.transforms import ScaleShift
from lsap_jax.report.quality.write import body
from lsap_jax.storage.atomic import InUse, sha256
from lsap_jax.storage.checked_json import sealed, unsealed
from lsap_jax.testing import tiny_generator

pytestmark = pytest.mark.usefixtures("quick_compilation")
IDS = tuple("012345")
BINARY = {"light": {"label": "light", "positive": ["yes"], "negative": ["no"]}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of the same six pictures, in z+."""
    folder, G = tmp_path_factory.mktemp("runs"), tiny_generator()
    G.save(folder / "g.safetensors")
    for name in "ab":
        write_run(folder / name, G, folder / "g.safetensors", "z+", IDS, np.zeros((6, 16, 16, 3), np.uint8))
    return open_runs([(name, folder / name) for name in "ab"], lambda *_: G)


class Measuring:
    """Stands for `measure_edits`: made-up values, and what was asked for."""

    def __init__(self, stop=None):
        self.calls, self.stop, self.refinements = [], stop, []

    def __call__(self, G, space, codes, directions, strengths, judges, *, refinements, shown, tell, **_):
        if len(self.calls) == self.stop:
            raise KeyboardInterrupt
        count = len(codes["z"])
        self.calls.append(count)
        self.refinements += refinements
        rising = np.linspace(0, 1, len(strengths))[:, None] >= np.linspace(0.2, 1, count)
        arrays = {
            "success": np.stack([rising.astype(float) if d.name == "light" else rising * np.nan for d in directions])
        }
        arrays["logit"] = np.broadcast_to(codes["z"].mean(axis=(1, 2)), arrays["success"].shape).copy()
        tell(1, 1)
        pictures = np.zeros((len(directions), len(strengths), min(shown, count), 4, 4, 3), np.uint8)
        return Measured(arrays=arrays, pictures=pictures)


@pytest.fixture
def measuring(monkeypatch):
    found = Measuring()
    monkeypatch.setattr(protocol, "measure_edits", found)
    monkeypatch.setattr(protocol, "with_statistics", lambda G: G)
    monkeypatch.setattr(protocol, "genuine_logits", lambda G: np.zeros(3))
    return found


def direction(name="light"):
    return Direction(name=name, space="z", vector=np.ones(16, np.float32))


def measure(out, runs, names=("light", "other"), **changes):
    settings = {
        "strengths": [0.0, 1.0, 2.0], "toggle": True, "variants": ["fair"], "levels": [0.5], "candidate": "",
        "baseline": "", "batch_size": 4, "shown": 1, "lec_steps": -1, **changes,
    }  # fmt: skip
    judged = {"attributes": {"accuracy": {}, "binary": BINARY}}
    with writing(out):
        return measure_runs(
            out, runs, {run.name: [direction(n) for n in names] for run in runs}, Judges(), judged, settings
        )


def test_codes_are_read_a_batch_at_a_time(tmp_path, runs, measuring):
    told = []
    measure(tmp_path, runs[:1], shown=5)
    assert measuring.calls == [4, 2]
    (entry,) = read_all(tmp_path).entries
    codes = [protocol.read_code(runs[0].folder, id)["z"].mean() for id in IDS]
    np.testing.assert_allclose(entry.arrays["logit"][1, 2], codes, rtol=1e-6)
    assert entry.arrays["success"].shape == (2, 3, 6) and entry.arrays["pictures"].shape[:3] == (2, 3, 5)
    settings = {"strengths": [0.0], "batch_size": 4, "shown": 0, "toggle": True}
    protocol._measure(runs[0], IDS, [direction()], Judges(), "fair", settings, lambda *now: told.append(now))
    assert told == [(1, 6), (5, 6)], "edits done, of all batches"


def test_a_folder_that_was_measured_anew_in_part_is_not_shown(tmp_path, runs, measuring):
    measure(tmp_path, runs)
    assert len(read_all(tmp_path).entries) == 2
    measuring.calls, measuring.stop = [], 2  # both batches of the first run
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path, runs, strengths=[0.0, 10.0, 20.0])
    with pytest.raises(LsapError, match=r"a\.fair\.npz: was not measured as quality\.json says"):
        read_all(tmp_path)
    measuring.calls, measuring.stop = [], None
    measure(tmp_path, runs, strengths=[0.0, 10.0, 20.0])
    assert measuring.calls == [4, 2], "the first run is kept"
    assert read_all(tmp_path).strengths.tolist() == [0, 10, 20]


def test_one_process_at_a_time_has_the_folder(tmp_path, runs, measuring):
    with writing(tmp_path), pytest.raises(InUse):
        measure(tmp_path, runs)
    measure(tmp_path, runs)  # the lock is given back


def test_another_version_measures_anew_and_reads_no_older_folder(tmp_path, runs, measuring, monkeypatch):
    measure(tmp_path, runs[:1])
    monkeypatch.setattr(protocol, "FORMULAS", 2)
    measure(tmp_path, runs[:1])
    assert measuring.calls == [4, 2] * 2
    record, _ = unsealed((tmp_path / "quality.json").read_bytes())
    (tmp_path / "quality.json").write_bytes(sealed({**record, "format": "lsap_jax edit quality 1"}))
    with pytest.raises(LsapError, match="format is 'lsap_jax edit quality 1', this version reads"):
        read_all(tmp_path)


@pytest.mark.parametrize("left", [0.0, 0.5])
def test_measures_that_are_cut_off_are_measured_again(tmp_path, runs, measuring, left):
    (entry,) = measure(tmp_path, runs[:1])["entries"]
    file = tmp_path / entry["file"]
    whole = file.read_bytes()
    file.write_bytes(whole[: int(left * len(whole))])
    with pytest.raises(LsapError, match=r"a\.fair\.npz: cannot be read .*delete it and run the command again"):
        read_measures(tmp_path, entry)
    measure(tmp_path, runs[:1])
    assert file.read_bytes() == whole and measuring.calls == [4, 2] * 2


def test_an_archive_of_other_things_is_no_measure(tmp_path):
    np.savez(tmp_path / "m.npz", a=np.zeros(1))
    with pytest.raises(LsapError, match="holds no measures"):
        read_measures(tmp_path, {"file": "m.npz", "key": ""})


def test_what_refines_an_image_is_measured_with_it(tmp_path, measuring):
    G = tiny_generator()
    ones = np.ones((8, 8, 8), np.float32)
    own = Refinement(transforms={"b8.conv1": ScaleShift(scale=ones, shift=ones)})
    run = write_run(tmp_path / "a", G, tmp_path / "g", "z+", IDS, refinements=[own, None, None, None, None, own])
    measure(tmp_path / "out", open_runs([("a", run)], lambda *_: G))
    assert [one is not None for one in measuring.refinements] == [True, *[False] * 4, True]
    np.testing.assert_array_equal(measuring.refinements[5].transforms["b8.conv1"].shift, ones)


@pytest.mark.parametrize(
    ("with_targets", "key"),
    [
        (False, "fba18591e13aaa90952c31cd8fed5a01c7408e9993791bddd935dd4a3775a68b"),
        (True, "492d02c92dc8cb6d43bfe0d457a974c32b0a8938028b5ca4f069ba8044ca96ce"),
    ],
)
def test_measures_are_kept_of_the_same_refinements(with_targets, key):
    """The key of a run that is not refined is the one that earlier measures have."""

    def key_of(**refined):
        manifest = {id: {"sha256": {"codes": f"c{id}", "targets": f"t{id}"}} for id in "01"}
        manifest["1"]["sha256"] |= refined
        run = SimpleNamespace(record={"generator": {"sha256": "g"}, "config": {}}, manifest=manifest)
        settings = {"strengths": [1.0], "toggle": True}
        return protocol._key(["0", "1"], run, {"name": "a"}, {}, settings, with_targets)

    assert key_of() == key and len({key, key_of(refined="r"), key_of(refined="s")}) == 3


def test_pictures_and_genuine_samples_cost_no_measures(tmp_path, runs, measuring, monkeypatch):
    measure(tmp_path, runs[:1], shown=1)
    monkeypatch.setattr(protocol, "genuine_logits", lambda G: pytest.fail("they are kept"))
    measuring.calls = []
    assert measure(tmp_path, runs[:1], shown=0)["genuine"] == {"nscd": 0.0, "logit": 0.0, "logit_deviation": 0.0}
    assert measuring.calls == [] and "<img" not in body("q", read_all(tmp_path))
    before = read_all(tmp_path).entries[0].arrays["logit"]
    measure(tmp_path, runs[:1], shown=3)
    assert measuring.calls == [3], "of the images that are shown alone"
    entry = read_all(tmp_path).entries[0]
    assert entry.arrays["pictures"].shape[2] == 3
    np.testing.assert_array_equal(entry.arrays["logit"], before)
    measure(tmp_path, runs, shown=2)
    assert measuring.calls == [3, 4, 2] and body("q", read_all(tmp_path)).count("<h3>light, ") == 2


def test_names_that_are_not_told_apart_are_refused(tmp_path, runs, measuring):
    twice = [runs[0], replace(runs[1], name="A")]
    cases = [
        (runs, {"names": ("light", "other", "light")}, "two directions are called 'light'"),
        (twice, {}, r"two files of measures are called 'measures/a\.fair\.npz'"),
        (runs, {"variants": ["fair", "fair"]}, "two entries are called 'a'"),
    ]
    for given, changes, message in cases:
        with pytest.raises(LsapError, match=message):
            measure(tmp_path, given, **changes)
    assert not measuring.calls


def test_runs_of_other_pictures_are_refused(runs, tmp_path):
    one, other = (dict(run.manifest) for run in runs)
    assert common_ids(runs) == list(IDS)
    G, targets = runs[0].G, np.zeros((6, 16, 16, 3), np.uint8)
    targets[3] = 1
    folder = write_run(tmp_path / "c", G, tmp_path / "g", "z+", IDS, targets)
    (run,) = open_runs([("c", folder)], lambda *_: G)
    with pytest.raises(LsapError) as caught:
        common_ids([*runs, run])
    assert str(caught.value).startswith(f"{folder}: '3' is not the same picture as in {runs[0].folder}; ")
    from io import BytesIO

    from PIL import Image

    packed = BytesIO()  # the same pixels, as another version of the encoder may write them
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(packed, "PNG", compress_level=0)
    (folder / "targets" / "3.png").write_bytes(packed.getvalue())
    digests = {**run.manifest["3"]["sha256"], "targets": sha256(packed.getvalue())}
    manifest = {**run.manifest, "3": {**run.manifest["3"], "sha256": digests}}
    assert digests["targets"] != one["3"]["sha256"]["targets"] == other["3"]["sha256"]["targets"]
    assert common_ids([*runs, replace(run, manifest=manifest)]) == list(IDS)


@pytest.mark.parametrize(("space", "count"), [("w+", 2), ("w", 1), ("z", 1), ("s", 1)])
def test_only_the_rows_of_w_plus_have_a_published_variant(runs, space, count):
    config = {**runs[0].record["config"], "space": space, "retraction": "project"}
    run = Run(name="r", folder=runs[0].folder, G=runs[0].G, record={"config": config}, manifest={})
    assert variants_of(run, ["fair", "published"]) == ["fair", "published"][:count]


def at(mean, draws, images):
    return AtSuccess(mean, np.asarray(draws, float), np.full(1, np.nan), images)


def test_a_verdict_says_why_there_is_none():
    nothing = at(np.nan, [np.nan], 0)
    cases = [
        (Difference("50% success", "logit", nothing, []), "no direction reaches this level in both"),
        (Difference("50% success", "logit", nothing, [], ["d"]), "reached, but too few images to tell an interval"),
        (Difference("50% success", "logit", at(1.0, [1, 1], 1), ["d"]), "one image, so no interval"),
        (Difference("50% success", "identity", at(np.nan, [np.nan], 0), ["d"]), "identity is missing"),
    ]
    for one, reason in cases:
        assert verdict(one) == f"not comparable: {reason}"


def test_the_page_explains_its_marks_and_its_rule(tmp_path, runs, measuring):
    measure(tmp_path, runs)
    page = body("q", read_all(tmp_path))
    assert 'alt="light 2: succeeded"' in page and 'alt="light 0: did not succeed"' in page
    assert 'alt="other 2"' in page and "A frame is around edits that succeed" in page
    assert "No classifier knows other: there is no success, and strengths are plain steps." in page
    assert "strength (steps, of some to the other side)" in page and "strength (steps to the other side)" in page


def test_a_level_that_few_resamples_reach_is_told_as_such(tmp_path, runs, measuring):
    measure(tmp_path, runs, candidate="a", baseline="b", levels=[0.8])
    quality = read_all(tmp_path)
    for entry in quality.entries:
        entry.arrays["success"][0, 2, 5] = 0  # five of six, but less in every fourth resample
    few = "reached, but too few images to tell an interval"
    page, text = body("q", quality), summary_text(quality)
    assert page.count(f"0 of 2; 1 more {few}") == 2 and text.count(f"(1 more {few})") == 2
    assert f"not comparable: {few}" in page and "97.5 % of the resampled sets" in page


def test_arcface_takes_no_detector(runs, monkeypatch):
    from ml_collections import ConfigDict

    from lsap_jax.metrics import identity as module
    from lsap_jax.models import embedder

    record = embedder.EmbedderRecord(
        name=ARCFACE, trained_on="", weights="", source_sha256="", **embedder._FACTS[ARCFACE]
    )
    monkeypatch.setattr(module, "load_embedder", lambda _: embedder.Embedder(params={}, record=record))
    config = ConfigDict({"attributes": "none", "identity": "arcface.safetensors", "detect": True})
    told = []
    judges, described = choose_judges(runs[0].G, config, told.append)
    assert judges.identity.detector is None and described["detector"] is None
    assert "no face is looked for" in told[0]
