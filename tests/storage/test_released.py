"""Folders of every released version are read, verified, evaluated, edited, exported and reported, and say why they are
not resumed.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lsap_jax.cli import main
from lsap_jax.experiments.comparison.tables import read_all
from lsap_jax.models.generator_file import load_generator
from lsap_jax.runs.evaluate_run import evaluate_run
from lsap_jax.spaces.statistics import compute_statistics
from lsap_jax.storage.checked_json import sealed
from lsap_jax.storage.file_bytes import image_from_png
from lsap_jax.storage.metrics_table import read_metrics_table
from lsap_jax.storage.results import read_run

RELEASED = Path(__file__).parent / "released"
VERSIONS = sorted(path.name for path in RELEASED.iterdir() if path.is_dir())

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(params=VERSIONS)
def released(request, tmp_path, monkeypatch) -> Path:
    folder = shutil.copytree(RELEASED / request.param, tmp_path / "released")
    monkeypatch.chdir(folder)
    return folder


def test_a_released_run_and_its_edits_are_verified_edited_exported_and_reported(released, capsys):
    for folder, items in (("run", "2 images"), ("edits", "6 edits of 2 images"), ("compared/w", "2 images")):
        assert main(["verify", folder]) == 0
        said = capsys.readouterr().out
        assert f"{folder}: is of an earlier format" in said and f"{items} rendered again: all match" in said
    assert main(["edit", "run", "--direction=random:0", "--strengths=-1,0,1", "--out", "edited"]) == 0
    for picture in sorted(Path("edits/images").rglob("*.png")):
        pair = picture, Path("edited/images") / picture.relative_to("edits/images")
        old, new = (image_from_png(path.read_bytes()).astype(int) for path in pair)
        assert np.abs(old - new).max() <= 1
    assert main(["export", "run", "--format=npz", "codes.npz"]) == 0
    with np.load("codes.npz") as exported, np.load("run/codes/two.npz") as code:
        np.testing.assert_array_equal(exported["z"][1], code["z"])
    assert main(["export", "run", "s.zarr"]) == 0 and main(["export", "s.zarr", "--format=files", "back"]) == 0
    for file in (path.relative_to("run") for path in Path("run").rglob("*") if path.is_file()):
        lines = [sorted((Path(folder) / file).read_bytes().splitlines()) for folder in ("run", "back")]
        assert lines[0] == lines[1]
    for folder in ("run", "edits", "compared/zplus"):
        assert main(["report", folder]) == 0 and (Path(folder) / "report.html").stat().st_size > 10_000
    assert len(read_all(Path("compared")).common) == 2


def test_a_released_run_is_evaluated(released, capsys):
    before, G = read_metrics_table(Path("run")), load_generator("generator.safetensors")
    few = compute_statistics(G, 20_000, 20_000)
    evaluate_run(G.with_part("statistics", few), Path("run"), sets=False)
    after = read_metrics_table(Path("run"))
    for id, row in before.items():
        assert after[id].keys() - row.keys() == {"logit"}, "which 0.1.0 did not measure yet"
        np.testing.assert_allclose(list(row.values()), [after[id][name] for name in row], rtol=1e-3, atol=0.02)
    assert main(["verify", "run"]) == 0 and "2 images rendered again: all match" in capsys.readouterr().out


def test_a_released_run_is_not_resumed_and_says_so(released, capsys):
    invert = ["invert", "photos", "--generator=generator.safetensors", "--space=f/z+", "--steps=2", "--out=run"]
    edit = ["edit", "run", "--direction=random:0", "--strengths=-1,0,1", "--out=edits"]
    compare = [
        "compare",
        "photos",
        "--generator=generator.safetensors",
        "--presets=z+,w",
        "--steps=2",
        "--out=compared",
    ]
    for command, name in ((invert, "run"), (edit, "edit"), (compare, "comparison")):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert f"begun by another version of lsap_jax (lsap_jax {name} 1, this one writes lsap_jax {name} 2)" in said
        assert "cannot be resumed" in said and "choose another folder" in said


def test_a_folder_of_a_later_version_is_refused_by_both_numbers(released, capsys):
    record = {**read_run("run"), "format": "lsap_jax run 7"}
    Path("run/run.json").write_bytes(sealed(record))
    for command in (["verify", "run"], ["report", "run"], ["export", "run", "out.npz", "--format=npz"]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "format is 'lsap_jax run 7', this version reads 'lsap_jax run 2'" in said and said.count("\n") == 1


def test_todays_format_without_its_check_is_refused(released, capsys):
    record = {**json.loads(Path("run/run.json").read_text()), "format": "lsap_jax run 2"}
    Path("run/run.json").write_text(json.dumps(record, indent=2))
    assert main(["verify", "run"]) == 2 and "has lost its check" in capsys.readouterr().err
