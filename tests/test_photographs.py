"""docs/photographs.md: its commands on stand-ins of true format, and its table of public checkpoints."""

import json
import re
import shlex
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import foreign_dialects as dialects
import foreign_files as files
import numpy as np
import pytest
from foreign_encoders import GENERATOR, residuals, styleres_checkpoint
from PIL import Image
from web_server import Site, served

from convert_weights.perceptual import BACKBONES
from lsap_jax import cli
from lsap_jax.cli.arguments import parse
from lsap_jax.models.published import PUBLISHED, SEE, markdown
from lsap_jax.networks.styleres import StyleResConfig
from lsap_jax.storage.web import parsed

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "photographs.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line) for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()
]
WIDTHS = (64, 128, 256, 512, 512)  # of VGG16's taps
# What makes the page's commands short; the photograph is small, and its face would be enlarged too much.
QUICK = {
    "align": ["--resolution", "256"],
    "invert": ["--steps", "2"],
    "refine": ["--config.refine.steps=2"],
}


def test_the_table_is_that_of_the_command(capsys):
    assert markdown() in PAGE, "python -m lsap_jax models --markdown prints it"
    assert cli.main(["models", "--markdown"]) == 0
    assert capsys.readouterr().out.strip() == markdown()


def test_checkpoints_are_told_with_what_a_user_needs(capsys):
    assert {one.role for one in PUBLISHED} == {
        "generator", "encoder", "refiner", "perceptual", "identity", "metric", "faces", "directions",
    }  # fmt: skip
    for one in PUBLISHED:
        assert all(one[:7]) and re.fullmatch(r"[\w.-]+/[\w.-]+", one.publisher)
        program, name, *argv = shlex.split(one.command)
        assert program == "lsap-jax" and parse(import_module(f"lsap_jax.cli.{name}"), argv) is not None
        if one.address:
            assert one.address.startswith("https://") and parsed(one.address).name == one.files[0]
        assert one.licence == SEE or re.search(r"MIT|BSD|CC|Apache|AGPL|License|none", one.licence)
    assert len({(one.publisher, one.files) for one in PUBLISHED}) == len(PUBLISHED)


def test_models_prints_the_table_and_what_is_here(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    assert all(one.command in out and one.licence in out and (one.address or one.page) in out for one in PUBLISHED)
    assert "toonhead64.safetensors" in out and "fetched     nothing" in out
    with served(Site({"/x.pt": b"\x80\x02weights"})) as site:
        assert cli.main(["convert", f"{site.address}/x.pt", str(tmp_path / "y")]) == 2
        assert cli.main(["models"]) == 0
        assert f"{site.address}/x.pt, 0.0 MB, SHA-256 " in capsys.readouterr().out
    assert cli.main(["models", "--search", "lsap_ffhq"]) == 0
    assert capsys.readouterr().out.count("licence:") == 1
    assert cli.main(["models", "--search", "nothing like it"]) == 2


@pytest.fixture
def reader(tmp_path) -> Path:
    """What a reader of the page has: a photograph of a face, and the files of others in their formats."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    astronaut = pytest.importorskip("skimage").data.astronaut()
    Image.fromarray(astronaut).save(tmp_path / "photos" / "astronaut.png")
    (tmp_path / "vgg.pth").write_bytes(
        files.torch_legacy(
            files.ordered(
                {f"lin{k}.model.1.weight": files.T(rng.random((1, c, 1, 1), np.float32)) for k, c in enumerate(WIDTHS)}
            )
        )
    )
    for name in ("smile.pt", "age.pt"):
        (tmp_path / name).write_bytes(files.torch_zip(files.T(rng.standard_normal((1, 16)).astype(np.float32))))
    # Of 64 px, where the encoder, which sees 256 px, has features of the same side.
    networks, _ = residuals(shape=StyleResConfig(resolution=64, channels=8, encoder_channels=24, tap=1, width=6))
    whole = styleres_checkpoint(networks, dialects.random_generator((8,) * 5, 16, 16, 2), num_ws=10)
    (tmp_path / "styleres_ffhq.pth").write_bytes(files.torch_zip(whole))
    return tmp_path


def answers() -> dict[str, bytes]:
    """The files of the page's addresses, by path."""
    facts = files.generator_facts(z_dim=16, c_dim=0, w_dim=16, img_resolution=16, img_channels=3)
    G = files.nvlabs(GENERATOR, "Generator", facts)
    D = files.nvlabs_discriminator(dialects.random_discriminator((8, 8, 8)))
    rng = np.random.default_rng(1)
    vgg = {
        name: files.T((rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32))
        for name, shape in BACKBONES["vgg16"].items()
    }
    known = {"ffhq.pkl": files.plain({"G": G, "D": D, "G_ema": G}), "vgg16-397923af.pth": files.torch_zip(vgg)}
    addresses = [word for words in COMMANDS for word in words if "://" in word]
    return {urlsplit(address).path: known[parsed(address).name] for address in addresses}


def test_the_page_has_its_commands():
    assert [words[1] for words in COMMANDS] == [
        "convert", "convert", "align", "invert", "refine", "edit", "convert", "encode", "edit",
    ]  # fmt: skip
    addresses = {word for words in COMMANDS for word in words if "://" in word}
    assert addresses <= {one.address for one in PUBLISHED}


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_commands(reader, monkeypatch, capsys):
    """In the page's order, from an official file to photographs with edited faces."""
    monkeypatch.chdir(reader)
    monkeypatch.setenv("XDG_CACHE_HOME", str(reader / "cache"))
    with served(Site(answers())) as site:
        for words in COMMANDS:
            local = [re.sub(r"^https://[^/]+", site.address, word) for word in words[1:]]
            status = cli.main([*local, *QUICK.get(words[1], [])])
            output = capsys.readouterr()
            assert status == cli.OK, f"{' '.join(words)}\n{output.out}\n{output.err}"
    photograph = np.asarray(Image.open(reader / "photos" / "astronaut.png"))
    for edits, names in (("runs/edits", ("smile", "age")), ("runs/one_pass_edits", ("smile",))):
        for name in names:
            folder = reader / edits / "pasted" / "astronaut" / name
            pictures = {path.stem: np.asarray(Image.open(path)) for path in folder.glob("*.png")}
            assert len(pictures) == 3 and all(one.shape == photograph.shape for one in pictures.values())
            for one in pictures.values():  # the face is another one, and the rest is the photograph
                changed = (one != photograph).any(-1)
                assert 0.02 < changed.mean() < 0.6 and not changed[-100:, -100:].any()
        assert (reader / edits / "report.html").is_file()
    records = [json.loads(path.read_text()) for path in reader.glob("cache/lsap_jax/downloads/*/*.json")]
    assert {record["address"].rpartition("/")[2] for record in records} == {"ffhq.pkl", "vgg16-397923af.pth"}
