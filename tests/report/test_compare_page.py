"""The tables, the picture and the page of comparisons whose runs were not computed."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from test_report import HOSTILE, browser, column, open_report  # noqa: F401

from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison import files, runs, tables
from lsap_jax.pixels import to_float
from lsap_jax.report.comparison import charts, picture
from lsap_jax.report.comparison.sections import differences
from lsap_jax.report.comparison.write import write_comparison
from lsap_jax.report.links import comparison_above
from lsap_jax.report.page import escape
from lsap_jax.report.run_report import write_run_report
from lsap_jax.storage.checked_json import sealed
from lsap_jax.storage.labelled_grid import scaled
from lsap_jax.storage.metrics_table import metrics_csv, write_table
from lsap_jax.storage.results import read_manifest
from lsap_jax.storage.run_folder import RunFolder
from lsap_jax.testing import tiny_images

RUN = {
    "space": "f/z+", "steps": 300, "seed": 0, "perceptual": {"network": "lpips_vgg"},
    "generator": {"name": "g", "sha256": "ab" * 32, "img_resolution": 64},
    "config": {"space": "f/z+", "loss": {"mse": 1.0, "pn": 0.0}},
    "metrics": {
        "mse": {"formula": "mean of (a - b)²", "network": None, "also_loss": True},
        "psnr": {"formula": "10·log10(4 / MSE)", "network": None, "also_loss": False},
        "lpips_vgg": {"formula": "LPIPS", "network": "lpips_vgg", "also_loss": True},
    },
}  # fmt: skip


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def fake_comparison(out: Path, presets: dict[str, float], count: int = 6, missing=(), **config) -> Path:
    """A comparison whose runs were not computed: the MSE of image i in a preset is about its number.

    The second id is hostile; `missing` are (preset, index) of images that failed.
    """
    rng = np.random.default_rng(0)
    ids = [f"people/face_{i}" for i in range(count)]
    ids[1:2] = [HOSTILE]
    targets = np.repeat(np.repeat(rng.integers(0, 256, (count, 4, 4, 3)), 4, 1), 4, 2).astype(np.uint8)
    for number, (preset, level) in enumerate(presets.items()):
        space = {"space": preset, "config": {**RUN["config"], "space": preset}}
        with RunFolder.open(out / f"run{number}", {**RUN, **space}) as folder:
            for i, name in enumerate(ids):
                mse = float(level * rng.lognormal(0, 0.3))
                if (preset, i) in missing:
                    folder.fail(name, "the loss was not finite", "a.png")
                    continue
                folder.write(
                    name,
                    codes={"z": np.zeros(4, np.float32)},
                    images=np.clip(to_float(targets[i]) + np.sqrt(mse), -1, 1),
                    targets=targets[i],
                    curves={"mse": mse * (1 + np.exp(-np.arange(20) / 5)), "loss": np.ones(20)},
                    metrics={"mse": mse, "psnr": 10 * np.log10(4 / mse), "lpips_vgg": 3 * mse},
                    input_sha256=f"{i:064}",
                )
            folder.finish()
    settings = load_config("compare", {"presets": tuple(presets), **config}).to_dict()
    record = {
        "format": runs.LAYOUT.format, "config": settings, "ids": ids, "generator": RUN["generator"], "versions": {},
        "presets": [{"preset": preset, "folder": f"run{i}"} for i, preset in enumerate(presets)],
    }  # fmt: skip
    (out / "comparison.json").write_bytes(sealed(record))
    return out


def test_means_and_tests_are_over_the_images_that_every_preset_finished(tmp_path):
    presets = {"z": 0.3, "f/z+": 0.01, "bdinvert": 0.012}
    out = fake_comparison(tmp_path, presets, count=8, missing=[("z", 2), ("bdinvert", 5)])
    comparison = write_comparison(out)
    assert len(comparison.common) == 6 and not {"people/face_2", "people/face_5"} & set(comparison.common)
    assert {interval.n for interval in comparison.intervals.values()} == {6}
    assert {test.outcome.n for test in comparison.tests} == {6} and {e.failed for e in comparison.entries} == {
        ("people/face_2",), (), ("people/face_5",),
    }  # fmt: skip
    assert [entry.preset for entry in tables.ranking(comparison)] == ["f/z+", "bdinvert", "z"]
    assert len(rows(out / "per_image.csv")) == 8 * 3 - 2
    text = (out / "report.html").read_text()
    assert "<strong>6 images done</strong> by every preset" in text and "2 images left out" in text


def test_pages_lead_to_the_runs_to_the_edits_and_back(tmp_path):
    out = fake_comparison(tmp_path / "c & d", {"z": 0.3, "f/z+": 0.01}, edits="edit_quality")
    write_comparison(out)
    text = (out / "report.html").read_text()
    assert '<dt>edits</dt><dd><a href="edits/report.html">their quality</a></dd>' in text
    assert '<a href="run0/report.html">z</a>' in text
    back = '<dt>comparison</dt><dd><a href="../report.html">c &amp; d</a></dd>'
    assert back in write_run_report(out / "run0").read_text()
    assert comparison_above(out / "edits") == ("c & d", "../report.html") and comparison_above(out / "run0") is None
    assert comparison_above(tmp_path / "edits") is None
    write_comparison(fake_comparison(tmp_path / "bare", {"z": 0.3}))
    assert "their quality" not in (tmp_path / "bare" / "report.html").read_text()


def test_a_preset_without_any_image_does_not_empty_the_others(tmp_path):
    missing = [("z", i) for i in range(6)]
    comparison = write_comparison(
        fake_comparison(tmp_path, {"z": 0.3, "f/z+": 0.01, "bdinvert": 0.02}, missing=missing)
    )
    assert len(comparison.common) == 6 and ("z", "mse") not in comparison.intervals
    assert [row["images"] for row in rows(tmp_path / "comparison.csv")] == ["0", "6", "6"]
    assert tables.best(comparison, "mse") == {"f/z+"}


def test_nothing_finished_at_all_is_still_a_page(tmp_path):
    out = fake_comparison(
        tmp_path,
        {"f/z+": 0.1, "bdinvert": 0.1},
        count=2,
        missing=[(p, i) for p in ("f/z+", "bdinvert") for i in (0, 1)],
    )
    (out / "grid.png").write_bytes(b"of an earlier comparison")
    comparison = write_comparison(out)
    assert comparison.common == () and comparison.tests == () and "share no finished image" in comparison.untested
    assert not (out / "grid.png").exists() and "0 images done" in (out / "report.html").read_text()
    assert files.summary_text(comparison).count("–") == 2


def test_added_metrics_are_compared_and_described(tmp_path):
    """As `lsap-jax evaluate` leaves them; NSCD has no best, its layers no columns."""
    out = fake_comparison(tmp_path, {"f/z+": 0.1, "bdinvert": 0.2})
    for folder in ("run0", "run1"):
        manifest = read_manifest(out / folder)
        added = {id: {**one["metrics"], "ssim01": 0.5, "nscd": 0.1, "nscd_00": 0.2} for id, one in manifest.items()}
        write_table(out / folder, metrics_csv(added))
        described = {"metrics": {"ssim01": {"formula": "as published", "network": None}}}
        (out / folder / "evaluation.json").write_bytes(sealed(described))
    comparison = write_comparison(out)
    assert comparison.metrics == ("mse", "psnr", "ssim01", "lpips_vgg", "nscd") and comparison.distance == "lpips_vgg"
    assert tables.best(comparison, "ssim01") == {"f/z+", "bdinvert"} and tables.best(comparison, "nscd") == set()
    assert "nscd" not in {test.metric for test in comparison.tests}
    assert "as published" in (out / "report.html").read_text()


def test_runs_of_different_pictures_are_not_compared(tmp_path):
    out = fake_comparison(tmp_path / "a", {"f/z+": 0.1, "bdinvert": 0.2})
    manifest = out / "run1" / "manifest.jsonl"
    records = [{**record, "input_sha256": "f" * 64} for record in read_manifest(out / "run1").values()]
    manifest.write_bytes(b"".join(map(runs.atomic.encode_record, records)))
    with pytest.raises(LsapError, match="is not the same picture in run0 and run1"):
        write_comparison(out)


def test_published_numbers_stand_beside_ours(tmp_path):
    published = {
        "one": {"source": "A <i>paper</i>", "note": "n", "rows": {"f/z+": {"mse": 0.02}, "theirs": {"ssim01": 0.6}}},
        "two": {"source": "A figure", "note": "", "rows": {"f/z+": {"lpips_vgg": (0.1, 0.2)}}},
    }
    out = fake_comparison(tmp_path, {"f/z+": 0.1, "bdinvert": 0.2})
    record = json.loads((out / "comparison.json").read_text())
    record["config"]["published"] = published
    del record["check"]
    (out / "comparison.json").write_bytes(sealed(record))
    comparison = write_comparison(out)
    text = (out / "report.html").read_text()
    ours = comparison.intervals["f/z+", "mse"].mean
    part = text[text.index('id="published"') : text.index('id="loss"')].replace("<wbr>", "")
    assert f"<td>{ours:#.4g}</td><td>0.02000</td>" in part and "<td>0.1500</td>" in part  # of a figure, its mean
    assert "theirs" in part and "A &lt;i&gt;paper" in part and "No run of this comparison has ssim01" in part
    assert 'class="diamond"' in text


def test_the_page_stands_alone_and_escapes_what_comes_from_outside(tmp_path):
    out = fake_comparison(
        tmp_path / "a <i>name</i>", {"<u>odd</u>": 0.1, "bdinvert": 0.2}, **{"test.candidate": "<u>odd</u>"}
    )
    first = (write_comparison(out), (out / "report.html").read_bytes())[1]
    text = first.decode()
    outside = set(re.findall(r'(?:src|href|action|poster|data)="(?!data:|#)([^"]*)"', text))
    assert outside == {"run0/report.html", "run1/report.html"} and "url(" not in text and "https://" not in text
    assert HOSTILE not in text and escape(HOSTILE) in text and "<u>" not in text and "<i>" not in text
    assert len(re.findall("<script", text)) == 1 and text.count("data:image/png") == 5 * 3
    for title in ("Results", "Images", "Order by MSE", "Non-inferiority", "Loss", "Setup"):
        assert f"<h2>{title}</h2>" in text
    write_comparison(out)
    assert (out / "report.html").read_bytes() == first


def test_a_damaged_picture_or_curve_does_not_stop_the_page(tmp_path):
    out = fake_comparison(tmp_path, {"f/z+": 0.1, "bdinvert": 0.2}, count=2)
    for path in ("run0/images/people/face_0.png", "run1/curves/people/face_0.npz"):
        (out / path).write_bytes(b"cut")
    write_comparison(out)
    text = (out / "report.html").read_text()
    assert text.count("missing or changed") == 1 and text.count('class="multiple"') == 2


def test_words_of_the_tests_follow_the_numbers(tmp_path):
    comparison = write_comparison(fake_comparison(tmp_path, {"f/z+": 0.001, "bdinvert": 0.5}, count=8))
    text = (tmp_path / "report.html").read_text()
    assert all(test.passed(0.05) for test in comparison.tests) and "not shown</span>" not in text
    assert "(5 % of the mean of bdinvert)" in text and "at a margin of 1e-8" in text
    few = fake_comparison(tmp_path / "few", {"f/z+": 0.001, "bdinvert": 0.5}, count=4)
    write_comparison(few)
    assert "With 4 pairs the signed-rank test cannot go below p = 0.0625" in (few / "report.html").read_text()


def test_chosen_images_are_spread_over_the_order(tmp_path):
    comparison = write_comparison(fake_comparison(tmp_path, {"f/z+": 0.1}, count=11, grid=3))
    assert picture.chosen(comparison) == ["people/face_0", "people/face_5", "people/face_10"]
    write_comparison(fake_comparison(tmp_path / "none", {"f/z+": 0.1}, count=3, grid=0))
    assert not (tmp_path / "none" / "grid.png").exists()


def test_pictures_are_enlarged_by_integers_or_reduced():
    small = tiny_images(1, 64, channels=1)[0]
    assert scaled(small).shape == (192, 192, 3)
    np.testing.assert_array_equal(scaled(small)[::3, ::3, :1], small)
    assert scaled(np.zeros((512, 512, 3), np.uint8)).shape == (256, 256, 3)
    assert scaled(np.zeros((256, 256, 3), np.uint8)).shape == (256, 256, 3)
    line = picture.Line(id="имя" * 40, target=None, pictures={"z": small}, metrics={"z": {"mse": 0.5}})
    assert picture.draw([line], ["lpips", "mse"]).shape == (12 + 20 + 192 + 20 + 12 + 20, 12 + 2 * 204, 3)
    assert picture.caption({"mse": 0.5}, ["lpips", "mse"]) == "– / 0.500"


def test_charts_share_axes_and_draw_every_path_once():
    curves = {"a": np.array([1.0, 0.1, np.nan]), "b": np.array([0.5, 0.2, 0.01]), "none": np.array([np.nan])}
    drawn = charts.multiples(curves, "mse")
    assert drawn["none"] == "" and "".join(drawn.values()).count("<path") == 2
    assert 'href="#curve-1"' in drawn["a"] and 'id="curve-0"' in drawn["a"] and "1.00 to 0.100" in drawn["a"]
    assert "nan" not in "".join(drawn.values())
    assert charts.multiples({"none": np.array([np.nan])}, "mse") == {"none": ""}
    for low, high in ((0.01, 0.5), (0.12, 0.13), (1e-6, 10.0), (0.5, 0.5)):
        found = charts.ticks(low, high, True)
        assert 1 <= len(found) <= 6 and all(low * 0.999 <= tick <= high * 1.001 for tick in found)


def test_differences_are_keys_that_vary():
    configs = [{"space": "z", "loss": {"pn": 0.0, "mse": 1.0}}, {"space": "w", "loss": {"mse": 1.0}}]
    assert differences(configs) == [("space", "z", "w"), ("loss.pn", "0.0", "–")]
    assert differences(configs[:1]) == []


def test_page_in_a_browser_sorts_enlarges_and_fits_a_phone(browser, tmp_path):  # noqa: F811
    out = fake_comparison(tmp_path, {"z": 0.3, "f/z+": 0.01, "f/z": 0.05, "bdinvert": 0.012})
    write_comparison(out)
    open_report(browser, out / "report.html")
    assert column(browser, 0) == ["z", "f/z+", "f/z", "bdinvert"]
    head = browser.find_elements("css selector", "#table th button")[1]
    head.send_keys("\n")
    assert column(browser, 0) == ["f/z+", "bdinvert", "f/z", "z"]
    assert head.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    head.click()
    assert column(browser, 0) == ["z", "f/z", "bdinvert", "f/z+"]
    browser.find_elements("css selector", "#table th button")[0].click()
    assert column(browser, 0) == ["z", "f/z+", "f/z", "bdinvert"]
    assert len(browser.find_elements("css selector", "th[aria-sort=ascending], th[aria-sort=descending]")) == 1

    browser.find_elements("css selector", "#pictures tbody td button")[4].click()  # the hostile one in z
    dialog = browser.find_element("id", "zoom")
    title, shown = dialog.find_element("tag name", "h3"), "return document.querySelector('#zoom .pair').textContent"
    assert dialog.is_displayed() and title.text == HOSTILE and "z: " in browser.execute_script(shown)
    dialog.find_element("css selector", "[data-step='1']").click()
    assert "f/z+: " in browser.execute_script(shown) and len(dialog.find_elements("tag name", "img")) == 2
    dialog.find_element("css selector", "[data-step='0']").click()
    assert not dialog.is_displayed()
    widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert len(widths) >= 25 and all(width > 0 for width in widths)
    assert browser.execute_script("return getComputedStyle(document.querySelector('.others use')).strokeWidth") == "1px"
    assert not [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    open_report(browser, out / "report.html", width=390)
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
