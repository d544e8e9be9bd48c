"""`lsap-jax evaluate`, and starts and exports across spaces."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from lsap_jax.cli import main
from lsap_jax.models.generator_file import load_generator
from lsap_jax.rendering.render import space_of
from lsap_jax.runs.evaluation import genuine_nscd
from lsap_jax.spaces.statistics import with_statistics
from lsap_jax.storage.results import read_code, read_manifest, read_run
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation", "quick_whitening")

COUNT = 3
OWN = ("mse", "psnr", "ssim")
ADDED = {"ssim01", "ms_ssim", "nscd", *(f"nscd_{i:02d}" for i in range(6))}


def run(*argv):
    return main([str(a) for a in argv])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with g.safetensors, images/, and runs in W+ and in S."""
    folder = tmp_path_factory.mktemp("work")
    tiny_generator(discriminator=False).save(folder / "g.safetensors")
    (folder / "images").mkdir()
    for i, image in enumerate(tiny_images(COUNT)):
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
    for space in ("w+", "s"):
        assert invert(folder, folder / space, f"--space={space}", "--steps=20", "--config.optimizer.lr=0.05") == 0
    return folder


def invert(work, out, *more):
    argv = ("invert", work / "images", "--generator", work / "g.safetensors", "--out", out, "--batch_size=4")
    return run(*argv, *more)


def table(folder) -> dict[str, dict[str, float]]:
    with open(folder / "metrics.csv", newline="") as file:
        return {row.pop("id"): {k: float(v) for k, v in row.items()} for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def evaluated(work):
    """(metrics.csv before, the folder of the W+ run after `evaluate`)."""
    before = table(work / "w+")
    assert run("evaluate", work / "w+") == 0
    return before, work / "w+"


def test_columns_are_added_and_kept(evaluated):
    before, folder = evaluated
    after = table(folder)
    assert list(after) == list(before) == ["0", "1", "2"]
    for name, row in after.items():
        assert set(row) == set(before[name]) | ADDED and set(before[name]) == set(OWN)
        assert {key: row[key] for key in OWN} == before[name]  # to the last digit
        np.testing.assert_allclose(row["nscd"], np.mean([row[f"nscd_{i:02d}"] for i in range(6)]), rtol=1e-5)
    record = json.loads((folder / "evaluation.json").read_text())
    assert (record["images"], record["space"]) == (COUNT, "w+")
    for key, value in record["means"].items():
        np.testing.assert_allclose(value, np.mean([row[key] for row in after.values()]), rtol=1e-5)
    assert set(record["set"]) == {"kid", "kid_stderr", "features"}
    assert {name for name, one in record["metrics"].items() if one["also_loss"]} == {"mse"}


def test_the_genuine_level_is_printed_and_twice_is_the_same(evaluated, capsys):
    _, folder = evaluated
    files = [folder / "metrics.csv", folder / "evaluation.json"]
    before = [path.read_bytes() for path in files]
    assert run("evaluate", folder) == 0
    assert [path.read_bytes() for path in files] == before
    out = capsys.readouterr().out
    G = with_statistics(load_generator(folder.parent / "g.safetensors"))
    level = genuine_nscd(G, space_of(read_run(folder), G))
    (line,) = [line for line in out.splitlines() if line.startswith("  nscd  ")]
    assert line.endswith(f"genuine samples: {level:.4g}")
    assert f"{COUNT} images of {folder}, space w+" in out and "also minimised" in out and "kid " in out
    assert f"KID of {COUNT} images means nothing; it takes 100 or more" in out
    assert run("verify", folder) == 0


def test_the_report_shows_the_columns(evaluated, capsys):
    _, folder = evaluated
    assert run("report", folder) == 0
    text = (folder / "report.html").read_text()
    for name in ("ssim01", "ms_ssim", "nscd", "nscd_05"):
        assert f">{name}<" in text
        mean = np.mean([row[name] for row in table(folder).values()])
        assert f"<dt>mean {name}</dt><dd>{mean:#.4g}</dd>" in text


def test_what_cannot_be_evaluated_is_one_line(work, tmp_path, capsys):
    for argv, words in (
        ((tmp_path,), "not a run folder"),
        ((work / "w+", "--perceptual", tmp_path / "no"), "no such file"),
        ((work / "w+", "--batch_size=0"), "batch_size"),
        ((work / "w+", "--ppl=2"), "path length needs a network that compares images; give LPIPS weights by --perc"),
    ):
        assert run("evaluate", *argv) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1


def test_ws_of_w_plus_are_its_codes_and_styles_have_none(work, tmp_path, capsys):
    assert run("export", work / "w+", tmp_path / "w.npz", "--ws") == 0
    arrays = np.load(tmp_path / "w.npz")
    assert set(arrays.files) == {"ids", "w", "ws"}
    np.testing.assert_array_equal(arrays["ws"], arrays["w"])
    assert run("export", work / "s", tmp_path / "s.npz", "--ws") == 2
    assert "codes of space s are styles, which have no ws; export s without --ws" in capsys.readouterr().err
    assert run("export", work / "s", tmp_path / "s.npz") == 0
    arrays = np.load(tmp_path / "s.npz")
    G = load_generator(work / "g.safetensors")
    widths = [layer.width for layer in G.config.layers]
    assert set(arrays.files) == {"ids", "s"} and arrays["s"].shape == (COUNT, sum(widths))


START = ("--steps=1", "--config.chunk=2", "--config.optimizer.lr=1e-6")


@pytest.mark.parametrize(
    "space", [pytest.param("pn+", marks=pytest.mark.slow), "s", pytest.param("z+", marks=pytest.mark.slow)]
)
def test_w_plus_codes_start_runs_in_other_spaces(work, tmp_path, capsys, space):
    assert invert(work, tmp_path / "run", f"--space={space}", "--init", work / "w+", *START) == 0
    fitted = "the codes are fitted" in capsys.readouterr().err
    first, then = (read_manifest(folder) for folder in (work / "w+", tmp_path / "run"))
    gap = max(abs(then[name]["metrics"]["mse"] / first[name]["metrics"]["mse"] - 1) for name in first)
    if space == "z+":  # w of a run need not lie in the range of the mapping
        assert fitted and np.isfinite(gap)
        z = read_code(tmp_path / "run", "0")["z"]
        np.testing.assert_allclose(np.linalg.norm(z, axis=-1), 4, rtol=1e-5)
    else:
        assert not fitted and gap < 1e-3
    assert read_run(tmp_path / "run")["config"]["init"]["codes"]


def test_styles_start_their_own_space_only(work, tmp_path, capsys):
    assert invert(work, tmp_path / "w", "--space=w+", "--init", work / "s", *START) == 2
    error = capsys.readouterr().err
    assert "styles have no ws that w+ could start from; give codes of w+ or z+" in error and error.count("\n") == 1
    assert not (tmp_path / "w").exists()
