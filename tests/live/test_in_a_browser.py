"""The studio in Chromium: upload to saved edit, two clients at once, reload, keyboard, a phone, and as a widget."""

import base64
import io
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from served import tiny_directions

import lsap_jax
from lsap_jax.pixels import to_uint8
from lsap_jax.storage.file_bytes import image_from_png
from lsap_jax.storage.pictures import save_png
from lsap_jax.testing import tiny_images

pytestmark = pytest.mark.slow
PREFIX = "data:image/png;base64,"
QUIET = "disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"


@pytest.fixture(scope="module")
def G(studio):
    return studio.G


@pytest.fixture(scope="module")
def address(port) -> str:
    return f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[Path]:
    """Pictures as files."""
    folder = tmp_path_factory.mktemp("samples")
    return [save_png(folder / f"k{i}.png", image) for i, image in enumerate(tiny_images(3, 16))]


@pytest.fixture(scope="module")
def new_browser(tmp_path_factory) -> Iterator[Callable]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("needs chromium and chromedriver on the PATH")
    opened = []

    def new():
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for flag in ["headless=new", "no-sandbox", "disable-dev-shm-usage", *QUIET.split()]:
            options.add_argument(f"--{flag}")
        options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        opened.append(webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)))
        return opened[-1]

    yield new
    for one in opened:
        one.quit()


@pytest.fixture(scope="module")
def sample(samples) -> tuple[str, np.ndarray]:
    path = samples[0]
    return str(path), image_from_png(path.read_bytes())


def wait(browser, condition: str, seconds: float = 240):
    """The first true value of a JavaScript expression."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := browser.execute_script(f"return {condition}"):
            return found
        time.sleep(0.05)
    text = browser.execute_script("return document.body.innerText")
    raise AssertionError(f"{condition} did not become true; the page says {text}")


def opened(browser, address: str, width: int = 1400) -> None:
    screen = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(address)
    wait(browser, "document.querySelector('.panel') !== null")


def press(browser, label: str) -> None:
    browser.execute_script(
        "[...document.querySelectorAll('button:enabled')].find((one) => one.textContent === arguments[0]).click()",
        label,
    )


def slide(browser, label: str, value: float) -> None:
    browser.execute_script(
        "const range = document.querySelector(`input[type=range][aria-label='${arguments[0]}']`);"
        "range.value = arguments[1]; range.dispatchEvent(new Event('input'));",
        label,
        value,
    )


def encode(browser, path: str) -> None:
    """A photograph through the encoder."""
    browser.find_element("css selector", "input[type=file]").send_keys(path)
    wait(browser, "document.querySelector('.shown img') !== null")
    before = browser.execute_script("return document.querySelectorAll('.strip li').length")
    press(browser, "Find codes")
    wait(browser, f"document.querySelectorAll('.strip li').length === {before + 1}")


def picture(browser) -> np.ndarray:
    source = browser.execute_script("return document.querySelector('figure.main img').src")
    return image_from_png(base64.b64decode(source.removeprefix(PREFIX)))


def caption(browser) -> str:
    return browser.execute_script("return document.querySelector('figure.main figcaption span').textContent")


def edited(G, image: np.ndarray, **strengths: float) -> np.ndarray:
    """What the library makes of one slider."""
    inv = lsap_jax.encode(G, None, image[None])
    ((name, strength),) = strengths.items()
    direction = next(one for one in tiny_directions() if (one.name, one.space) == (name, "w"))
    return to_uint8(lsap_jax.edit(G, inv.space, inv.codes, direction, [strength]).images[0, 0])


def test_upload_to_saved_edit(new_browser, address, sample, G):
    browser, (path, image) = new_browser(), sample
    opened(browser, address)
    assert "Drop a photograph" in browser.find_element("css selector", ".empty").text
    encode(browser, path)
    slide(browser, "smile", 1.5)
    wait(browser, "document.querySelector('figure.main figcaption span').textContent === 'smile +1.5'")
    expected = edited(G, image, smile=1.5)
    np.testing.assert_array_equal(picture(browser), expected)
    browser.execute_script(
        "window.saved = []; URL.createObjectURL = (blob) => { window.saved.push(blob); return '#'; }"
    )
    press(browser, "Save pictures and codes")
    wait(browser, "window.saved.length === 1")
    data = browser.execute_async_script(
        "const done = arguments[0], reader = new FileReader(); reader.onload = () => done(reader.result.split(',')[1]);"
        "reader.readAsDataURL(window.saved[0])"
    )
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(data))) as packed:
        (name,) = [one for one in packed.namelist() if one.endswith("-edited.png")]
        np.testing.assert_array_equal(image_from_png(packed.read(name)), expected)
        commands = packed.read("commands.txt").decode()
    assert "--direction smile.safetensors --strengths=1.5" in commands and "lsap-jax encode" in commands
    assert wait(browser, "document.querySelector('pre code').textContent") == commands.strip()
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]

    # A reload brings photograph, take and sliders back.
    browser.refresh()
    wait(browser, "document.querySelector('figure.main figcaption span')?.textContent === 'smile +1.5'")
    np.testing.assert_array_equal(picture(browser), expected)

    # By keyboard: a step, and back to 0.
    range_ = browser.find_element("css selector", "input[type=range][aria-label='smile']")
    range_.send_keys("\ue014")  # the right arrow
    wait(browser, "document.querySelector('figure.main figcaption span').textContent === 'smile +1.55'")
    range_.send_keys("0")
    wait(browser, "!document.querySelector('figure.main figcaption span').textContent.includes('smile')")
    np.testing.assert_array_equal(picture(browser), to_uint8(lsap_jax.encode(G, None, image[None]).images[0]))


def test_two_clients_at_once(new_browser, address, samples, G):
    browsers, paths = [new_browser(), new_browser()], samples[1:]
    for browser, path in zip(browsers, paths, strict=True):
        opened(browser, address)
        encode(browser, str(path))
    press(browsers[0], "Surprise me")
    for browser, strength in zip(browsers, (1.0, -1.0), strict=True):
        slide(browser, "beard", strength)
    wait(browsers[1], "document.querySelector('figure.main figcaption span').textContent === 'beard −1'")
    image = image_from_png(paths[1].read_bytes())
    np.testing.assert_array_equal(picture(browsers[1]), edited(G, image, beard=-1.0))
    wait(browsers[0], "document.querySelectorAll('.strip li').length === 2")
    assert browsers[1].execute_script("return document.querySelectorAll('.strip li').length") == 1


def test_a_hostile_upload_is_explained_and_the_page_goes_on(new_browser, address, tmp_path):
    browser = new_browser()
    opened(browser, address)
    bad = tmp_path / "<img src=x onerror=window.hit=1>.png"
    bad.write_bytes(b"<svg onload='window.hit = 1'/>")
    browser.find_element("css selector", "input[type=file]").send_keys(str(bad))
    text = wait(browser, "!document.querySelector('.alarm').hidden && document.querySelector('.alarm').textContent")
    assert "not an image" in text and str(tmp_path) not in text
    assert browser.execute_script("return window.hit") is None
    press(browser, "begin with a random sample")
    wait(browser, "document.querySelectorAll('.strip li').length === 1")


def test_it_fits_a_phone_and_every_control_has_a_name(new_browser, address):
    browser = new_browser()
    opened(browser, address, width=390)
    press(browser, "begin with a random sample")
    wait(browser, "document.querySelectorAll('.strip li').length === 1")
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    nameless = browser.execute_script(
        "return [...document.querySelectorAll('button, input, select, progress, pre')].filter((one) => !("
        "one.getAttribute('aria-label') || one.textContent.trim() || one.closest('label')?.textContent.trim()))"
        ".map((one) => one.outerHTML)"
    )
    assert nameless == []
    assert browser.execute_script("return [...document.querySelectorAll('figure img')].every((one) => one.alt)")


def test_a_stopped_inversion_leaves_no_take(new_browser, address, sample):
    browser = new_browser()
    opened(browser, address)
    browser.find_element("css selector", "input[type=file]").send_keys(sample[0])
    wait(browser, "document.querySelector('.shown img') !== null")
    browser.execute_script(
        "const way = document.querySelector('option[value=w]').parentElement;"
        "way.value = 'w'; way.dispatchEvent(new Event('change'))"
    )
    press(browser, "Find codes")
    wait(browser, "document.querySelector('.progress').textContent.includes('loss')")
    press(browser, "Stop")
    wait(browser, "document.querySelector('.progress').hidden")
    assert browser.execute_script("return document.querySelectorAll('.strip li').length") == 0
    encode(browser, sample[0])  # the next one is served, as the old one ends


def test_the_module_is_a_widget(new_browser, address):
    """With a kernel that forwards messages to the operations."""
    browser = new_browser()
    opened(browser, address)
    started = browser.execute_async_script(
        """
        const done = arguments[0];
        const { default: widget } = await import("/studio.js");
        let hear, client = "";
        const model = {
          on: (event, heard) => { hear = heard; },
          async send({ call, name, request }) {
            const headers = { "content-type": "application/json", "studio-client": client };
            const answer = await fetch(`/api/${name}`, { method: "POST", headers, body: JSON.stringify(request) });
            for (const line of (await answer.text()).split("\\n").filter((one) => one.trim())) {
              const said = JSON.parse(line);
              if (name === "begin") client = said.done.client;
              hear({ call, ...said });
            }
          },
        };
        const el = document.createElement("div");
        el.id = "widget";
        document.body.replaceChildren(el);
        widget.render({ model, el });
        done(true);
        """
    )
    assert started
    wait(browser, "document.querySelector('#widget .panel') !== null")
    press(browser, "begin with a random sample")
    wait(browser, "document.querySelectorAll('#widget .strip li').length === 1")
    slide(browser, "smile", 2)
    wait(browser, "document.querySelector('#widget figure.main figcaption span').textContent === 'smile +2'")
