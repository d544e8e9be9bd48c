"""What a client can ask for: pictures that are those of the library, archives whose commands do the same, refusals."""

import base64
import importlib
import io
import shlex
import zipfile
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from served import Client, serving, tiny_directions
from small_runs import write_run

import lsap_jax
from lsap_jax.cli import main
from lsap_jax.cli.arguments import parse
from lsap_jax.configuration import load_config
from lsap_jax.editing.direction import family
from lsap_jax.editing.named import METHODS
from lsap_jax.live import commands
from lsap_jax.live.embedding import WAYS
from lsap_jax.live.gallery import gallery
from lsap_jax.live.session import MOST_TAKES, Sessions
from lsap_jax.live.sliders import Slider, combined, is_known
from lsap_jax.live.studio import make_studio
from lsap_jax.live.upload import MOST_BYTES, MOST_PIXELS, plain_name
from lsap_jax.pixels import to_uint8
from lsap_jax.spaces import parse_space
from lsap_jax.storage.file_bytes import arrays_from_npz, image_from_png, png_bytes
from lsap_jax.storage.results import read_run
from lsap_jax.testing import tiny_generator, tiny_images

PNG = png_bytes(tiny_images(1, 16)[0])
PREFIX = "data:image/png;base64,"


def pixels(url: str) -> np.ndarray:
    assert url.startswith(PREFIX)
    return image_from_png(base64.b64decode(url.removeprefix(PREFIX)))


def encoded_take(client: Client) -> dict:
    return client.ask("take", photo=client.photo(PNG)["key"], way="encode")["take"]


def shown(client: Client, take: str, *sliders: dict, **more) -> np.ndarray:
    (one,) = client.ask("picture", takes=[{"take": take}], sliders=list(sliders), **more)["pictures"]
    return pixels(one["picture"])


def test_a_photograph_becomes_what_the_library_makes_of_it(studio, client):
    found = client.photo(PNG, "dir/../My face.PNG")
    assert found["name"] == "My face.PNG"
    np.testing.assert_array_equal(pixels(found["picture"]), tiny_images(1, 16)[0])
    *progress, last = client.lines("take", photo=found["key"], way="w+", steps=25)
    steps = [one["progress"]["step"] for one in progress if "loss" in one["progress"]]
    assert steps == sorted(steps) and steps[-1] == 25 and len(steps) > 1
    inv = lsap_jax.invert(studio.G, tiny_images(1, 16), "w+", 25, ids=["My face"], chunk=10)
    take = last["done"]["take"]
    np.testing.assert_array_equal(pixels(take["picture"]), to_uint8(inv.images[0]))
    assert take["metrics"]["mse"] == float(inv.metrics["mse"][0]) and take["id"] == "My face"


def test_a_slider_is_an_edit_and_all_at_zero_is_the_take(studio, client):
    take = encoded_take(client)
    inv = lsap_jax.encode(studio.G, None, tiny_images(1, 16), ids=["a"])
    smile = studio.directions["w"]["smile"]
    for strength, layers in ((1.35, ""), (-2.0, "coarse")):
        edited = lsap_jax.edit(studio.G, inv.space, inv.codes, smile, [strength], layers=layers or None)
        found = shown(client, take["key"], {"name": "smile", "strength": strength, "layers": layers})
        np.testing.assert_array_equal(found, to_uint8(edited.images[0, 0]))
        assert (found != pixels(take["picture"])).any()
    still = shown(client, take["key"], {"name": "smile", "strength": 0}, {"name": "beard", "strength": 0.0})
    np.testing.assert_array_equal(still, pixels(take["picture"]))


@pytest.mark.parametrize("name", ["w+", "z+", "s"])
def test_sliders_commute_and_leave_other_layers_alone(studio, name):
    G, space = studio.G, parse_space(name)
    z = np.random.default_rng(0).standard_normal((1, 16), np.float32)
    codes = {
        space.key: np.asarray(space.from_ws(G, G.mapping(z))) if name != "z+" else np.repeat(z[:, None], G.num_ws, 1)
    }
    codes = {key: np.asarray(a) for key, a in space.retract(codes).items()}
    known = list(studio.directions[family(space)].values())
    sliders = [
        Slider(direction=known[0], strength=1.5, layers="0-1"),
        Slider(direction=known[1], strength=-0.5, layers="1"),
    ]
    found = combined(G, space, sliders)
    assert found is not None and found[1] == 1.0
    there, back = (
        lsap_jax.edit(G, space, codes, combined(G, space, order)[0], [1.0]) for order in (sliders, sliders[::-1])
    )
    np.testing.assert_allclose(there.codes[space.key], back.codes[space.key], rtol=1e-6, atol=1e-6)
    still = ~space.reached(G, (0, 1))
    np.testing.assert_array_equal(
        *(np.where(still, c[space.key], 0)[0] for c in (codes, {space.key: there.codes[space.key][0]}))
    )
    assert (there.codes[space.key][0] != codes[space.key]).any()
    cancelling = [Slider(direction=known[0], strength=x) for x in (1.0, -1.0)]
    assert combined(G, space, cancelling) is None


def test_no_slider_compiles_anything(client):
    take, other = encoded_take(client), client.ask("sample", seed=3)["take"]
    shown(client, take["key"], {"name": "smile", "strength": 1.0})
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))
    for strength in (0.5, -1.25, 3.0):
        shown(client, take["key"], {"name": "beard", "strength": strength, "layers": "coarse"})
        both = [{"name": "smile", "strength": strength, "layers": "0"}, {"name": "beard", "strength": 1.0}]
        shown(client, take["key"], *both, blend={"with": other["key"], "t": abs(strength) / 4})
        shown(client, take["key"], *both, blend={"with": other["key"], "layers": "coarse"})
    assert not [name for name in compiled if "compile" in name]


def test_samples_mixes_and_ways_are_those_of_the_library(studio, client):
    a, b = (client.ask("sample", seed=seed, psi=0.7)["take"] for seed in (0, 5))
    z = np.stack([np.random.RandomState(seed).randn(16) for seed in (0, 5)]).astype(np.float32)
    ws = np.asarray(studio.G.mapping(z, truncation_psi=0.7))
    images = lsap_jax.render(studio.G, "w+", {"w": ws}, 1)
    np.testing.assert_array_equal(pixels(a["picture"]), to_uint8(images[0]))
    half = lsap_jax.render(studio.G, "w+", {"w": (ws[:1] + ws[1:]) / 2})
    way = shown(client, a["key"], blend={"with": b["key"], "t": 0.5})
    assert np.abs(way.astype(int) - to_uint8(half[0])).max() <= 1
    np.testing.assert_array_equal(shown(client, a["key"], blend={"with": b["key"], "t": 1}), pixels(b["picture"]))
    mixed = np.where(np.arange(studio.G.num_ws)[:, None] < 2, ws[1], ws[0])
    found = shown(client, a["key"], blend={"with": b["key"], "layers": "0-1"})
    np.testing.assert_array_equal(found, to_uint8(lsap_jax.render(studio.G, "w+", {"w": mixed[None]})[0]))
    kept = client.ask("keep", take=a["key"], blend={"with": b["key"], "layers": "0-1"})["take"]
    np.testing.assert_array_equal(pixels(kept["picture"]), found)


@pytest.mark.slow
def test_what_is_saved_comes_out_of_its_commands(tmp_path, monkeypatch, quick_compilation):
    """The archive's command lines, run beside its files and the photograph, make the same pictures."""
    G = tiny_generator()
    G.save(tmp_path / "tiny.safetensors")
    sliders = [{"name": "smile", "strength": 1.5}, {"name": "beard", "strength": -2, "layers": "coarse"}]
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(PNG)
    with serving(make_studio(G, "some/where/tiny.safetensors", directions=tiny_directions())) as port:
        client = Client(port)
        client.begin()
        photo = client.photo(PNG)
        takes = [
            client.ask("take", photo=photo["key"], way="z+", steps=3)["take"],
            client.ask("sample", seed=7, psi=0.5)["take"],
        ]
        other = {"with": client.ask("sample", seed=8)["take"]["key"], "t": 0.3}
        for folder, take, blend in zip(
            ("photo", "sample", "blend"), [*takes, takes[1]], (None, None, other), strict=True
        ):
            Path(folder).mkdir()
            answer = client.ask("save", take=take["key"], sliders=sliders, blend=blend)
            (unedited,) = client.ask("picture", takes=[{"take": take["key"]}], blend=blend)["pictures"]
            for file in ("tiny.safetensors", *(["a.png"] if folder == "photo" else [])):
                Path(folder, file).write_bytes(Path(file).read_bytes())
            with zipfile.ZipFile(io.BytesIO(base64.b64decode(answer["data"]))) as packed:
                packed.extractall(folder)
            monkeypatch.chdir(tmp_path / folder)
            for line in Path("commands.txt").read_text().splitlines():
                program, *argv = shlex.split(line)
                assert program == "lsap-jax" and main(argv) == 0, line
            (own,) = Path("run/images").glob("*.png")
            id = own.stem
            np.testing.assert_array_equal(image_from_png(own.read_bytes()), pixels(unedited["picture"]))
            edited = image_from_png(Path(f"edits/images/{id}/together/1.png").read_bytes())
            name = id.removesuffix("-unedited")
            np.testing.assert_array_equal(edited, image_from_png(Path(f"{name}-edited.png").read_bytes()))
            assert (edited != pixels(take["picture"])).any()
            saved = arrays_from_npz(Path(f"{name}-edited.npz").read_bytes())
            for key, array in arrays_from_npz(Path(f"edits/codes/{id}/together/1.npz").read_bytes()).items():
                np.testing.assert_array_equal(array, saved[key])
            monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_a_command_of_the_same_configuration(way):
    flags = ["--align", "--steps", "7", "--config.chunk=3"]
    _, name, *argv = commands.embedding("my face.png", "G", way, flags, "")
    module = importlib.import_module(f"lsap_jax.cli.{name}")
    found = module.choose_config(parse(module, argv))
    assert found.to_dict() == load_config(way, {"align": True, "steps": 7, "chunk": 3}).to_dict()


def test_a_run_is_open(tmp_path, studio, quick_compilation):
    folder = write_run(tmp_path / "faces", studio.G, tmp_path / "g.safetensors", "f/z+", ("a/one", "two"))
    opened = gallery(folder, read_run(folder), studio.G)
    with serving(make_studio(studio.G, "g", gallery=opened)) as port:
        client = Client(port)
        found = client.begin()
        assert found["run"] == {"name": "faces", "count": 2} and not found["align"]
        assert client.ask("finished", query="ONE") == {"ids": ["a/one"], "count": 1}
        take = client.ask("finished_take", id="a/one")["take"]
        saved = image_from_png((folder / "images/a/one.png").read_bytes())
        np.testing.assert_array_equal(pixels(take["picture"]), saved)
        assert client.ask("lines", take=take["key"], sliders=[])["text"] == ""
        for id in ("three", "../faces/two", "a"):
            assert "not a finished image" in client.refused("finished_take", id=id)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (PNG[:60], "cut off"),
        (PNG[:80] + bytes(20) + PNG[100:], "damaged"),
        (b"P5 60000 60000 255\n", "scale it down"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 500, "cut off"),
        (b"lsap" * 5000, "not an image"),
    ],
)
def test_hostile_uploads_are_refused_by_name(client, data, why):
    text = client.refused("photo", name="/tmp/../x/evil.png", data=base64.b64encode(data).decode())
    assert text.startswith("evil.png: ") and why in text and "/" not in text.replace("PNM, JPEG", "")
    assert not client.begin()["photos"]


def test_uploads_are_bounded_in_bytes_and_pixels(client):
    side = int(MOST_PIXELS**0.5) + 1
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, "PNG")
    text = client.refused("photo", name="a.png", data=base64.b64encode(buffer.getvalue()).decode())
    assert "pixels" in text
    body = b'{"name": "a", "data": "' + b"A" * (MOST_BYTES * 4 // 3 + 2**13) + b'"}'
    status, data, _ = client.request("POST", "/api/photo", body, content_type="application/json")
    assert status == 413 and b"larger" in data


def test_names_become_plain():
    for name in (
        "../../etc/passwd",
        "C:\\Users\\me\\passwd",
        "/passwd",
        "a/./passwd",
        "..passwd",
        "-passwd",
        "\npasswd ",
    ):
        assert plain_name(name) == "passwd"
    assert plain_name("..") == plain_name("/") == plain_name("") == "photograph"


@pytest.mark.parametrize(
    ("operation", "asked", "why"),
    [
        ("picture", {"takes": [{"take": "t99"}]}, "no longer there"),
        ("picture", {"takes": [{"take": ["t1"]}]}, "take="),
        ("picture", {"takes": [{}] * 9}, "at most 8"),
        ("picture", {"takes": "t1"}, "takes="),
        ("take", {"photo": "p9", "way": "encode"}, "no longer there"),
        ("sample", {"seed": -1}, "seed=-1"),
        ("sample", {"seed": 1.5}, "seed=1.5"),
        ("sample", {"seed": 1, "psi": float("nan")}, "psi=nan"),
        ("photo", {"name": "a.png", "data": "?"}, "base64"),
        ("finished", {}, "no run"),
    ],
)
def test_requests_that_make_no_sense_are_explained(client, operation, asked, why):
    assert why in client.refused(operation, **asked)


def test_sliders_that_make_no_sense_are_explained(client):
    take = encoded_take(client)
    for one, why in (
        ({"name": "smile", "strength": 1e9}, "strength="),
        ({"name": "smile", "strength": True}, "strength="),
        ({"name": "smile", "strength": 1, "layers": "9-99"}, "layers"),
        ({"name": 3, "strength": 1}, "name=3"),
    ):
        assert why in client.refused("picture", takes=[{"take": take["key"]}], sliders=[one])
    for text in ("/etc/passwd", "../x.pt:smile", "random:1:code", "gradient:smile", "ganspace:0-4"):
        assert "write ganspace:K" in client.refused("direction", take=take["key"], direction=text)
    found = client.ask("direction", take=take["key"], direction="random:7")["direction"]["name"]
    assert (shown(client, take["key"], {"name": found, "strength": 2}) != pixels(take["picture"])).any()
    (one,) = client.ask("picture", takes=[{"take": take["key"]}], sliders=[{"name": "pose", "strength": 1}])["pictures"]
    assert one["missing"] == ["pose"]


def test_a_name_stands_for_a_direction_that_is_found_by_it(tiny):
    (own,) = METHODS["sefa"].find(tiny, "w", "1", None)
    assert own.name == "sefa-1" and is_known(tiny, own) and not is_known(tiny, replace(own, vector=-own.vector))
    (seventh,) = METHODS["random"].find(tiny, "z", "7", None)
    assert is_known(tiny, seventh) and not is_known(tiny, replace(seventh, scale=2.0))
    assert not is_known(tiny, replace(own, name="ganspace-1")), "it is of some samples, or of a file"
    assert not is_known(tiny, replace(own, name="sefa-999"))


def test_sessions_are_apart_and_bounded(port, client):
    take = encoded_take(client)
    stranger = Client(port)
    assert not stranger.begin()["takes"]
    assert "no longer there" in stranger.refused("picture", takes=[{"take": take["key"]}])
    again = client.begin()
    assert [one["key"] for one in again["takes"]] == [take["key"]] and len(again["photos"]) == 1
    for _ in range(MOST_TAKES - 1):
        client.ask("keep", take=take["key"])
    assert "remove one" in client.refused("keep", take=take["key"])
    client.ask("remove", key=take["key"])
    assert take["key"] not in [one["key"] for one in client.begin()["takes"]]
    sessions = Sessions(most=3)
    old, *_ = [sessions.new() for _ in range(4)]
    assert sessions.find(old.client) is None and sessions.find("") is None
