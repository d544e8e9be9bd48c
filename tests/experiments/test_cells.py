"""`lsap-jax compare` of two stages: every run and what methods of refinement make of it, resumed, in one table."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import colour
import numpy as np
import pytest
from PIL import Image

from lsap_jax.cli import main
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.experiments.claims.settings import check_claim
from lsap_jax.experiments.comparison.cells import that_fit, with_cells
from lsap_jax.experiments.comparison.plan import make_plans
from lsap_jax.experiments.comparison.tables import read_all
from lsap_jax.refinement.methods import REFINERS, Method
from lsap_jax.storage.results import read_manifest, read_run
from lsap_jax.testing import ColourRefiner, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation", "rows")
IDS = ("0", "1", "2")


class PlainOnly(ColourRefiner):
    """Refuses base codes, as HFGI and StyleRes do."""

    def __call__(self, G, space, codes, images, rng, mask):
        if space.has_base:
            raise LsapError("method 'plain': codes with a base code are more than ws")
        return super().__call__(G, space, codes, images, rng, mask)


@pytest.fixture(scope="module")
def rows():
    with pytest.MonkeyPatch.context() as patch:
        colour.add_rows(patch)
        patch.setitem(REFINERS, "plain", Method(make=lambda G, weights: PlainOnly()))
        yield


def config(*presets, refine=("colour", "hfgi", "plain"), **changes):
    found = load_config("compare", {"presets": presets, "refine": refine, "steps": 1})
    for key, value in changes.items():
        found[key] = value
    return found


def words(folder: Path, out: Path, *more: str) -> list[str]:
    own = ["compare", folder / "images", "--generator", folder / "g.safetensors", "--out", out, "--presets=w+,f/z+"]
    own += ["--steps=2", "--batch_size=2", "--config.refine=('colour', 'hfgi')"]
    own += ["--config.refine_overrides=('colour.share', 0.5)", "--config.test.candidate=w+ then colour"]
    return [str(word) for word in [*own, "--config.test.baseline=w+", "--config.evaluate=false", *more]]


@pytest.fixture(scope="module")
def work(quick_compilation, rows, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    tiny_generator(discriminator=False).save(folder / "g.safetensors")
    (folder / "images").mkdir()
    for name, image in zip(IDS, tiny_images(3), strict=True):
        Image.fromarray(image).save(folder / "images" / f"{name}.png")
    assert main(words(folder, folder / "out")) == 0
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    files = (p for part in ("codes", "images", "refined") for p in (folder / part).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in [*files, folder / "metrics.csv"]}


def test_every_run_is_refined_by_every_method_that_can():
    plans = with_cells(make_plans(config("w+", "f/z+")), config("w+", "f/z+"))
    assert [plan.preset for plan in plans] == [
        name
        for space in ("w+", "f/z+")
        for name in (space, *(f"{space} then {m}" for m in ("colour", "hfgi", "plain")))
    ]
    assert (plans[5].folder, plans[5].first, plans[5].told) == (
        "f_zplus_then_colour", "f_zplus", "of f_zplus refined by colour",
    )  # fmt: skip
    kept, lines = that_fit(plans, tiny_generator(discriminator=False))
    assert [plan.preset for plan in kept] == [
        "w+", "w+ then colour", "w+ then plain", "f/z+", "f/z+ then colour"
    ]  # fmt: skip
    networks, space = lines
    assert networks.startswith("hfgi is left out: method 'hfgi': neither this generator nor a file of weights")
    assert space == "f/z+ then plain is left out: method 'plain': codes with a base code are more than ws"
    every = with_cells(make_plans(config("w+")), config("w+", refine=("all",)))
    assert [plan.method for plan in every] == ["", *REFINERS]
    assert with_cells(make_plans(config("w+")), config("w+", refine=())) == make_plans(config("w+"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"refine": ("dip",)}, "method 'dip': this version of lsap_jax does not have it"),
        ({"refine_overrides": (("colour.width", 1),)}, "'colour.width' is no option of this method; .* colour.share"),
        ({"refine_overrides": (("dip.share", 1),)}, "method 'dip': this version"),
    ],
)
def test_what_no_method_has_is_refused(changes, message):
    with pytest.raises(LsapError, match=message):
        with_cells(make_plans(config("w+")), config("w+", **changes))


def test_a_preset_that_would_share_a_folder_is_refused(tmp_path):
    path = tmp_path / "wplus_then_colour.py"
    path.write_text("from lsap_jax.configs import zplus\n\n\ndef get_config():\n    return zplus.get_config()\n")
    with pytest.raises(LsapError, match="would share the folder 'wplus_then_colour'"):
        with_cells(make_plans(config("w+", str(path))), config("w+", str(path)))


def test_cells_are_runs_and_rows_of_the_tables(work, capsys):
    out = work / "out"
    found = read_all(out)
    assert [entry.preset for entry in found.entries] == ["w+", "w+ then colour", "f/z+", "f/z+ then colour"]
    record = read_run(out / "wplus_then_colour")
    assert record["refinement"]["options"] == {"share": 0.5} and (out / "wplus_then_colour/report.html").is_file()
    with open(out / "comparison.csv", newline="") as file:
        table = {row["preset"]: row for row in csv.DictReader(file)}
    for name, folder, parts in (
        ("w+", "wplus", ("codes",)),
        ("w+ then colour", "wplus_then_colour", ("codes", "refined")),
    ):
        sizes = [(out / folder / part / f"{id}.npz").stat().st_size for part in parts for id in IDS]
        assert float(table[name]["bytes_per_image"]) == pytest.approx(sum(sizes) / 3)
        assert float(table[name]["seconds_per_image"]) > 0
        own = [one["metrics"]["mse"] for one in read_manifest(out / folder).values()]
        assert float(table[name]["mse_mean"]) == pytest.approx(np.mean(own))
    assert float(table["w+ then colour"]["mse_mean"]) < float(table["w+"]["mse_mean"])
    assert main(words(work, out)) == 0
    said = capsys.readouterr()
    assert said.out.count("finished earlier") == 4 and "hfgi is left out: " in said.err


def test_other_options_are_not_mixed_into_a_cell(work, tmp_path, capsys):
    shutil.copytree(work / "out", tmp_path / "out")
    assert main(words(work, tmp_path / "out", "--config.refine_overrides=('colour.share', 1.0)")) == 2
    assert "share" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_cell_goes_on_byte_for_byte(work, tmp_path):
    """Killed at its fifth image: the second of the first cell."""
    out = tmp_path / "out"
    run = [sys.executable, str(Path(colour.__file__)), "5", *words(work, out)]
    assert subprocess.run(run, capture_output=True).returncode == -9
    assert len(read_manifest(out / "wplus")) == 3 and not (out / "f_zplus").exists()
    assert main(words(work, out)) == 0
    for folder in ("wplus", "wplus_then_colour", "f_zplus_then_colour"):
        assert tree(out / folder) == tree(work / "out" / folder)


def test_published_rows_are_cells():
    found = load_config("two_stage_ffhq")
    labels = [plan.preset for plan in with_cells(make_plans(found), found)]
    check_claim(found, labels)
    rows = found.published.ganinverter.rows
    assert {"w then pti", "w_encoder then hyperstyle", "e4e then hfgi", "w", "e4e"} <= set(rows) & set(labels)
    assert rows["e4e then hfgi"].mse == 0.0210 and rows["lsap_e then dhr"].mse == 0.0034


def test_the_packaged_one_takes_every_method():
    found = load_config("two_stage")
    plans = with_cells(make_plans(found), found)
    labels = [plan.preset for plan in plans]
    check_claim(found, labels)
    assert [plan.preset for plan in plans if not plan.method] == ["e4e", "lsap_e", "w", "z+", "f/z+"]
    assert len(plans) == 5 * (1 + len(REFINERS)) and found.count == 50
    assert {found.test.candidate, found.test.baseline} <= set(labels)
