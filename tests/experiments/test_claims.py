"""`lsap-jax compare` with edits and a claim: one command, one table, and a verdict by a stated rule."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
from PIL import Image

from lsap_jax.cli import main
from lsap_jax.configuration import load_config
from lsap_jax.editing.direction import Direction
from lsap_jax.editing.direction_file import save_directions
from lsap_jax.errors import LsapError
from lsap_jax.experiments.claims.columns import Methods, table
from lsap_jax.experiments.claims.files import markdown
from lsap_jax.experiments.claims.seeds import apart
from lsap_jax.experiments.claims.settings import check_claim, edits_config
from lsap_jax.experiments.claims.verdict import EDITABILITY, FIDELITY, PERCEPTION, judge
from lsap_jax.experiments.comparison import runs
from lsap_jax.experiments.comparison.plan import make_plans
from lsap_jax.experiments.edit_quality.curves import resampled
from lsap_jax.experiments.edit_quality.tables import Entry, Quality
from lsap_jax.metrics.significance import Interval, bootstrap_interval
from lsap_jax.models.attributes import Attributes, BinaryAttribute
from lsap_jax.models.attributes_file import save_attributes
from lsap_jax.models.network_file import save
from lsap_jax.networks.attributes import AttributesConfig, initial_params
from lsap_jax.report.claims.weights import weights_chart
from lsap_jax.storage.results import read_run
from lsap_jax.testing import colour_encoder, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation", "quick_whitening", "colour_rows")
ENCODERS = ("a_0",)  # the least, as every run takes its time


def lines(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def classifier() -> Attributes:
    labels = (("light", ("no", "yes")), ("shape", ("a", "b", "c")))
    config = AttributesConfig(labels=labels, resolution=16, widths=(4, 8))
    binary = {"light": BinaryAttribute("light", ("yes",), ("no",))}
    return Attributes(config=config, params=initial_params(config, jax.random.key(42)), binary=binary)


@pytest.fixture(scope="module")
def work(colour_rows, tmp_path_factory) -> Path:
    """A generator, an encoder, images, a direction and a classifier."""
    folder = tmp_path_factory.mktemp("work")
    G = tiny_generator()
    G.save(folder / "g.safetensors")
    (folder / "encoders").mkdir()
    for seed, name in enumerate(ENCODERS):
        save(folder / "encoders" / f"{name}.safetensors", colour_encoder(G, seed), {})
    (folder / "images").mkdir()
    for i, image in enumerate(tiny_images(5)):
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
    ones = np.ones(16, np.float32)
    save_directions(folder / "d.safetensors", [Direction(name="light", space=s, vector=ones) for s in "wz"])
    save_attributes(folder / "attributes.safetensors", classifier())
    return folder


def command(work: Path, out: Path, *more: str) -> int:
    edits = [
        ("directions", (str(work / "d.safetensors"),)), ("attributes", str(work / "attributes.safetensors")),
        ("strengths", (0.0, 2.0)), ("levels", (0.5,)), ("batch_size", 4),
    ]  # fmt: skip
    words = ["compare", work / "images", "--config=lsap_claims", "--generator", work / "g.safetensors", "--count=4"]
    words += [f"--config.encoders={work / 'encoders'}", f"--config.edit_overrides={edits!r}", "--batch_size=2"]
    words += ["--presets=" + ",".join(f"e4e@{name}.safetensors" for name in ENCODERS) + ",w"]
    words += ["--config.most_steps=2", "--config.claim.candidate=a_0", "--config.claim.baseline=w"]
    words += ["--config.claim.strength=2.0", "--config.claim.weights=(0.1, 'a_0')"]
    words += ["--config.test.candidate=a_0", "--config.test.baseline=w", *more, "--out", out]
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def done(quick_compilation, quick_whitening, work) -> Path:
    assert command(work, work / "out") == 0
    return work / "out"


@pytest.mark.slow
def test_one_command_makes_one_table(done):
    found = {row["method"]: row for row in lines(done / "methods.csv")}
    assert list(found) == [*ENCODERS, "w"]
    own = {row["preset"]: row for row in lines(done / "comparison.csv")}
    for name, row in found.items():
        of_run = own[name]
        assert (row["MSE"], row["MSE low"]) == (of_run["mse_mean"], of_run["mse_low"])
        assert (row["logit"], row["KID"]) == (of_run["logit_mean"], of_run["kid"])
        assert row["NSCD of samples"] == of_run["nscd_genuine"] != ""
        assert float(row["KID high"]) - float(row["KID"]) == pytest.approx(1.96 * float(of_run["kid_stderr"]))
        assert row["KID note"] == of_run["kid_note"] == "KID of 4 images means nothing; it takes 100 or more"
        assert row["preserved"] and row["logit of edits"]
        assert bool(row["LEC"]) == (name != "w"), "an optimisation is not repeated for each edit"
    curves = lines(done / "edits" / "curves.csv")
    (same,) = [
        row["mean"]
        for row in curves
        if (row["entry"], row["direction"], row["strength"], row["measure"]) == ("a_0", "all", "2", "preserved")
    ]
    assert same == found["a_0"]["preserved"]
    assert {read_run(done / name)["encoder"]["name"] for name in ENCODERS} == {
        str(done.parent / "encoders" / f"{name}.safetensors") for name in ENCODERS
    }
    assert read_run(done / "a_0")["steps"] == 0 and read_run(done / "w")["steps"] == 2
    assert float(own["a_0"]["seconds_per_image_compiled"]) > 0
    text = (done / "methods.md").read_text()
    assert "| `a_0` |" in text and "confirmed**" in text
    assert text.count("KID: KID of 4 images means nothing") == 1
    assert ElementTree.fromstring((done / "weights.svg").read_text()).tag.endswith("svg")
    assert {row["part"] for row in lines(done / "claim.csv")} >= {FIDELITY, PERCEPTION}


@pytest.mark.slow
def test_what_is_done_is_not_computed_again(work, done, monkeypatch, capsys):
    files = ("methods.csv", "claim.csv", "methods.md", "weights.svg", "edits/curves.csv", "tests.csv")
    before = {name: (done / name).read_bytes() for name in files}
    measures = {path: path.stat().st_mtime_ns for path in (done / "edits" / "measures").iterdir()}
    monkeypatch.setattr(runs, "run", None)
    monkeypatch.setattr(runs, "evaluate_run", None)
    assert command(work, done) == 0
    assert {name: (done / name).read_bytes() for name in files} == before
    assert {path: path.stat().st_mtime_ns for path in measures} == measures
    assert capsys.readouterr().out.count("finished earlier") == 2


@pytest.mark.slow
def test_the_table_comes_without_a_verdict_too(work, done, tmp_path):
    out = Path(shutil.copytree(done, tmp_path / "out"))
    nothing = [f"--config.claim.{key}=()" for key in ("candidate", "baseline", "weights")]
    assert command(work, out, *nothing) == 0
    assert "confirmed" not in (out / "methods.md").read_text()
    assert (out / "methods.csv").read_bytes() == (done / "methods.csv").read_bytes()
    assert not (out / "claim.csv").exists() and not (out / "weights.svg").exists()


@pytest.mark.slow
def test_a_comparison_is_reported_before_its_candidate_has_begun(done, tmp_path):
    out = Path(shutil.copytree(done, tmp_path / "out"))
    shutil.rmtree(out / "a_0")
    assert main(["report", str(out)]) == 0
    text = (out / "methods.md").read_text()
    assert "is not judged: a_0 is not among the methods" in text and "`w`" in text
    assert not (out / "claim.csv").exists() and not (out / "weights.svg").exists()


@pytest.mark.slow
def test_another_encoder_under_the_same_name_is_refused(work, done, capsys):
    path = work / "encoders" / "a_0.safetensors"
    kept = path.read_bytes()
    try:
        save(path, colour_encoder(tiny_generator(), 9), {})
        assert command(work, done) == 2 and "encoder" in capsys.readouterr().err
    finally:
        path.write_bytes(kept)


def test_unusable_settings_are_one_line(work, tmp_path, capsys):
    def fails(*more: str) -> str:
        assert command(work, tmp_path / "new", *more) == 2
        *_, error = capsys.readouterr().err.splitlines()
        assert not (tmp_path / "new").exists()
        return error

    assert "no such file" in fails("--presets=e4e@nothing.safetensors", "--config.claim.candidate=nothing",
        "--config.claim.baseline=nothing", "--config.claim.weights=()")  # fmt: skip
    assert "name the file of an encoder after the @" in fails("--presets=e4e@")
    assert "claim: 'c' is not among the presets" in fails("--config.claim.candidate=c")
    assert "claim: candidate and baseline belong together" in fails("--config.claim.candidate=()")
    assert "claim.margin=0.0: must be between 0 and 1" in fails("--config.claim.margin=0")
    assert "claim.strength=5: is not among the strengths" in fails("--config.claim.strength=5")
    assert "belongs to another command, as it has no 'toggle'" in fails("--config.edits=w")
    assert "count=-1" in fails("--count=-1")


# ---- the rule, on made-up numbers ------------------------------------------------------------------------------------


def compared(name: str, metrics: dict[str, np.ndarray]):
    ids = [str(i) for i in range(len(metrics["mse"]))]
    own = {id: {metric: float(values[i]) for metric, values in metrics.items()} for i, id in enumerate(ids)}
    return SimpleNamespace(preset=name, metrics=own, sets={}, times=None, manifest=own, folder=name, first="")


def edited(name: str, preserved: np.ndarray) -> Entry:
    """One direction whose edits all succeed at strength 1; preserved [N] there."""
    rises = np.stack([np.zeros(len(preserved)), np.ones(len(preserved))])[None]
    arrays = {"success": rises, "preserved": np.stack([np.ones(len(preserved)), preserved])[None]}
    record = {"name": name, "space": "w+", "prior": False, "directions": [{"direction": "d"}]}
    return Entry(record=record, arrays=arrays, means={key: resampled(values) for key, values in arrays.items()})


def made(shifts: dict[str, float], seeds: int = 3, spread: float = 0.0) -> tuple[Methods, dict]:
    """Methods a (candidate) and b whose numbers differ by shifts, with noise that images share."""
    rng = np.random.default_rng(0)
    base = {"mse": rng.lognormal(size=60), "d": rng.lognormal(size=60), "logit": rng.normal(size=60)}
    preserved = rng.uniform(0.4, 0.6, 60)
    entries, edits = [], []
    for group, on in (("a", 1.0), ("b", 0.0)):
        for seed in range(seeds):
            noise = {key: rng.normal(size=60) * 0.01 + spread * (seed - 1) for key in base}
            metrics = {key: base[key] + on * shifts.get(key, 0.0) + noise[key] for key in base}
            entries.append(compared(f"{group}_{seed}", metrics))
            edits.append(edited(f"{group}_{seed}", preserved + on * shifts.get("preserved", 0.0) + noise["mse"]))
    config = {"strengths": [0.0, 1.0], "toggle": True, "levels": [0.5], "candidate": "", "baseline": ""}
    quality = Quality(record={"config": config, "genuine": {"logit": -1.5}}, entries=edits)
    common = tuple(entries[0].metrics)
    intervals = {
        (e.preset, m): bootstrap_interval(np.array([row[m] for row in e.metrics.values()]), resamples=50)
        for e in entries
        for m in base
    }
    comparison = SimpleNamespace(entries=entries, common=common, distance="d", intervals=intervals)
    settings = {
        "statement": "s", "margin": 0.05, "level": 0.05,
        "candidate": tuple(f"a_{k}" for k in range(seeds)), "baseline": tuple(f"b_{k}" for k in range(seeds)),
    }  # fmt: skip
    names = [entry.preset for entry in entries]
    return Methods(comparison=comparison, quality=quality, presets=names, strength=1.0, success=0.5), settings


def test_the_claim_holds_where_all_parts_do():
    methods, settings = made({"logit": 0.5, "preserved": 0.2})
    found = judge(methods, settings)
    assert found.confirmed and found.parts == {FIDELITY: True, PERCEPTION: True, EDITABILITY: True}
    assert [one.measure for one in found.findings] == ["mse", "d", "logit", "preserved"]
    logit, preserved = found.findings[2:]
    assert logit.difference.mean == pytest.approx(0.5, abs=0.02) and logit.apart and max(logit.p) < 1e-6
    assert preserved.difference.mean == pytest.approx(0.1, abs=0.02), "half of the way to strength 1"
    assert 0 < preserved.difference.low < preserved.difference.high
    text = markdown(methods, [found], settings)
    assert "own samples have a mean logit of -1.5." in text
    assert replace(found, findings=[]).unmeasured == tuple(found.parts) and not found.unmeasured
    assert '"s" is **confirmed**' in text and "| candidate: mean (least–greatest) of 3 seeds |" in text


@pytest.mark.parametrize(
    ("shifts", "failing"),
    [
        ({"mse": 0.5, "logit": 0.5, "preserved": 0.2}, {FIDELITY}),
        ({"d": 0.5, "logit": 0.5, "preserved": 0.2}, {FIDELITY}),
        ({"logit": -0.5, "preserved": 0.2}, {PERCEPTION}),
        ({"logit": 0.5, "preserved": -0.2}, {EDITABILITY}),
        ({}, {PERCEPTION, EDITABILITY}),
    ],
)
def test_a_part_that_fails_is_named(shifts, failing):
    found = judge(*made(shifts))
    assert not found.confirmed and {part for part, holds in found.parts.items() if not holds} == failing


def test_better_images_do_not_do_where_seeds_overlap():
    """The images show a difference that is smaller than that between two trainings of the same kind."""
    methods, settings = made({"logit": 0.5, "preserved": 0.2}, spread=0.6)
    found = judge(methods, settings)
    logit = next(one for one in found.findings if one.measure == "logit")
    assert max(logit.p) < 0.05 and logit.apart is False and not logit.holds and not found.parts[PERCEPTION]
    single = judge(*made({"logit": 0.5, "preserved": 0.2}, seeds=1))
    assert single.confirmed and {one.apart for one in single.findings} == {None}
    assert (
        apart([1, 2], [3, 4], higher_is_better=False) is True and apart([1, 3], [3, 4], higher_is_better=False) is False
    )


def test_a_claim_is_about_the_parts_and_measures_that_it_names():
    methods, settings = made({"mse": 0.5, "logit": 0.5, "preserved": 0.2})
    rng = np.random.default_rng(5)
    for entry in methods.quality.entries:  # of the candidate less comes back
        cycle = rng.uniform(0.1, 0.2, 60) + (0.1 if entry.name.startswith("a") else 0.0)
        entry.arrays["cycle"] = np.broadcast_to(cycle, (1, 2, 60)).copy()
        entry.means["cycle"] = resampled(entry.arrays["cycle"])
    found = judge(methods, {**settings, "parts": (EDITABILITY,)})
    assert found.parts == {EDITABILITY: False} and {one.part for one in found.findings} == {EDITABILITY}
    assert {one.measure: one.outcome for one in found.findings} == {"preserved": "better", "cycle": "worse"}
    found = judge(methods, {**settings, "parts": (PERCEPTION, EDITABILITY), "measures": ("preserved",)})
    assert found.confirmed and list(found.parts) == [PERCEPTION, EDITABILITY]
    assert [one.measure for one in found.findings] == ["logit", "preserved"]
    assert table(methods)["a_0"]["cycle at equal success"].mean == pytest.approx(0.25, abs=0.02)


def test_a_method_whose_edits_never_succeed_leaves_the_others_comparable():
    methods, _ = made({"preserved": 0.2})
    *others, last = methods.quality.entries
    never = np.zeros_like(last.arrays["success"])
    arrays = {**last.arrays, "success": never}
    means = {**last.means, "success": resampled(never)}
    quality = Quality(
        record=methods.quality.record, entries=[*others, Entry(record=last.record, arrays=arrays, means=means)]
    )
    found = Methods(comparison=methods.comparison, quality=quality, presets=methods.presets, strength=None, success=0.5)
    rows, head = table(found), "preserved at equal success"
    assert rows[last.name]["directions"].mean == 0 and head not in rows[last.name]
    assert rows["a_0"][head] == table(methods)["a_0"][head] and found.matched.directions == ["d"]


def test_without_edits_or_success_the_rest_is_told():
    methods, settings = made({"logit": 0.5})
    bare = Methods(comparison=methods.comparison, quality=None, presets=methods.presets, strength=1.0, success=0.5)
    assert judge(bare, settings).parts == {FIDELITY: True, PERCEPTION: True, EDITABILITY: False}
    assert set(table(bare)["a_0"]) == {"MSE", "perceptual distance", "logit"}
    methods, settings = made({"preserved": 0.2})
    methods.quality.record["config"]["toggle"] = False  # no level of success: at the strength
    (preserved,) = [one for one in judge(methods, settings).findings if one.part == EDITABILITY]
    assert preserved.difference.mean == pytest.approx(0.2, abs=0.02) and preserved.outcome == "better"
    with pytest.raises(LsapError, match=r"claim\.strength=2: is not among the strengths"):
        table(Methods(comparison=methods.comparison, quality=methods.quality, presets=["a_0"], strength=2, success=0.5))
    with pytest.raises(LsapError, match="'c' is not among the presets"):
        judge(methods, {**settings, "candidate": ("c",)})


def test_the_chart_has_a_point_per_weight_and_the_baseline():
    numbers = {"MSE": Interval(mean=0.1, low=0.05, high=0.2, n=3), "NSCD": Interval(mean=1, low=1, high=1, n=3)}
    text = weights_chart([(2.0, numbers), (0.5, numbers)], {"MSE": 0.15}, "e4e & others", genuine=0.9)
    root = ElementTree.fromstring(text)
    labels = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 4 and {"MSE", "NSCD"} <= set(labels)
    assert labels.index("0.5") < labels.index("2") and any("e4e & others" in label for label in labels)


@pytest.mark.parametrize("name", ["lsap_claims", "lsap_claims_ffhq"])
def test_packaged_claims_name_methods_that_exist(name):
    config = load_config(name)
    plans = {plan.preset: plan for plan in make_plans(config)}
    check_claim(config, list(plans))
    assert edits_config(config) is not None and config.count == 50
    assert {config.test.candidate, config.test.baseline} <= plans.keys()
    for plan in plans.values():
        alone = plan.config.init.detail == "encoder" and plan.preset != "f/z+:fast"
        assert (plan.config.steps == 0) == alone, "encoders take no step"
        assert alone or not plan.encoder, "and only they have a file"
        assert plan.config.steps <= config.most_steps and plan.encoder.startswith("encoders/") == bool(plan.encoder)
    assert plans["f/z+:fast"].config.steps == 150 and plans["lsap_o"].config.loss.nscd > 0
    for source in config.published.values():
        assert source.source and source.note and len(set(source.rows) & plans.keys()) == 6


def test_published_numbers_have_our_constant():
    """Their PSNR is that of 2 / MSE; by Jensen's inequality the mean of PSNR is above the PSNR of the mean MSE."""
    for name, row in load_config("lsap_claims_ffhq").published.ganinverter.rows.items():
        assert row.psnr == pytest.approx(row.psnr_as_printed + 10 * np.log10(2), abs=1e-4)
        assert 0 <= row.psnr - 10 * np.log10(4 / row.mse) < 1.5, name
