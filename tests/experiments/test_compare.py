"""`lsap-jax compare`: its runs, interrupted and resumed, and its tables, recomputed from the runs."""

import csv
import json
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from scipy import stats

from lsap_jax.cli import main
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison import runs
from lsap_jax.experiments.comparison.plan import Plan, label, make_plans
from lsap_jax.experiments.comparison.tables import HIGHER_IS_BETTER, _distance, read_all
from lsap_jax.runs.saving import Progress
from lsap_jax.storage.checked_json import sealed
from lsap_jax.storage.metrics_table import metrics_csv, read_metrics_table, write_table
from lsap_jax.storage.results import read_manifest
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")

GOOD = ("0", "1", "2")
QUICK = ("--presets=z,f/z+", "--steps=3", "--batch_size=2", "--config.overrides=('chunk', 2)")
TESTED = ("--config.test.baseline=z", "--config.evaluate=false")


def command(*argv) -> int:
    return main(["compare", *map(str, argv)])


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tree(folder: Path) -> dict[str, bytes]:
    """File -> bytes of what resuming must reproduce."""
    parts = ("codes", "images", "targets", "curves")
    files = (p for part in parts for p in (folder / part).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in [*files, folder / "metrics.csv"]}


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder with g.safetensors, images/ (one of them broken) and a finished comparison of z and f/z+ in out/."""
    folder = tmp_path_factory.mktemp("work")
    tiny_generator(discriminator=False).save(folder / "g.safetensors")
    (folder / "images").mkdir()
    for name, image in zip(GOOD, tiny_images(3), strict=True):
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
    (folder / "images" / "broken.png").write_bytes(b"nothing")
    assert compare(folder, folder / "out") == 1
    return folder


def compare(folder: Path, out: Path, *more) -> int:
    return command(folder / "images", "--generator", folder / "g.safetensors", "--out", out, *QUICK, *TESTED, *more)


def copied(work: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(work / "out", tmp_path / "out"))


def test_a_comparison_leaves_runs_tables_picture_and_page(work):
    out = work / "out"
    for folder in ("z", "f_zplus"):
        assert set(read_manifest(out / folder)) == set(GOOD) and (out / folder / "report.html").is_file()
    record = json.loads((out / "comparison.json").read_text())
    assert [one["folder"] for one in record["presets"]] == ["z", "f_zplus"] and record["versions"]["scipy"]
    assert len(record["generator"]["sha256"]) == 64 and "seconds" not in json.dumps(record)
    text = (out / "report.html").read_text()
    assert 'href="f_zplus/report.html"' in text and "1 of 4 failed in some" in text
    with Image.open(out / "grid.png") as grid:  # 16 px enlarged ten times: three columns, and the three good images
        assert grid.size == (3 * (160 + 12) + 12, 3 * (160 + 20 + 12) + 12 + 2 * 20)
        cell = np.asarray(grid)[32 : 32 + 160, 12 : 12 + 160]
    with Image.open(out / "z" / "targets" / "0.png") as target:
        np.testing.assert_array_equal(cell[::10, ::10], np.asarray(target))
    assert not list(out.glob(".lsap-*"))


def test_tables_are_those_of_the_runs(work):
    out = work / "out"
    manifests = {preset: read_manifest(out / folder) for preset, folder in (("z", "z"), ("f/z+", "f_zplus"))}
    per_image = rows(out / "per_image.csv")
    assert [(row["id"], row["preset"]) for row in per_image] == [(i, p) for i in GOOD for p in manifests]
    for row in per_image:
        metrics = manifests[row["preset"]][row["id"]]["metrics"]
        assert {name: float(row[name]) for name in metrics} == metrics
    times = json.loads((out / "times.json").read_text())["presets"]
    for row in rows(out / "comparison.csv"):
        records, own = manifests[row["preset"]].values(), times[row["preset"]]
        assert (row["space"], row["steps"], row["images"], row["failed"]) == (row["preset"], "3", "3", "1")
        for name in ("mse", "psnr", "ssim"):
            values = np.array([record["metrics"][name] for record in records])
            assert float(row[f"{name}_mean"]) == values.mean()
            assert values.min() <= float(row[f"{name}_low"]) <= values.mean() <= float(row[f"{name}_high"])
        assert own["images"] == 3 and float(row["seconds_per_image"]) == own["seconds"] / 3
        assert 0 < float(row["seconds_per_image_stepping"]) < own["seconds"]
    found = {(row["metric"], row["margin_kind"]): row for row in rows(out / "tests.csv")}
    assert set(found) == {(metric, kind) for metric in ("mse", "psnr", "ssim") for kind in ("absolute", "relative")}
    for (metric, kind), row in found.items():
        f_zplus, z = (np.array([manifests[p][i]["metrics"][metric] for i in GOOD]) for p in ("f/z+", "z"))
        margin = 1e-8 if kind == "absolute" else 0.05 * abs(z.mean())
        advantage = z - f_zplus if metric == "mse" else f_zplus - z
        assert float(row["margin"]) == pytest.approx(margin) and (row["pairs"], row["left_out"]) == ("3", "1")
        assert float(row["mean_difference"]) == pytest.approx((f_zplus - z).mean())
        t = stats.ttest_1samp(advantage, -margin, alternative="greater")
        assert float(row["t"]) == pytest.approx(t.statistic) and float(row["p_t"]) == pytest.approx(t.pvalue)
        ranks = stats.wilcoxon(advantage + margin, alternative="greater")
        assert float(row["p_wilcoxon"]) == pytest.approx(ranks.pvalue)


def test_what_is_finished_is_not_computed_again(work, tmp_path, monkeypatch, capsys):
    out = copied(work, tmp_path)
    monkeypatch.setattr(runs, "run", None)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert compare(work, out) == 1
    captured = capsys.readouterr()
    assert captured.out.count("finished earlier") == 2 and "broken.png" in captured.err
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert compare(work, out, "--presets=z") == 1
    captured = capsys.readouterr()
    assert "no tests of f/z+ against z: f/z+ not among the presets" in captured.err
    assert [row["preset"] for row in rows(out / "comparison.csv")] == ["z"] and rows(out / "tests.csv") == []


def test_what_evaluate_measures_joins_the_tables_once(work, tmp_path):
    out = copied(work, tmp_path)
    assert compare(work, out, "--presets=z", "--config.evaluate=true") == 1
    (row,) = rows(out / "comparison.csv")
    table = rows(out / "z" / "metrics.csv")
    for name in ("nscd", "ssim01", "ms_ssim"):
        assert float(row[f"{name}_mean"]) == pytest.approx(np.mean([float(one[name]) for one in table]))
    evaluation = (out / "z" / "evaluation.json").stat().st_mtime_ns
    assert compare(work, out, "--presets=z", "--config.evaluate=true") == 1
    assert (out / "z" / "evaluation.json").stat().st_mtime_ns == evaluation


def test_a_metric_is_averaged_over_images_that_all_have(work, tmp_path):
    out = copied(work, tmp_path)
    for folder, values in (("z", (0.9, 0.1, 0.2)), ("f_zplus", (0.5, None, None))):
        table = read_metrics_table(out / folder)
        for id, value in zip(GOOD, values, strict=True):
            table[id] |= {} if value is None else {"identity_dlib_resnet": value}
        write_table(out / folder, metrics_csv(table))
    found = read_all(out).intervals
    means = {preset: one.mean for (preset, name), one in found.items() if name == "identity_dlib_resnet"}
    assert means == {"z": 0.9, "f/z+": 0.5}
    assert found["z", "mse"].n == 3


def test_the_printed_table_names_the_best(work, tmp_path, capsys):
    assert compare(work, copied(work, tmp_path)) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if re.match(r"(preset|z|f/z\+)  ", line)]
    assert lines[0].split() == ["preset", "mse", "psnr", "ssim", "s/image", "images", "failed"]
    means = {row["preset"]: float(row["mse_mean"]) for row in rows(work / "out" / "comparison.csv")}
    for line in lines[1:]:
        cells = line.split()
        assert cells[1].endswith("*") == (means[cells[0]] == min(means.values()))
        assert float(cells[1].rstrip("*")) == pytest.approx(means[cells[0]], rel=1e-3) and cells[-2:] == ["3", "1"]


def test_a_deleted_run_is_made_anew_with_its_own_time(work, tmp_path):
    out = copied(work, tmp_path)
    shutil.rmtree(out / "f_zplus")
    assert compare(work, out) == 1
    assert tree(out / "f_zplus") == tree(work / "out" / "f_zplus")
    times = {folder: json.loads((folder / "times.json").read_text())["presets"] for folder in (out, work / "out")}
    assert times[out]["z"] == times[work / "out"]["z"] and times[out]["f/z+"]["images"] == 3
    assert (out / "per_image.csv").read_bytes() == (work / "out" / "per_image.csv").read_bytes()


def test_interrupted_and_resumed_is_the_same_comparison(work, tmp_path, monkeypatch, capsys):
    """Ctrl-C in the second preset, once its first batch is saved."""
    out, seen = tmp_path / "out", []

    @contextmanager
    def interrupting():
        seen.append(1)

        def listen(p: Progress) -> None:
            if len(seen) == 2 and p.done == 2:
                raise KeyboardInterrupt

        yield listen

    # The second batch of each preset is the third image and the broken one.
    with monkeypatch.context() as patch:
        patch.setattr("lsap_jax.cli.progress.reporter", interrupting)
        assert compare(work, out) == 130
    assert "interrupted: 1 of 2 presets are finished" in capsys.readouterr().err
    assert len(read_manifest(out / "f_zplus")) == 2 and not (out / "report.html").exists()
    assert json.loads((out / "times.json").read_text())["presets"]["f/z+"]["images"] == 2
    assert compare(work, out) == 1
    for folder in ("z", "f_zplus"):
        assert tree(out / folder) == tree(work / "out" / folder)
    assert json.loads((out / "times.json").read_text())["presets"]["f/z+"]["images"] == 3
    for name in ("per_image.csv", "tests.csv", "grid.png", "comparison.json"):
        assert (out / name).read_bytes() == (work / "out" / name).read_bytes()


def test_unusable_arguments_are_one_line(work, tmp_path, capsys):
    def fails(*argv, out=tmp_path / "new") -> str:
        assert command(*argv, "--generator", work / "g.safetensors", "--out", out, "--steps=3") == 2
        *notes, error = capsys.readouterr().err.splitlines()
        assert all(note.startswith("latent statistics") for note in notes) and "Traceback" not in error
        return error

    images = work / "images"
    assert "no images" in fails()
    assert "f/y: did you mean f_z? it is neither a configuration file" in fails(images, "--presets=z,f/y")
    assert "this configuration belongs to another command" in fails(images, "--presets=toonhead64")
    assert "it has no 'presets'" in fails(images, "--config=f_zplus")
    assert "would share the folder 'zplus'" in fails(images, "--presets=z+,zplus")
    assert "presets is empty" in fails(images, "--presets=,")
    assert "unknown configuration key 'optimizer.rate'" in fails(
        images, "--presets=z", "--config.overrides=('optimizer.rate', 1.0)"
    )
    assert "is not a pair" in fails(images, "--presets=z", "--config.overrides=('optimizer.lr',)")
    assert "test.relative=-0.5" in fails(images, "--presets=z", "--config.test.relative=-0.5")
    assert "test.level=2.0" in fails(images, "--presets=z", "--config.test.level=2.0")
    assert "preset 'z': keep='first'" in fails(images, "--presets=z", "--config.overrides=('keep', 'first')")
    assert not (tmp_path / "new").exists()
    assert "where the results go; choose another folder" in fails(images, "--presets=z", out=images)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("dear to someone")
    assert "holds 'thesis.tex' but no comparison.json" in fails(images, "--presets=z", out=tmp_path / "other")
    assert "is a file" in fails(images, "--presets=z", out=work / "g.safetensors")
    assert "seed was 0, is 1" in fails(images, *QUICK[:1], *QUICK[2:], "--seed=1", out=copied(work, tmp_path))


@pytest.mark.parametrize("name", ["compare", "compare_table1"])
def test_packaged_comparisons_name_presets_that_exist(name):
    config = load_config(name)
    plans = make_plans(config)
    assert [plan.preset for plan in plans] == list(config.presets)
    assert {plan.config.steps for plan in plans} == {config.steps}
    assert {config.test.candidate, config.test.baseline} <= set(config.presets)
    for source in config.published.values():
        assert source.source and source.note and set(source.rows) & set(config.presets)


def test_overrides_reach_every_preset_and_files_are_presets(tmp_path):
    path = tmp_path / "my.own.py"
    path.write_text("from lsap_jax.configs import zplus\n\n\ndef get_config():\n    return zplus.get_config()\n")
    values = {"presets": ("z", str(path)), "steps": 0, "seed": 3, "perceptual": "lpips", "basecode": "e"}
    config = load_config("compare", values)
    config.overrides = (("optimizer.lr", 0.5), ("loss.perceptual", 2))
    for plan in make_plans(config):
        assert (plan.config.optimizer.lr, plan.config.loss.perceptual, plan.config.seed) == (0.5, 2.0, 3)
        assert plan.config.steps == 1200 and plan.config.perceptual.weights == "lpips"
        assert plan.config.init.basecode == "e"
    assert [(plan.preset, plan.folder) for plan in make_plans(config)] == [("z", "z"), ("my.own", "my_own")]
    assert label("f/z+:code") == "f/z+:code"
    path.write_text(
        path.read_text().replace("return zplus.get_config()", "c = zplus.get_config()\n    c.fit = 'pad'\n    return c")
    )
    with pytest.raises(LsapError, match="fit differs between the presets"):
        make_plans(config)


def test_the_stopwatch_counts_steps_without_their_first_chunk(tmp_path, monkeypatch):
    plan = Plan(preset="z", folder="z", config=ConfigDict(dict(batch_size=4, steps=30)))
    now = [100.0]
    monkeypatch.setattr(runs.time, "monotonic", lambda: now[0])

    def tell(watch, seconds, done, step):
        now[0] += seconds
        state = dict(failed=0, total=8, steps=30, images_per_second=0.0, loss=0.0, eta_seconds=None)
        watch(Progress(done=done, step=step, **state))

    watch = runs.Stopwatch(tmp_path, plan, 8, fresh=True)
    for seconds, done, step in ((9, 0, 10), (2, 0, 20), (2, 0, 30), (1, 4, 30), (3, 4, 10), (2, 4, 20), (50, 4, 30)):
        tell(watch, seconds, done, step)
    kept = runs.read_times(tmp_path)["z"]
    assert (kept.images, kept.seconds) == (4, 14.0) and kept.per_image == 3.5
    assert (kept.stepping_seconds, kept.image_steps) == (4.0, 80)
    assert kept.stepping_per_image == pytest.approx(4 / 80 * 30)
    watch = runs.Stopwatch(tmp_path, plan, 8, fresh=False)  # resumed: the second batch again
    for seconds, done, step in ((8, 4, 10), (1, 8, 30)):
        tell(watch, seconds, done, step)
    kept = runs.read_times(tmp_path)["z"]
    assert (kept.images, kept.seconds) == (8, 23.0)
    assert runs.Times().per_image is None and runs.Times().stepping_per_image is None
    (tmp_path / "times.json").write_bytes(sealed({"presets": {"z": {"odd": 1}}}))
    with pytest.raises(LsapError, match="is damaged; delete it"):
        runs.read_times(tmp_path)


def test_no_t_test_has_the_published_p_values():
    """What docs/comparison.md says of Table 1 of 2307.08995: with its SSIM p would be above 1/2, and with its MSE the
    differences would have to spread 20 to 40 times less than those of Fig. 2.
    """
    published = load_config("compare_table1").published
    table, figure = published.a_table1.rows, published.b_figure2.rows
    candidate, baseline = table["f/z+"], table["bdinvert"]
    assert candidate.ssim01 + 1e-8 < baseline.ssim01, "worse by more than the margin: t is below 0 for any spread"
    t = stats.t.isf(0.002983, df=49)
    spread = np.std(np.subtract(figure["f/z+"].mse, figure["bdinvert"].mse), ddof=1)
    advantage = baseline.mse - candidate.mse + 1e-8
    for rounding, times in ((0.0, 39), (1e-5, 19)):  # two means of five digits
        assert int(spread / ((advantage + rounding) * np.sqrt(50) / t)) == times
    assert set(figure) == {*table, "w", "f/s (encoder)"} - {"wplus_pn"} and len(figure) == 9
    assert all(len(row[name]) == 5 for row in figure.values() for name in ("lpips_vgg", "mse"))


def test_identities_are_similarities_and_no_distance_of_pictures():
    assert {"identity_dlib_resnet", "identity_arcface", "face"} < HIGHER_IS_BETTER
    assert "identity_dlib_resnet_distance" not in HIGHER_IS_BETTER
    names = ("mse", "identity_dlib_resnet", "identity_dlib_resnet_distance", "lpips_vgg")
    entry = SimpleNamespace(described={name: {"network": None if name == "mse" else name} for name in names})
    assert _distance([entry], names) == "lpips_vgg" and _distance([entry], names[:3]) is None
