"""The report of a run folder: what it says, that it stands alone, and that it works in a browser."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsap_jax.cli import main
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.experiments.comparison.runs import LAYOUT as COMPARISON
from lsap_jax.pixels import to_float
from lsap_jax.report import charts
from lsap_jax.report.edit_report import write_edit_report
from lsap_jax.report.page import escape
from lsap_jax.report.preset import preset_of
from lsap_jax.report.run_report import _spread, write_run_report
from lsap_jax.report.sections import Row
from lsap_jax.storage.checked_json import encode_record, sealed
from lsap_jax.storage.metrics_table import write_table
from lsap_jax.storage.pictures import save_png
from lsap_jax.storage.results import RUN as RUN_LAYOUT
from lsap_jax.storage.results import read_manifest
from lsap_jax.storage.run_folder import RunFolder

HOSTILE = "<img src=x onerror=alert(1)>"
METRICS = ("mse", "psnr", "ssim", "perceptual")
RUN = {
    "space": "f/z+", "steps": 300, "seed": 0, "batch_size": 16, "devices": ["cpu:0"],
    "versions": {"lsap_jax": "0.1.0", "jax": "0.10.2"},
    "generator": {"name": "toonhead64", "sha256": "ab" * 32, "img_resolution": 64},
    "perceptual": {"network": "discriminator features of toonhead64", "scale": 1.2, "resolution": 64},
    "config": {
        "space": {"name": "f/z+", "f_resolution": 8}, "loss": {"mse": 1.0, "perceptual": 0.8, "base": 10.0},
        "optimizer": {"name": "adam", "lr": 0.05, "betas": [0.9, 0.999]}, "data": {"fit": "crop"},
    },
    "metrics": {
        name: {"range": "[-1, 1]", "resolution": "64x64", "quantisation": "none", "formula": "mean((a - b)²)",
               "network": None, "also_loss": name in ("mse", "perceptual")}
        for name in METRICS
    },
}  # fmt: skip


def fake_run(path: Path, n: int, images: np.ndarray | None = None, seed: int = 0) -> Path:
    """A run folder with ``n`` finished images (noisy copies of the targets) and, if n > 1, two failures.

    ``images`` are the targets, uint8 [n, H, W, 3], random blocks by default; the second id is hostile.
    """
    rng = np.random.default_rng(seed)
    if images is None:
        coarse = rng.integers(0, 256, (max(n, 1), 4, 4, 3))
        images = np.repeat(np.repeat(coarse, 8, 1), 8, 2).astype(np.uint8)
    names = [f"people/face_{i}" for i in range(n)]
    if n > 1:
        names[1] = HOSTILE
    records = []
    for i, (name, target) in enumerate(zip(names, images, strict=False)):
        output = np.clip(to_float(target) + rng.uniform(0.02, 0.15) * rng.normal(size=target.shape), -1, 1)
        mse = float(np.mean((to_float(target) - output) ** 2))
        values = [mse, 10 * np.log10(4 / mse), 1 - mse, rng.lognormal(-1.5, 0.4)]
        fall = (mse + 0.6 * np.exp(-np.arange(300) / 40)) * np.exp(rng.normal(0, 0.05, 300))
        deep = values[3] * (1 + 2 * np.exp(-np.arange(300) / 60))
        records.append({
            "id": name, "codes": {"z": np.zeros(4, np.float32)}, "images": output, "targets": target,
            "curves": {"mse": fall, "perceptual": deep, "loss": fall + 0.8 * deep},
            "metrics": dict(zip(METRICS, map(float, values), strict=True)), "input_sha256": "0" * 64,
            "flags": ["non-finite loss"] if i == 4 else [],
            "notes": ["animated: first of 12 frames"] if i % 7 == 3 else [],
        })  # fmt: skip
    with RunFolder.open(path, RUN) as folder:
        for record in records:
            folder.write(**record)
        if n > 1:
            folder.fail("broken/a", "truncated PNG", "a.png")
            folder.fail("<b>bold</b>", "<script>alert(2)</script>", "b.png")
        folder.finish()
    return path


def metrics_of(path: Path) -> dict[str, dict[str, float]]:
    return {name: record["metrics"] for name, record in read_manifest(path).items()}


def report_text(path: Path) -> str:
    return write_run_report(path).read_text("utf-8")


def test_report_tells_counts_means_failures_and_configuration(tmp_path):
    run = fake_run(tmp_path / "run", 6)
    text = report_text(run)
    metrics = metrics_of(run).values()
    assert "<strong>6 done</strong>" in text and "2 failed" in text
    for name in METRICS:
        mean = np.mean([own[name] for own in metrics])
        assert f"<dt>mean {name}</dt><dd>{mean:#.4g}</dd>" in text
    assert len(re.findall("also the loss", text)) == 2  # mse and perceptual, as run.json says
    assert "truncated PNG" in text and "non-finite loss" in text and "animated: first of 12 frames" in text
    assert "<dt>loss.<wbr>perceptual</dt><dd>0.8</dd>" in text and "ab" * 32 in text
    assert text.count("data:image/png;base64,") == 3 * 6  # target, reconstruction, difference
    assert text.count('class="curve"') == 3  # loss, mse, perceptual


def test_the_head_tells_the_preset_and_what_was_changed_of_it():
    config = load_config("f/z+:code", {"steps": 100, "batch_size": 3}).to_dict()
    run = json.loads(json.dumps({"preset": "f/z+:code", "config": config}))
    assert preset_of(run) == "f/z+:code, steps=100"
    assert preset_of({**run, "preset": "mine.py"}) == "mine.py", "a file of the user's is not run"
    assert preset_of({**run, "preset": "f/w+"}) == "f/w+, 6 keys changed"
    assert preset_of({"preset": "../../etc/x", "config": config}) == "../../etc/x"
    assert preset_of({"config": config}) == preset_of({"preset": 3}) == ""
    assert preset_of({"preset": "f/z+", "config": {"loss": 3, "space": {"x": 1}}}).startswith("f/z+")


def test_failures_come_with_their_inputs_and_pictures_from_the_worst_on(tmp_path):
    run = fake_run(tmp_path, 40)
    text = write_run_report(run, max_pictures=5, worst="psnr").read_text("utf-8")
    assert "<td>truncated PNG</td><td>a.png</td>" in text
    values = {index: own["psnr"] for index, own in enumerate(metrics_of(run).values())}
    shown = [int(row) for row in re.findall(r'<article class="card" id="image-(\d+)"', text)]
    assert set(shown) == set(sorted(values, key=values.get)[:5]) and "are embedded, the worst by psnr; the" in text
    assert 'data-sort="1" data-up="true"' in text
    assert 'data-sort="0" data-up="false"' in write_run_report(run, worst="mse").read_text("utf-8")
    with pytest.raises(LsapError, match="no image has the metric 'lpips'; there are mse, psnr"):
        write_run_report(run, worst="lpips")
    assert main(["report", str(run), "--worst=mse"]) == 0


def test_pages_of_a_run_its_edits_and_its_comparison_lead_to_each_other(tmp_path):
    runs = tmp_path / "all of it" / "a & b"
    run = fake_run(runs, 2)
    record = {
        "format": "lsap_jax edit 2", "space": "z", "series": [],
        "run": {"name": "a & b", "folder": "../a & b", "preset": "z", "config": {}},
        "generator": {"name": "g", "sha256": "ab" * 32, "img_resolution": 64},
    }  # fmt: skip
    edits = {name: runs.parent / name for name in ("smiles", "of another")}
    for name, folder in edits.items():
        folder.mkdir()
        own = {**record["run"], "folder": "../a & b" if name == "smiles" else "../other"}
        (folder / "edit.json").write_bytes(sealed({**record, "run": own}))
    write_run_report(run)
    text = write_edit_report(edits["smiles"]).read_text()
    assert '<dd><a href="../a%20%26%20b/report.html">a &amp; b</a></dd>' in text and "<dd>z</dd>" in text
    write_edit_report(edits["of another"])
    (tmp_path / "all of it" / "damaged").mkdir()
    (tmp_path / "all of it" / "damaged" / "edit.json").write_text("{")
    text = report_text(run)
    assert '<a href="../smiles/report.html">smiles</a>' in text and "of%20another" not in text
    assert "comparison</dt>" not in text
    compared = {"format": COMPARISON.format, "presets": [{"preset": "z", "folder": "a & b"}]}
    (runs.parent / "comparison.json").write_bytes(sealed(compared))
    assert '<dt>comparison</dt><dd><a href="../report.html">all of it</a></dd>' in report_text(run)


def test_report_needs_nothing_from_outside_and_escapes_user_text(tmp_path):
    text = report_text(fake_run(tmp_path / "a <i>name</i> & more", 4))
    assert not re.findall(r'(?:src|href|action|poster|data)="(?!data:|#)', text)
    assert "url(" not in text and "@import" not in text and "http://" not in text and "https://" not in text
    assert HOSTILE not in text and escape(HOSTILE) in text
    assert "<script>alert(2)" not in text and "<b>bold" not in text and "<i>name" not in text
    assert len(re.findall("<script", text)) == 1


def test_report_is_the_same_bytes_again(tmp_path):
    run = fake_run(tmp_path, 3)
    first = write_run_report(run).read_bytes()
    assert write_run_report(run).read_bytes() == first
    assert not list(run.glob(".lsap-*"))


def test_columns_added_to_metrics_csv_appear_and_unknown_names_are_escaped(tmp_path):
    run = fake_run(tmp_path, 3)
    write_table(run, b"id,mse,nscd,<u>odd</u>\npeople/face_0,0.25,0.125,\npeople/face_2,0.5,nan,7\n")
    text = report_text(run)
    assert 'data-column="4">nscd<' in text and "&lt;u&gt;odd" in text and "<u>" not in text
    assert "2 images without a finite value" in text  # nscd of the hostile one is absent, of face_2 not finite


def test_ids_that_are_numbers_are_no_metric(tmp_path):
    with RunFolder.open(tmp_path, RUN) as folder:
        target = np.zeros((8, 8, 3), np.uint8)
        folder.write(
            "009600", codes={"z": np.zeros(4, np.float32)}, images=to_float(target), targets=target,
            metrics={"mse": 0.25}, input_sha256="0" * 64,
        )  # fmt: skip
        folder.finish()
    text = report_text(tmp_path)
    assert "009600" in text and "9600.0" not in text and ">id</h3>" not in text and "mean id" not in text


def test_empty_and_bare_run_folders_give_a_page(tmp_path):
    assert "No image of this run is finished yet" in report_text(fake_run(tmp_path / "none", 0))
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "run.json").write_bytes(sealed({"format": RUN_LAYOUT.format}))
    assert "<strong>0 done</strong>" in report_text(bare)
    bones = {"input_sha256": "0" * 64, "metrics": {}, "flags": [], "notes": []}
    records = [{"id": "a", "sha256": {}, **bones}, {"id": "b", "sha256": {"images": "0" * 64}, **bones}]
    (bare / "manifest.jsonl").write_bytes(b"".join(map(encode_record, records)) + b'{"id": "cut o')
    text = report_text(bare)
    assert "<strong>2 done</strong>" in text and text.count("missing or changed") == 6


def test_a_damaged_picture_or_curve_does_not_stop_the_page(tmp_path):
    run = fake_run(tmp_path, 3)
    png, npz = run / "images/people/face_0.png", run / "curves/people/face_0.npz"
    png.write_bytes(png.read_bytes()[:50])
    npz.write_bytes(npz.read_bytes()[:50])
    text = report_text(run)
    assert text.count("missing or changed") == 2 and "band over 2 images of 3" in text


def test_ids_never_lead_out_of_the_run_folder(tmp_path):
    secret = save_png(tmp_path / "secret.png", np.zeros((8, 8, 3), np.uint8))
    run = fake_run(tmp_path / "run", 0)
    (run / "images").mkdir()
    digest = hashlib.sha256(secret.read_bytes()).hexdigest()
    for name in ("../../secret", str(tmp_path / "secret"), "nul\0byte", "caf\udce9"):
        record = {"id": name, "sha256": {"images": digest}, "metrics": {"mse": 1.0}}
        (run / "manifest.jsonl").write_bytes(encode_record(record))
        with pytest.raises(LsapError, match="holds a record that cannot be of this package: the id '"):
            report_text(run)


def test_what_is_no_run_folder_or_a_damaged_one_is_refused_by_name(tmp_path):
    with pytest.raises(LsapError, match="no run.json"):
        write_run_report(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(LsapError, match="damaged"):
        write_run_report(tmp_path)
    run = fake_run(tmp_path / "run", 2)
    manifest = run / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes().replace(b'"mse": 0.', b'"mse": 1.', 1))
    with pytest.raises(LsapError, match="line 1 has changed"):
        write_run_report(run)


def test_large_runs_embed_a_stated_even_choice_and_list_every_image(tmp_path):
    run = fake_run(tmp_path, 40)
    text = write_run_report(run, max_pictures=5).read_text("utf-8")
    assert text.count('<article class="card"') == 5 and text.count("<tr data-values=") == 40
    assert "Pictures of 5 of the 40 finished images are embedded, evenly spread over the ranking by mse" in text
    shown = {int(row) for row in re.findall(r'data-row="(\d+)"', text)}
    mse = [own["mse"] for own in metrics_of(run).values()]
    ranking = sorted(range(40), key=lambda i: mse[i])
    assert {ranking[0], ranking[-1]} <= shown
    small = write_run_report(run, max_bytes=20_000).read_text("utf-8")
    spent = sum(map(len, re.findall(r'src="(data:[^"]*)"', small)))
    assert 0 < spent <= 20_000 and small.count("<tr data-values=") == 40


@given(st.integers(0, 200), st.integers(0, 2**32 - 1))
def test_spread_visits_every_row_once_with_the_ends_first(n, seed):
    values = np.random.default_rng(seed).normal(size=n)
    rows = [Row(id=str(i), metrics={"mse": float(v)}) for i, v in enumerate(values)]
    order = list(_spread(rows, ["mse"]))
    assert sorted(order) == list(range(n))
    if n > 1:
        assert order[0] == values.argmin() and order[1] == values.argmax()
    places = np.sort(np.argsort(np.argsort(values))[order[: n // 4]])  # ranks of the first quarter shown
    if n > 40:
        assert np.diff(places).max() <= 12  # 4 apart if perfectly even


@given(
    st.lists(st.lists(st.floats(width=32), min_size=1, max_size=30), min_size=1, max_size=5),
    st.booleans(),
)
@settings(max_examples=60)
def test_charts_draw_any_curve_with_finite_coordinates(curves, positive):
    arrays = [np.abs(np.array(c, np.float32)) if positive else np.array(c, np.float32) for c in curves]
    svg, sentence = charts.band(arrays, "loss")
    finite = np.concatenate([a[np.isfinite(a)] for a in arrays])
    drawn = svg + "".join(charts.sparkline(a, "loss") for a in arrays)
    assert (svg == "") == (len(finite) == 0) and sentence
    if len(finite):
        drawn += charts.histogram(finite.astype(float), "mse")
    for coordinates in re.findall(r'(?: d|x1|x2|y1|y2|x|y|width|height)="([^"]*)"', drawn):
        assert "nan" not in coordinates and "inf" not in coordinates


def test_band_is_the_quantiles_of_the_curves():
    curves = [np.full(5, value, np.float32) for value in (1.0, 2.0, 4.0)]
    curves[2] = curves[2][:3]  # stopped early: later quantiles are over the other two
    steps, quantiles = charts._quantiles(curves)
    assert steps.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(quantiles[:, 0], np.quantile([1, 2, 4], [0.1, 0.5, 0.9]))
    np.testing.assert_allclose(quantiles[:, 4], np.quantile([1, 2], [0.1, 0.5, 0.9]))
    assert "linear scale" not in charts.band(curves, "mse")[1]
    assert "linear scale" in charts.band([np.array([0.0, 1.0])], "mse")[1]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("needs chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    quiet = "disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"
    for flag in ["headless=new", "no-sandbox", "disable-dev-shm-usage", *quiet.split()]:
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


def open_report(browser, path: Path, width: int = 1600) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(path.as_uri())


def column(browser, index: int) -> list[str]:
    cells = "return [...document.querySelectorAll('#table tbody tr')].map(row => row.cells[arguments[0]].textContent)"
    return browser.execute_script(cells, index)


def gallery(browser) -> list[str]:
    return browser.execute_script("return [...document.querySelectorAll('#gallery .card h3')].map(h => h.textContent)")


def test_page_in_a_browser_loads_sorts_and_filters(browser, tmp_path):
    run = fake_run(tmp_path, 30)
    lines = metrics_of(run)
    open_report(browser, write_run_report(run))
    widths = browser.execute_async_script(
        "const done = arguments[0], all = [...document.images];"
        "Promise.all(all.map(i => i.decode())).then(() => done(all.map(i => i.naturalWidth)), e => done(String(e)))"
    )
    assert len(widths) == 90 and all(width > 0 for width in widths)

    before = column(browser, 0)
    assert before == sorted(before, key=lambda name: (name != HOSTILE, int(name.split("_")[-1]) if "_" in name else 0))
    head = browser.find_element("css selector", "th button[data-column='3']")  # perceptual
    head.send_keys("\n")  # by keyboard
    ascending = sorted(lines, key=lambda name: lines[name]["perceptual"])
    assert column(browser, 0) == ascending != before and gallery(browser) == ascending
    assert head.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    head.click()
    assert column(browser, 0) == ascending[::-1] == gallery(browser)
    assert head.find_element("xpath", "..").get_attribute("aria-sort") == "descending"
    assert len(browser.find_elements("css selector", "th[aria-sort=descending], th[aria-sort=ascending]")) == 1

    box = browser.find_element("id", "filter")
    box.send_keys("face_2")
    assert sorted(column(browser, 0)) == sorted(name for name in lines if "face_2" in name)
    assert "of 30" in browser.find_element("id", "matches").text
    box.clear()
    box.send_keys("psnr>25 non-finite")
    assert column(browser, 0) == [n for n in ["people/face_4"] if lines[n]["psnr"] > 25]
    box.clear()
    box.send_keys("mse<=0.005")
    assert set(column(browser, 0)) == {name for name in lines if lines[name]["mse"] <= 0.005} != set(lines)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def test_the_worst_come_first_on_request(browser, tmp_path):
    run = fake_run(tmp_path, 12)
    lines = metrics_of(run)
    by_mse = sorted(lines, key=lambda name: -lines[name]["mse"])
    open_report(browser, write_run_report(run, worst="mse"))
    assert column(browser, 0) == by_mse == gallery(browser)
    open_report(browser, write_run_report(run))
    assert column(browser, 0) != by_mse
    browser.find_element("id", "worst").click()
    assert column(browser, 0) == by_mse, "by the first metric"
    browser.find_element("css selector", "#sort option[value='1']").click()  # psnr
    browser.find_element("id", "worst").click()
    assert column(browser, 0) == sorted(lines, key=lambda name: lines[name]["psnr"])


def test_hostile_ids_run_nothing_and_pictures_enlarge(browser, tmp_path):
    open_report(browser, write_run_report(fake_run(tmp_path, 3)))
    browser.execute_script("window.hit = 0; window.alert = () => { window.hit = 1; }")
    names = gallery(browser)
    assert HOSTILE in names
    browser.find_elements("css selector", "#gallery .open")[names.index(HOSTILE)].click()
    dialog = browser.find_element("id", "zoom")
    assert dialog.is_displayed() and dialog.find_element("tag name", "h3").text == HOSTILE
    assert len(dialog.find_elements("tag name", "img")) == 3
    dialog.find_element("css selector", "[data-step='1']").click()
    assert dialog.find_element("tag name", "h3").text == names[names.index(HOSTILE) + 1]
    dialog.find_element("css selector", "[data-step='0']").click()
    assert not dialog.is_displayed()
    assert browser.execute_script("return window.hit") == 0
    assert browser.execute_script("return [...document.images].every(image => image.src.startsWith('data:'))")
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_page_fits_a_phone_and_pages_long_tables(browser, tmp_path):
    run = fake_run(tmp_path, 120, images=np.random.default_rng(0).integers(0, 256, (120, 16, 16, 3)).astype(np.uint8))
    open_report(browser, write_run_report(run, max_pictures=30), width=390)
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.execute_script("return innerWidth") == 390
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert len(column(browser, 0)) == 100
    visible = "return [...document.querySelectorAll('#gallery .card')].filter(c => !c.hidden).length"
    assert browser.execute_script(visible) == 24
    browser.execute_script("document.getElementById('more').click()")
    assert browser.execute_script(visible) == 30
    first = column(browser, 0)
    browser.execute_script("document.getElementById('forth').click()")
    second = column(browser, 0)
    assert len(second) == 20 and not set(first) & set(second)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
