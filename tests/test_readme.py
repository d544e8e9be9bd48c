"""Every command and every program of the README runs; only the number of steps is smaller."""

import re
import shlex
import subprocess
from pathlib import Path

import foreign_dialects as dialects
import foreign_files as files
import numpy as np
import pytest
from PIL import Image

from lsap_jax import cli

pytestmark = pytest.mark.usefixtures("quick_compilation", "quick_whitening")

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GENERATOR = ROOT / "lsap_jax" / "assets" / "toonhead64.safetensors"
STEPS = 2
needs_generator = pytest.mark.skipif(
    not GENERATOR.is_file(), reason="this checkout has no bundled generator (lsap_jax/assets)"
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def shortened(words: list[str]) -> list[str]:
    """The arguments of a command with few steps, or few edits."""
    if words[1] == "edit-quality":
        return [*words[1:], "--config.directions=smile", "--config.strengths=0,6"]
    if words[1] == "refine":
        return [*words[1:], f"--config.refine.steps={STEPS}"]
    if words[1] not in ("demo", "invert", "compare"):
        return words[1:]
    words = [w for i, w in enumerate(words) if w != "--steps" and words[i - 1] != "--steps"]
    # `evaluate` has a line of its own, and later lines have both spaces of the demo
    quick = {"compare": ["--config.evaluate=false"], "demo": ["--spaces=z+"]}.get(words[1], [])
    return [*words[1:], "--steps", str(STEPS), *quick]


@pytest.fixture
def folder(tmp_path) -> Path:
    """What a reader has: photographs, an official checkpoint, and a direction for it."""
    folder = tmp_path / "reader"
    folder.mkdir()
    (folder / "photos").mkdir()
    # A face, for --align. As many as a batch holds: fewer, and `compare` compiles for its smaller batch what `demo` has
    # compiled already.
    astronaut = Image.fromarray(pytest.importorskip("skimage").data.astronaut())
    for i in range(16):
        astronaut.crop((96 - i, 0, 352 - i, 256)).save(folder / "photos" / f"{i}.jpg")
    facts = files.generator_facts(z_dim=4, c_dim=0, w_dim=4, img_resolution=16, img_channels=3)
    G = files.nvlabs(dialects.random_generator((6, 5, 4)), "Generator", facts)
    D = files.nvlabs_discriminator(dialects.random_discriminator((6, 5, 4)))
    (folder / "ffhq.pkl").write_bytes(files.plain({"G": G, "D": D, "G_ema": G}))
    (folder / "smile.pt").write_bytes(files.torch_zip(files.T(np.eye(1, 4, dtype=np.float32))))
    return folder


def test_the_readme_has_commands():
    programs = {words[0] for words in commands()}
    assert programs == {"make", "lsap-jax"}, "give this test a way to run the others"
    assert {words[1] for words in commands() if words[0] == "lsap-jax"} >= {"convert", "invert", "demo", "verify"}


@pytest.mark.parametrize("target", sorted({words[1] for words in commands() if words[0] == "make"}))
def test_make_knows_its_targets(target):
    """Dry: `make test` cannot run inside itself, and CI runs it."""
    result = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert {"demo": "lsap-jax demo", "test": "-m pytest"}[target] in result.stdout


@pytest.mark.slow
def test_commands(folder, monkeypatch, capsys):
    """In the README's order, in one folder: later commands use what earlier ones wrote."""
    monkeypatch.chdir(folder)
    ran = 0
    for words in commands():
        bundled = {"toonhead64", "demo", "runs/z"} & set(words)
        if words[0] == "make" or bundled and not GENERATOR.is_file():
            continue
        status = cli.main(shortened(words))
        output = capsys.readouterr()
        assert status == cli.OK, f"{' '.join(words)}\n{output.out}\n{output.err}"
        ran += 1
    assert ran >= 3


@pytest.mark.slow
@needs_generator
@pytest.mark.parametrize("program", blocks("python"))
def test_programs(program):
    shorter, count = re.subn(r"steps=\d+", f"steps={STEPS}", program)
    assert count == 1
    names: dict = {}
    exec(compile(shorter, "README.md", "exec"), names)
    inverted, edited = names["inv"].images, names["edited"].images
    assert names["images"].shape == inverted.shape == (16, 64, 64, 3) and edited.shape == (3, 16, 64, 64, 3)
    np.testing.assert_array_equal(edited[1], inverted)
    assert np.abs(edited).max() <= 1 and np.abs(edited[2] - inverted).max() > 0.05


def test_links_and_files():
    """Files that the README names are there."""
    for name in re.findall(r"\]\(([^):]+)\)", README) + re.findall(r"`(configs/\w+\.py)`", README):
        assert (ROOT / name).exists(), name
