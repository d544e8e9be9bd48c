"""`lsap-jax compare --config all_methods`: single cells, what is left out, ranks, the frontier, several claims, and the
same tables written again by `lsap-jax report`.
"""

import csv
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict
from PIL import Image

from lsap_jax.cli import main
from lsap_jax.configuration import load_config
from lsap_jax.editing.direction import Direction
from lsap_jax.editing.direction_file import save_directions
from lsap_jax.errors import LsapError
from lsap_jax.experiments.claims import columns
from lsap_jax.experiments.claims.ranks import best, ranked
from lsap_jax.experiments.claims.settings import check_claim, claims_of, edits_config
from lsap_jax.experiments.comparison.cells import with_cells
from lsap_jax.experiments.comparison.files import published_csv
from lsap_jax.experiments.comparison.plan import check_plans, make_plans
from lsap_jax.experiments.comparison.tables import published_means
from lsap_jax.metrics.significance import Interval
from lsap_jax.models.attributes import Attributes, BinaryAttribute
from lsap_jax.models.attributes_file import save_attributes
from lsap_jax.networks.attributes import AttributesConfig, initial_params
from lsap_jax.refinement.methods import REFINERS
from lsap_jax.report.claims.frontier import frontier_chart
from lsap_jax.testing import colour_encoder, tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation", "quick_whitening", "colour_rows")


def lines(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---- the plan --------------------------------------------------------------------------------------------------------


def plans_of(**changes):
    config = load_config("compare", {"presets": ("w+", "z"), "steps": 1, **changes})
    return with_cells(make_plans(config), config)


def test_single_cells_are_made_of_their_preset_alone():
    plans = plans_of(cells=("z then colour",), refine_weights=("colour", "c.safetensors"), encoders="folder")
    assert [plan.preset for plan in plans] == ["w+", "z", "z then colour"]
    assert (plans[2].first, plans[2].weights, plans[0].weights) == ("z", "folder/c.safetensors", "")
    twice = plans_of(cells=("z then colour",), refine=("colour",))
    assert [plan.preset for plan in twice] == ["w+", "w+ then colour", "z", "z then colour"]


@pytest.mark.parametrize("cell", ["p then colour", "z", "z then dip", "z then "])
def test_a_cell_of_nothing_is_refused(cell):
    with pytest.raises(LsapError, match="cells|method"):
        plans_of(cells=(cell,))
    with pytest.raises(LsapError, match="method 'dip'"):
        plans_of(refine_weights=(("dip", "file"),))


def test_what_lacks_a_file_is_left_out_with_its_cells_where_that_is_asked_for():
    G = tiny_generator(discriminator=False)
    plans = plans_of(presets=("e4e@nothing.safetensors", "z"), cells=("nothing then colour", "z then colour"))
    kept, told = check_plans(plans, G, True)
    assert [plan.preset for plan in kept] == ["z", "z then colour"]
    assert told[0].startswith("nothing is left out: nothing.safetensors: no such file")
    assert told[1] == "nothing then colour is left out: its codes are"
    with pytest.raises(LsapError, match="preset 'nothing': .*no such file"):
        check_plans(plans, G)
    with pytest.raises(LsapError, match="no preset is left: nothing is left out"):
        check_plans(plans[:2], G, True)


@pytest.mark.parametrize("name", ["all_methods", "all_methods_ffhq"])
def test_the_packaged_ones_have_every_method(name):
    config = load_config(name)
    labels = [plan.preset for plan in with_cells(make_plans(config), config)]
    check_claim(config, labels)
    assert config.count == 50 and config.leave_out and edits_config(config) is not None
    assert {"e4e", "psp", "lsap_e", "restyle_e4e", "z+", "f/z+", "f/z+:fast", "bdinvert", "idinvert"} <= set(labels)
    assert {label.partition(" then ")[2] for label in labels} == {"", *REFINERS} - {"colour"}
    assert {"w then pti", "z+ then pti", "e4e then styleres"} <= set(labels)
    assert {one["candidate"][0] for one in claims_of(config.to_dict()).values()} == {"e4e then styleres", "f/z+"}
    for source in config.published.values():
        assert source.source and source.note and len(set(source.rows) & set(labels)) >= 4
        assert bool(source.get("elsewhere")) == (name == "all_methods"), (
            "FFHQ's numbers are not drawn beside toonhead64's"
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"claims.fzplus.candidate": ("q",)}, r"claims\.fzplus: 'q' is not among the presets"),
        (
            {"claims.fzplus.parts": ("speed",)},
            r"claims\.fzplus\.parts: 'speed' is not one of equal fidelity, perception",
        ),
        ({"claims.fzplus.measures": ("speed",)}, r"claims\.fzplus\.measures: 'speed' is not one of preserved"),
        ({"claims.fzplus.baseline": ()}, r"claims\.fzplus: candidate and baseline belong together"),
        ({"claim.strength": 5.0}, r"claim\.strength=5: is not among the strengths"),
    ],
)
def test_unusable_claims_are_named(changes, message):
    config = load_config("all_methods", changes)
    with pytest.raises(LsapError, match=message):
        check_claim(config, [plan.preset for plan in with_cells(make_plans(config), config)])


def test_claims_without_common_settings_are_refused():
    config = load_config("all_methods")
    config.claim = ConfigDict()
    with pytest.raises(LsapError, match="claims: need the settings that all share"):
        check_claim(config, [])


def test_published_tables_stand_beside_ours_in_one_file():
    config = load_config("all_methods")
    own = {("z+", "mse"): Interval(mean=0.5, low=0.4, high=0.6, n=3)}
    entries = [SimpleNamespace(preset=name) for name in ("z+", "e4e then styleres")]
    comparison = SimpleNamespace(
        record={"config": config.to_dict()}, entries=entries, metrics=("mse", "psnr"), intervals=own
    )
    found = {line["method"]: line for line in csv.DictReader(io.StringIO(published_csv(comparison).decode()))}
    assert list(found)[:2] == ["z+", "e4e then styleres"] and {"w then pti", "idinvert"} <= found.keys()
    assert (found["z+"]["mse"], found["z+"]["a_table1 mse"], found["z+"]["a_table1 ssim01"]) == (
        "0.5",
        "0.12117",
        "0.6893",
    )
    assert found["e4e then hfgi"]["ganinverter lpips_alex"] == "0.1166" and "psnr" not in found["z+"]
    assert found["e4e then styleres"]["styleres fid"] == "" == found["e4e then styleres"]["mse"]
    assert published_means(comparison, "mse") == {}, "of another generator"


# ---- ranks -----------------------------------------------------------------------------------------------------------


def row(**numbers: float) -> dict[str, Interval]:
    heads = {
        "mse": "MSE",
        "preserved": "preserved at equal success",
        "cycle": "cycle at equal success",
        "s": "s in all",
    }
    return {heads[key]: Interval(mean=value, low=value, high=value, n=1) for key, value in numbers.items()}


def test_ranks_are_of_what_all_have_that_are_edited():
    found = ranked(
        {
            "sharp": row(mse=0.1, preserved=0.5, cycle=0.1, s=9.0),
            "soft": row(mse=0.3, preserved=0.9, s=1.0),
            "beaten": row(mse=0.3, preserved=0.4, cycle=0.9, s=1.0),
            "unedited": row(mse=0.2),
        }
    )
    assert found.columns == {"reconstruction": ["MSE"], "editing": ["preserved at equal success"], "cost": ["s in all"]}
    assert found.places["reconstruction"] == {"sharp": 1.0, "unedited": 2.0, "soft": 3.5, "beaten": 3.5}
    assert found.places["editing"] == {"soft": 1.0, "sharp": 2.0, "beaten": 3.0}
    assert found.places["cost"] == {"soft": 1.5, "beaten": 1.5, "sharp": 3.0}
    assert found.frontier == ["sharp", "soft"]
    assert not ranked({}).frontier and not ranked({"a": row(mse=1.0)}).frontier


def test_columns_that_mean_nothing_rank_nothing(monkeypatch):
    rows = {"a": row(mse=1.0, preserved=0.5), "b": row(mse=2.0)}
    monkeypatch.setattr(columns, "NOTES", {"preserved at equal success": lambda _, name: f"too few of {name}"})
    assert columns.notes(None, rows) == {"preserved at equal success": ["too few of a"]}
    assert columns.deciding(None, rows) == {"a": row(mse=1.0), "b": row(mse=2.0)}
    monkeypatch.setattr(columns, "NOTES", {"MSE": lambda *_: ""})
    assert columns.deciding(None, rows) == rows


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_frontier_beats_all_others_and_nothing_beats_it(points):
    named = dict(enumerate(points))
    front = best(named)
    assert front
    for name, (a, b) in named.items():
        rivals = [(x, y) for x, y in points if x <= a and y <= b and (x, y) != (a, b)]
        assert (name in front) == (not rivals)


def test_the_chart_has_a_point_per_method_and_measure():
    table = {"a & b": row(mse=0.1, preserved=0.5, cycle=0.2), "c": row(mse=0.01, preserved=0.4), "d": row(mse=0.2)}
    root = ElementTree.fromstring(frontier_chart(table))
    names = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"1 a & b", "2 c", "3 d", "preserved at equal success"} <= set(names)
    assert "cycle at equal success" not in names, "one method alone has it"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 2
    assert frontier_chart({"a": row(mse=0.1)}) == ""


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(quick_compilation, quick_whitening, colour_rows, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    G = tiny_generator()
    G.with_part(colour_encoder(G, 0).kind, colour_encoder(G, 0)).save(folder / "g.safetensors")
    (folder / "images").mkdir()
    for i, image in enumerate(tiny_images(4)):
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
    ones = np.ones(16, np.float32)
    save_directions(folder / "d.safetensors", [Direction(name="light", space=s, vector=ones) for s in "wz"])
    labels = (("light", ("no", "yes")), ("shape", ("a", "b", "c")))
    config = AttributesConfig(labels=labels, resolution=16, widths=(4, 8))
    binary = {"light": BinaryAttribute("light", ("yes",), ("no",))}
    classifier = Attributes(config=config, params=initial_params(config, jax.random.key(42)), binary=binary)
    save_attributes(folder / "attributes.safetensors", classifier)
    assert command(folder, folder / "out") == 0
    return folder


def command(work: Path, out: Path, *more: str) -> int:
    edits = [
        ("directions", (str(work / "d.safetensors"),)), ("attributes", str(work / "attributes.safetensors")),
        ("strengths", (0.0, 2.0)), ("levels", (0.5,)), ("batch_size", 4),
    ]  # fmt: skip
    claims = ("styleres_e4e", "styleres_hfgi", "styleres_hyperstyle", "fzplus")
    words = [
        "compare",
        work / "images",
        "--config=all_methods",
        "--generator",
        work / "g.safetensors",
        "--batch_size=2",
    ]
    words += [f"--config.edit_overrides={edits!r}", f"--config.encoders={work}"]
    words += ["--presets=e4e,psp@psp.safetensors,w", "--config.most_steps=1", "--count=3"]
    words += ["--config.cells=('e4e then colour', 'e4e then hfgi', 'w then colour')"]
    for name, candidate in zip(claims, ("e4e then colour",) * 3 + ("w",), strict=True):
        words += [f"--config.claims.{name}.candidate=('{candidate}',)"]
    words += ["--config.claims.styleres_hyperstyle.baseline=('w then colour',)"]
    words += ["--config.claims.fzplus.baseline=('psp',)", *more, "--out", out]
    return main([str(word) for word in words])


@pytest.mark.slow
def test_one_command_ranks_what_there_is(work):
    out = work / "out"
    table = {line["method"]: line for line in lines(out / "methods.csv")}
    assert list(table) == ["e4e", "e4e then colour", "w", "w then colour"]
    assert "preserved" not in table["w"] and "LEC" not in table["w"], "no column at one strength"
    assert all(float(line["MS-SSIM"]) <= 1 for line in table.values())
    both = {name: float(line["s in all"]) for name, line in table.items()}
    assert both["e4e then colour"] == pytest.approx(both["e4e"] + float(table["e4e then colour"]["s per image"]))
    ranks = {line["method"]: line for line in lines(out / "ranks.csv")}
    assert list(ranks) == list(table)
    for name, line in table.items():
        assert (ranks[name]["editing"] == "") == (line.get("preserved at equal success", "") == ""), name
    errors = [float(line["MSE"]) for line in table.values()]
    assert ranks[list(table)[int(np.argmax(errors))]]["reconstruction"] != "1.0"
    claims = {line["claim"] for line in lines(out / "claims.csv")}
    assert claims == {"styleres_e4e", "styleres_hfgi", "styleres_hyperstyle"} - {"styleres_hfgi"}
    quality = json.loads((out / "edits" / "quality.json").read_text())
    assert quality["real"]["images"] == 4, "the images given, beyond --count too"
    text = (out / "methods.md").read_text()
    told = next(line for line in text.splitlines() if line.startswith("Ranks, 1 the best"))
    assert "KID at equal success" in table["w"] and "KID" not in told, "of four images it means nothing"
    assert '" is not judged: psp is not among the methods.' in text
    assert '"StyleRes edits better than HyperStyle at equal fidelity" is **not confirmed**' in text


@pytest.mark.slow
def test_report_writes_the_same_files_again(work, capsys):
    out = work / "out"
    files = [
        p for p in (*out.iterdir(), *(out / "edits").iterdir()) if p.suffix in (".md", ".csv", ".svg", ".html", ".png")
    ]
    before = {p: p.read_bytes() for p in files}
    for p in files:
        p.unlink()
    assert main(["report", str(out)]) == 0
    assert {p: p.read_bytes() for p in files} == before
    assert capsys.readouterr().out.strip() == str(out / "report.html")


@pytest.mark.slow
def test_report_is_of_the_runs_that_have_begun(work, tmp_path):
    out = Path(shutil.copytree(work / "out", tmp_path / "out"))
    shutil.rmtree(out / "w_then_colour")
    assert main(["report", str(out)]) == 0
    assert [line["method"] for line in lines(out / "methods.csv")] == ["e4e", "e4e then colour", "w"]
    assert '"StyleRes edits better than HyperStyle at equal fidelity" is not judged' in (out / "methods.md").read_text()
    (out / "e4e" / "run.json").write_text("{")
    assert main(["report", str(out)]) == 2
