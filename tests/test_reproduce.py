"""benchmarks/reproduce.py and which_method.py: what they write into the docs, and that the docs have room for it."""

import csv
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lsap_jax.configuration import find_config

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"


def module(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found  # as dataclasses ask for it
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def reproduce():
    return module("reproduce")


@pytest.fixture(scope="module")
def which():
    return module("which_method")


# ---- the page of comparisons -----------------------------------------------------------------------------------------


def test_the_page_has_marks_for_every_step_and_no_others(reproduce):
    text = (ROOT / "docs" / reproduce.PAGE).read_text("utf-8")
    wanted = {name for name, step in reproduce.STEPS.items() if step.text is not None} | {"hours"}
    assert set(re.findall(r"<!-- (\w+): made by reproduce\.py -->", text)) == wanted
    for name in wanted:
        assert reproduce.marked(text, name, "new").count("\nnew\n") == 1
    for step in reproduce.STEPS.values():
        first, *words = step.words
        if first == "python":
            assert (FOLDER / words[0].removeprefix("{here}/")).is_file()
        for flag, value in zip(words, words[1:], strict=False):
            for name in value.split(",") if flag in ("--config", "--presets") else ():
                assert find_config(name)


def test_marks_are_filled_again_and_again_and_never_guessed(reproduce):
    page = "a\n<!-- x: made by reproduce.py -->\nold\n<!-- end of x -->\nb\n"
    once = reproduce.marked(page, "x", r"| \1 |")
    assert r"| \1 |" in once and "old" not in once and once.startswith("a\n") and once.endswith("\nb\n")
    assert reproduce.marked(once, "x", r"| \1 |") == once
    for wrong in (page + page, "nothing"):
        with pytest.raises(ValueError, match="pairs of marks for x"):
            reproduce.marked(wrong, "x", "")


def test_steps_are_run_once_and_put_into_the_docs(reproduce, tmp_path, monkeypatch, capsys):
    program = tmp_path / "step.py"
    program.write_text(
        "import pathlib, sys\n"
        "print('| a |\\n|---|\\n| 1 |\\nthree images')\n"
        "pathlib.Path('p.svg').write_text('<svg/>')\n"
        "pathlib.Path('p.png').write_bytes(pathlib.Path('../p.png').read_bytes())\n"
        "with open('calls', 'a') as file: file.write('x')\n"
        "sys.exit(int(sys.argv[1] == 'fail'))\n"
    )
    pictures = {"q.svg": "p.svg", "q.png": "p.png"}
    Image.new("RGB", (4, 3), (9, 99, 200)).save(tmp_path / "p.png")
    step = reproduce.Step(words=("python", str(program), "{images}"), text=reproduce.whole("x.log"), pictures=pictures)
    monkeypatch.setattr(reproduce, "STEPS", {"x": step})
    docs, out = tmp_path / "docs", tmp_path / "out"
    docs.mkdir()
    marks = "<!-- {0}: made by reproduce.py -->\n\n<!-- end of {0} -->\n"
    (docs / "comparison.md").write_text(f"# Title\n\n{marks.format('x')}\n{marks.format('hours')}")
    words = ["--docs", str(docs), "--out", str(out)]
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        reproduce.main([*words, "--images", "pack.npz"])
    assert (out / "calls").read_text() == "x", "done is done"
    text = (docs / "comparison.md").read_text()
    assert "| 1 |\n\nthree images\n\n![x](q.svg)\n\n![x](q.png)\n" in text
    assert (docs / "q.svg").read_text() == "<svg/>"
    with Image.open(docs / "q.png") as picture:
        assert picture.mode == "P" and picture.convert("RGB").getpixel((0, 0)) == (9, 99, 200)
    assert "| all | " in text and json.loads((out / "hours.json").read_text())["x"] > 0
    before = text
    reproduce.main([*words, "--write"])
    assert (docs / "comparison.md").read_text() == before
    failing = reproduce.Step(words=("python", str(program), "fail"), text=step.text)
    monkeypatch.setattr(reproduce, "STEPS", {"x": failing})
    with pytest.raises(SystemExit, match=r"x: the command ended with 1; .*x\.log"):
        reproduce.main([*words, "--images", "pack.npz"])
    assert not (out / "x.done").exists(), "other words are another step"
    with pytest.raises(SystemExit):
        reproduce.main([*words, "--images", "pack.npz", "--only", "y"])
    capsys.readouterr()


def test_a_table_over_the_steps_is_short(reproduce, tmp_path):
    rows = "".join(f"| w | {steps} | 0.1 |\n" for steps in (0, 24, 48, 96, 120, 300))
    (tmp_path / "x.log").write_text(f"| start | steps | MSE |\n|---|---|---|\n{rows}8 images\n")
    assert reproduce.few_steps("x.log")(tmp_path).splitlines() == [
        "| start | steps | MSE |",
        "|---|---|---|",
        *(f"| w | {steps} | 0.1 |" for steps in (0, 24, 96, 300)),
        "",
        "8 images",
    ]


def test_tables_of_presets_have_the_worst_first(reproduce, tmp_path):
    (tmp_path / "c").mkdir()
    rows = [
        {"preset": "w", "mse_mean": 0.5, "mse_low": 0.4, "mse_high": 0.625, "seconds_per_image_stepping": 2.0},
        {"preset": "z", "mse_mean": 0.75, "mse_low": 0.5, "mse_high": 1.0, "seconds_per_image_stepping": 1.25},
    ]
    write(tmp_path / "c" / "comparison.csv", rows)
    assert reproduce.presets_table("c")(tmp_path).splitlines() == [
        "| preset | MSE | s per image |",
        "| --- | --- | --- |",
        "| `z` | 0.75 (0.5–1) | 1.25 |",
        "| `w` | 0.5 (0.4–0.625) | 2 |",
    ]


@pytest.mark.parametrize("given", [(), ("DATA=pack.npz", "ONLY=spaces")])
def test_make_reproduce(given):
    done = subprocess.run(["make", "-n", "reproduce", *given], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "benchmarks/reproduce.py --images" in done.stdout
    assert ("--only spaces" in done.stdout) == bool(given)


# ---- which method ----------------------------------------------------------------------------------------------------


def write(file: Path, rows: list[dict]) -> None:
    with open(file, "w", newline="", encoding="utf-8") as target:
        table = csv.DictWriter(target, list(dict.fromkeys(head for row in rows for head in row)))
        table.writeheader()
        table.writerows(rows)


def numbers(name: str, mse: float, seconds: float, size: float, preserved: float, logit: float) -> dict:
    ends = {"MSE low": mse * 0.9, "MSE high": mse * 1.1}
    ends |= {"preserved at equal success low": preserved - 0.05, "preserved at equal success high": preserved + 0.05}
    own = {"MSE": mse, "s in all": seconds, "bytes per image": size, "preserved at equal success": preserved}
    return {"method": name, **own, "directions": 5, "logit at equal success": logit, **ends}


TABLE = (
    numbers("e4e", 0.4, 0.1, 1000, 0.95, -1),
    numbers("e4e then styleres", 0.2, 0.9, 1500, 0.8, -3),
    numbers("w then pti", 0.1, 60, 99999, 0.77, -2),
    numbers("z+", 0.5, 20, 1900, 0.9, -0.5),
    numbers("f/z+", 0.095, 30, 40000, 0.5, -5),
)
RANKS = {"e4e": (4, 1, 1), "e4e then styleres": (3, 3, 2), "w then pti": (2, 4, 5), "z+": (5, 2, 3), "f/z+": (1, 5, 4)}


def folder(tmp_path: Path, table=TABLE) -> Path:
    write(tmp_path / "methods.csv", list(table))
    ranks = [{"method": n, "reconstruction": a, "editing": b, "cost": c} for n, (a, b, c) in RANKS.items()]
    write(tmp_path / "ranks.csv", ranks)
    steps = {name: 0 if name.startswith("e4e") else 300 for name in RANKS}
    write(tmp_path / "comparison.csv", [{"preset": n, "steps": s, "images": 50} for n, s in steps.items()])
    record = {"generator": {"name": "a/toonhead64.safetensors", "sha256": "f" * 64, "img_resolution": 64}}
    (tmp_path / "comparison.json").write_text(json.dumps(record))
    return tmp_path


def test_each_situation_has_the_method_of_its_rule(which, tmp_path):
    rows, about = which.read(folder(tmp_path))
    assert about == "5 methods, measured with `toonhead64` (ffffffff…, 64 px) on 50 pictures."
    assert [which.chosen(one, rows) for one in which.SITUATIONS] == [
        ("f/z+", ["w then pti"]),  # 0.095 lies between 0.09 and 0.11
        ("e4e then styleres", []),  # PTI takes 600 times as long as e4e
        ("e4e then styleres", ["w then pti"]),  # e4e and z+ are above the median MSE
        ("w then pti", []),
        ("e4e then styleres", []),
        ("e4e", []),  # 6; StyleRes 8, PTI 11, F/Z+ 10
    ]
    which.main([str(tmp_path), "--out", str(tmp_path / "page.md")])
    page = (tmp_path / "page.md").read_text("utf-8")
    assert page.count("\n| ") == 2 + len(which.SITUATIONS)
    assert page.count("0.8; 5 directions reach it") == 1 and page.count("directions reach it") == 2
    assert "`lsap-jax encode IMAGES --generator G --refine styleres --out DIR`" in page
    assert "`lsap-jax invert IMAGES --generator G --config w --refine pti --out DIR`" in page
    assert which.command("psp", 0) == "lsap-jax encode IMAGES --generator G --encoder FILE --out DIR"


def test_what_was_not_measured_is_said(which, tmp_path):
    bare = [{key: row[key] for key in ("method", "MSE", "s in all")} for row in TABLE]
    page = which.page(*which.read(folder(tmp_path, bare)))
    assert "no method has preserved at equal success" in page and "no method has bytes" not in page
    assert "| Little room to keep them | – | no method has MSE" in page
    empty = which.page({}, "Nothing.")
    assert empty.count("| – |") == 2 * len(which.SITUATIONS)


def test_the_page_in_the_docs_states_the_rules_of_today(which):
    page, rules = (ROOT / "docs" / "which_method.md").read_text("utf-8"), which.page({}, "")
    assert page.partition("The rule of each row:")[2] == rules.partition("The rule of each row:")[2]
    assert "(docs/which_method.md)" in (ROOT / "README.md").read_text("utf-8")
